"""The objects in the drawn sequences, each as a list of parts at one moment."""

from __future__ import annotations

import dataclasses

import numpy as np
from drawing import Part, Point, Texture, plain, ringed, striped, wedged

DARK = (0.08, 0.08, 0.10)
WHITE = (0.96, 0.95, 0.92)
GLASS = (0.55, 0.75, 0.88)
SEGMENTS = 8  # Of the caterpillar.
EYE = ringed(0.55, DARK, WHITE)


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where an object is at one moment.

    Attributes:
        x, y: its center in pixels.
        angle: its heading; 0 points to the right.
        size: half its length in pixels.
        phase: of its own movement (wagging, flapping, rolling), in radians.
    """

    x: float
    y: float
    angle: float = 0.0
    size: float = 30.0
    phase: float = 0.0

    def place(self, forward: float, down: float) -> Point:
        """Returns the pixel position of a point given in sizes along and across the heading."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return (
            self.x + self.size * (forward * cosine - down * sine),
            self.y + self.size * (forward * sine + down * cosine),
        )

    def part(
        self, texture: Texture, center: Point, radii: Point, turn: float = 0.0, **shape
    ) -> Part:
        """Returns a part, placed and turned relative to the heading.

        Args:
            texture: of the part.
            center: in sizes along and across the heading.
            radii: in sizes.
            turn: angle from the heading.
            **shape: further attributes of `Part`.
        """
        radii = (radii[0] * self.size, radii[1] * self.size)
        return Part(texture, self.place(*center), radii, self.angle + turn, **shape)


def ball(pose: Pose, texture: Texture) -> list[Part]:
    """Returns a ball that rolls with the phase."""
    return [pose.part(texture, (0, 0), (1, 1), pose.phase, dome=0.7)]


def fish(pose: Pose, body: Texture, fins: Texture) -> list[Part]:
    """Returns a fish whose tail wags and whose body bends with the phase."""
    swing = np.sin(pose.phase)
    wag = 0.45 * swing
    fork = ((2, 0.15, 0.0), (1, -0.3, 0.0), (3, -0.22, 0.0))
    bend = ((1, 0.12, 0.0), (2, 0.05 * swing, 0.7))
    return [
        pose.part(fins, (-1.02, 0.25 * swing), (0.36, 0.34), wag, lobes=fork, dome=0.3),
        pose.part(fins, (0.0, -0.42), (0.32, 0.20), 0.3 * wag - 0.5, dome=0.3),
        pose.part(body, (0.0, 0.0), (0.8, 0.45), lobes=bend, dome=0.6),
        _disc(EYE, pose.place(0.5, -0.1), 0.09 * pose.size),
    ]


def car(pose: Pose, paint: Texture) -> list[Part]:
    """Returns a toy car seen from the side; its wheels turn and its body rocks with the phase."""
    lean = 0.04 * np.sin(pose.phase)
    spokes = wedged(6, (0.75, 0.75, 0.78), (0.35, 0.35, 0.40))
    parts = [
        pose.part(paint, (-0.1, -0.22), (0.6, 0.3), lean, squareness=3),
        pose.part(paint, (0, 0.1), (1, 0.3), lean, squareness=4, dome=0.4),
    ]
    for along in (-0.34, 0.15):
        parts.append(pose.part(plain(GLASS), (along, -0.24), (0.21, 0.17), squareness=3))
    for along in (-0.55, 0.55):
        hub = pose.place(along, 0.38)
        parts.append(_disc(plain(DARK), hub, 0.25 * pose.size, dome=0.2))
        parts.append(_disc(spokes, hub, 0.14 * pose.size, angle=pose.phase))
    return parts


def balloon(pose: Pose, texture: Texture, basket: Texture) -> list[Part]:
    """Returns a hot-air balloon that swings with the phase."""
    lobes = ((1, 0.1, -np.pi / 2), (3, 0.03 * np.sin(pose.phase), 0.0))
    return [
        pose.part(basket, (0, 0.75), (0.10, 0.22), squareness=4, dome=0.2),
        pose.part(texture, (0, -0.25), (0.8, 0.95), lobes=lobes),
        pose.part(basket, (0, 1.02), (0.22, 0.17), squareness=5, dome=0.2),
    ]


def butterfly(pose: Pose, wings: Texture) -> list[Part]:
    """Returns a butterfly seen from above; its wings open and close with the phase."""
    spread = 0.55 + 0.40 * np.cos(pose.phase)
    parts = []
    for side in (-1, 1):
        lobes = ((3, 0.10, 0.4 * side), (5, 0.05, 0.0))
        for along, reach, turn, scale in ((0.28, 0.50, 0.35, 1.0), (-0.32, 0.42, -0.45, 0.8)):
            center = (along, side * reach * spread)
            radii = (0.42 * scale, 0.62 * scale * spread)
            parts.append(pose.part(wings, center, radii, -side * turn, lobes=lobes, dome=0.3))
    trunk = pose.part(striped(0.3, DARK, (0.30, 0.22, 0.15)), (0, 0), (0.6, 0.1))
    return [*parts, trunk]


def caterpillar(pose: Pose, skin: Texture) -> list[Part]:
    """Returns a chain of round segments that creeps in a wave."""
    parts = []
    for index in range(SEGMENTS):
        along = 1 - 2 * index / (SEGMENTS - 1)
        wave = 0.22 * np.sin(pose.phase + 5 * along)
        radius = 0.25 - 0.08 * along**2 + (0.06 if index == 0 else 0)
        parts.append(pose.part(skin, (along, wave), (radius, radius), wave, dome=0.6))
    x, y = parts[0].center
    eye = _disc(EYE, (x + 0.08 * pose.size, y - 0.06 * pose.size), 0.07 * pose.size)
    return [*parts[::-1], eye]


def turtle(pose: Pose, shell: Texture, skin: Texture) -> list[Part]:
    """Returns a turtle seen from above; its legs row with the phase."""
    legs = []
    for along in (-0.45, 0.5):
        stroke = 0.8 + 0.5 * np.sin(pose.phase + along)
        for side in (-1, 1):
            legs.append(pose.part(skin, (along, 0.58 * side), (0.34, 0.17), side * stroke))
    return [
        *legs,
        pose.part(skin, (0.95, 0.06 * np.sin(pose.phase)), (0.26, 0.2)),
        pose.part(shell, (0, 0), (0.82, 0.62), lobes=((6, 0.03, 0.0),)),
        *(_disc(EYE, pose.place(1.05, side), 0.05 * pose.size) for side in (-0.1, 0.1)),
    ]


def walker(pose: Pose, shirt: Texture, trousers: Texture) -> list[Part]:
    """Returns a person seen from the side; arms and legs swing with the phase."""
    swing = 0.55 * np.sin(pose.phase)
    return [
        _limb(pose, (0, -0.5), 0.6, 0.10, swing, shirt),
        _limb(pose, (0, 0.15), 0.85, 0.15, -swing, trousers),
        _limb(pose, (0, 0.15), 0.85, 0.15, swing, trousers),
        pose.part(shirt, (0, -0.2), (0.27, 0.45), squareness=3, dome=0.4),
        pose.part(plain((0.85, 0.62, 0.48)), (0.03, -0.86), (0.2, 0.23)),
        pose.part(plain((0.25, 0.15, 0.08)), (-0.03, -0.97), (0.21, 0.14)),
        _limb(pose, (0, -0.5), 0.6, 0.10, -swing, shirt),
    ]


def _limb(
    pose: Pose, joint: Point, length: float, width: float, turn: float, texture: Texture
) -> Part:
    """Returns an arm or leg that hangs from `joint`, turned away from straight down."""
    middle = (joint[0] + 0.5 * length * np.sin(turn), joint[1] + 0.5 * length * np.cos(turn))
    return pose.part(texture, middle, (0.6 * width, 0.55 * length), -turn, squareness=3, dome=0.3)


def _disc(
    texture: Texture, center: Point, radius: float, angle: float = 0.0, dome: float = 0.0
) -> Part:
    """Returns a disc that does not turn with the heading: a wheel or an eye."""
    return Part(texture, center, (radius, radius), angle, dome=dome)

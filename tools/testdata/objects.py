"""The objects in the drawn sequences, each as a list of parts at one moment."""

from __future__ import annotations

import dataclasses

import numpy as np
from drawing import Part, Texture, plain, ringed, striped, wedged

DARK = (0.08, 0.08, 0.10)
WHITE = (0.96, 0.95, 0.92)
GLASS = (0.55, 0.75, 0.88)


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

    def place(self, forward: float, down: float) -> tuple[float, float]:
        """Returns the pixel position of a point given in sizes along and across the heading."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return (
            self.x + self.size * (forward * cosine - down * sine),
            self.y + self.size * (forward * sine + down * cosine),
        )


def ball(pose: Pose, texture: Texture) -> list[Part]:
    """Returns a ball that rolls with the phase."""
    return [Part(texture, (pose.x, pose.y), (pose.size, pose.size), angle=pose.phase, dome=0.7)]


def fish(pose: Pose, body: Texture, fins: Texture) -> list[Part]:
    """Returns a fish whose tail wags and whose body bends with the phase."""
    wag = 0.45 * np.sin(pose.phase)
    size, angle = pose.size, pose.angle
    tail = Part(
        fins,
        pose.place(-1.02, 0.25 * np.sin(pose.phase)),
        (0.36 * size, 0.34 * size),
        angle=angle + wag,
        lobes=((2, 0.15, 0.0), (1, -0.3, 0.0), (3, -0.22, 0.0)),
        dome=0.3,
    )
    fin = Part(
        fins,
        pose.place(0.0, -0.42),
        (0.32 * size, 0.20 * size),
        angle=angle - 0.5 + 0.3 * wag,
        dome=0.3,
    )
    bend = ((1, 0.12, 0.0), (2, 0.05 * np.sin(pose.phase), 0.7))
    torso = Part(
        body, pose.place(0.0, 0.0), (0.8 * size, 0.45 * size), angle=angle, lobes=bend, dome=0.6
    )
    return [tail, fin, torso, *_eye(pose.place(0.5, -0.1), 0.09 * size)]


def car(pose: Pose, paint: Texture) -> list[Part]:
    """Returns a toy car seen from the side; its wheels turn and its body rocks with the phase."""
    size = pose.size
    lean = 0.04 * np.sin(pose.phase)
    wheel = wedged(6, (0.75, 0.75, 0.78), (0.35, 0.35, 0.40))
    body = Part(
        paint, pose.place(0, 0.1), (size, 0.3 * size), pose.angle + lean, squareness=4, dome=0.4
    )
    cabin = Part(
        paint, pose.place(-0.1, -0.22), (0.6 * size, 0.3 * size), pose.angle + lean, squareness=3
    )
    panes = [
        Part(plain(GLASS), pose.place(along, -0.24), (0.21 * size, 0.17 * size), pose.angle, 3)
        for along in (-0.34, 0.15)
    ]
    wheels = [
        part
        for along in (-0.55, 0.55)
        for part in (
            Part(plain(DARK), pose.place(along, 0.38), (0.25 * size, 0.25 * size), dome=0.2),
            Part(wheel, pose.place(along, 0.38), (0.14 * size, 0.14 * size), pose.phase, dome=0),
        )
    ]
    return [cabin, body, *panes, *wheels]


def balloon(pose: Pose, texture: Texture, basket: Texture) -> list[Part]:
    """Returns a hot-air balloon that swings with the phase."""
    size = pose.size
    lobes = ((1, 0.1, -np.pi / 2), (3, 0.03 * np.sin(pose.phase), 0.0))
    envelope = Part(
        texture, pose.place(0, -0.25), (0.8 * size, size * 0.95), pose.angle, lobes=lobes
    )
    crate = Part(
        basket, pose.place(0, 1.02), (0.22 * size, 0.17 * size), pose.angle, squareness=5, dome=0.2
    )
    neck = Part(
        basket, pose.place(0, 0.75), (0.10 * size, 0.22 * size), pose.angle, squareness=4, dome=0.2
    )
    return [neck, envelope, crate]


def butterfly(pose: Pose, wings: Texture) -> list[Part]:
    """Returns a butterfly seen from above; its wings open and close with the phase."""
    size = pose.size
    spread = 0.55 + 0.40 * np.cos(pose.phase)
    parts = []
    for side in (-1, 1):
        for along, reach, turn, scale in ((0.28, 0.50, 0.35, 1.0), (-0.32, 0.42, -0.45, 0.8)):
            parts.append(
                Part(
                    wings,
                    pose.place(along, side * reach * spread),
                    (0.42 * scale * size, 0.62 * scale * spread * size),
                    pose.angle - side * turn,
                    lobes=((3, 0.10, 0.4 * side), (5, 0.05, 0.0)),
                    dome=0.3,
                )
            )
    trunk = Part(striped(0.3, DARK, (0.30, 0.22, 0.15)), pose.place(0, 0), (0.6 * size, 0.1 * size))
    return [*parts, dataclasses.replace(trunk, angle=pose.angle)]


def caterpillar(pose: Pose, skin: Texture, segments: int = 8) -> list[Part]:
    """Returns a chain of round segments that creeps in a wave."""
    size = pose.size
    parts = []
    for index in range(segments):
        along = 1 - 2 * index / (segments - 1)
        wave = 0.22 * np.sin(pose.phase + 5 * along)
        radius = size * (0.25 - 0.08 * along**2 + (0.06 if index == 0 else 0))
        parts.append(
            Part(skin, pose.place(along, wave), (radius, radius), pose.angle + wave, dome=0.6)
        )
    head = parts[0].center
    return [*parts[::-1], *_eye((head[0] + 0.08 * size, head[1] - 0.06 * size), 0.07 * size)]


def turtle(pose: Pose, shell: Texture, skin: Texture) -> list[Part]:
    """Returns a turtle seen from above; its legs row with the phase."""
    size = pose.size
    legs = [
        Part(
            skin,
            pose.place(along, 0.58 * side),
            (0.34 * size, 0.17 * size),
            pose.angle + side * (0.8 + 0.5 * np.sin(pose.phase + along)),
        )
        for along in (-0.45, 0.5)
        for side in (-1, 1)
    ]
    head = Part(
        skin, pose.place(0.95, 0.06 * np.sin(pose.phase)), (0.26 * size, 0.2 * size), pose.angle
    )
    back = Part(
        shell, pose.place(0, 0), (0.82 * size, 0.62 * size), pose.angle, lobes=((6, 0.03, 0.0),)
    )
    eyes = [part for side in (-0.1, 0.1) for part in _eye(pose.place(1.05, side), 0.05 * size)]
    return [*legs, head, back, *eyes]


def walker(pose: Pose, shirt: Texture, trousers: Texture) -> list[Part]:
    """Returns a person seen from the side; arms and legs swing with the phase."""
    size, skin = pose.size, plain((0.85, 0.62, 0.48))
    swing = 0.55 * np.sin(pose.phase)
    legs = [_limb(pose, (0, 0.15), 0.85, 0.15, turn, trousers) for turn in (-swing, swing)]
    arms = [_limb(pose, (0, -0.5), 0.6, 0.10, turn, shirt) for turn in (swing, -swing)]
    body = Part(
        shirt, pose.place(0, -0.2), (0.27 * size, 0.45 * size), pose.angle, squareness=3, dome=0.4
    )
    head = Part(skin, pose.place(0.03, -0.86), (0.2 * size, 0.23 * size), pose.angle)
    hair = Part(
        plain((0.25, 0.15, 0.08)), pose.place(-0.03, -0.97), (0.21 * size, 0.14 * size), pose.angle
    )
    return [arms[0], legs[0], legs[1], body, head, hair, arms[1]]


def _limb(
    pose: Pose,
    joint: tuple[float, float],
    length: float,
    width: float,
    turn: float,
    texture: Texture,
) -> Part:
    """Returns an arm or leg that hangs from `joint`, turned away from straight down."""
    middle = (joint[0] + 0.5 * length * np.sin(turn), joint[1] + 0.5 * length * np.cos(turn))
    radii = (0.6 * width * pose.size, 0.55 * length * pose.size)
    return Part(texture, pose.place(*middle), radii, pose.angle - turn, squareness=3, dome=0.3)


def _eye(center: tuple[float, float], radius: float) -> list[Part]:
    rings = ringed(0.55, DARK, WHITE)
    return [Part(rings, center, (radius, radius), dome=0.0)]

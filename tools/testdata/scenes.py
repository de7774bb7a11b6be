"""The nine drawn sequences: what moves where, each object as a list of parts at one moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from drawing import (
    Background,
    Part,
    Point,
    Texture,
    checked,
    clouded,
    dotted,
    plain,
    ringed,
    rotate,
    roughened,
    striped,
    wedged,
)

RED, ORANGE, YELLOW = (0.85, 0.16, 0.14), (0.95, 0.50, 0.10), (0.97, 0.83, 0.20)
GREEN, TEAL, BLUE = (0.20, 0.60, 0.25), (0.10, 0.60, 0.60), (0.15, 0.30, 0.75)
PURPLE, PINK, BROWN = (0.48, 0.22, 0.62), (0.95, 0.55, 0.65), (0.42, 0.26, 0.14)
CREAM, WHITE, DARK = (0.94, 0.90, 0.78), (0.96, 0.95, 0.92), (0.10, 0.10, 0.12)
BLACK, GLASS = (0.08, 0.08, 0.10), (0.55, 0.75, 0.88)
EYE = ringed(0.55, BLACK, WHITE)
SEGMENTS = 8  # Of the caterpillar.

WATER = clouded(1, 28, (0.06, 0.26, 0.38), (0.14, 0.44, 0.54), (0.38, 0.68, 0.70))
DEEP_WATER = clouded(2, 20, (0.04, 0.20, 0.22), (0.12, 0.36, 0.32), (0.34, 0.52, 0.38))
SAND = clouded(3, 9, (0.66, 0.54, 0.36), (0.80, 0.69, 0.48), (0.90, 0.82, 0.64))
MEADOW = clouded(4, 11, (0.16, 0.30, 0.10), (0.34, 0.50, 0.18), (0.58, 0.68, 0.30))
SKY = clouded(5, 60, (0.34, 0.56, 0.84), (0.55, 0.74, 0.92), (0.96, 0.96, 0.97))
LEAF = clouded(6, 24, (0.10, 0.24, 0.12), (0.20, 0.42, 0.16), (0.40, 0.56, 0.22))
PARQUET = roughened(
    striped(18, (0.60, 0.40, 0.22), (0.66, 0.46, 0.27), (0.54, 0.35, 0.19), tilt=0.5), 7, 6, 0.25
)
PAVING = roughened(checked(30, (0.52, 0.50, 0.48), (0.60, 0.58, 0.55)), 8, 5, 0.30)
TILES = roughened(dotted(26, (0.70, 0.66, 0.58), (0.50, 0.56, 0.60)), 9, 7, 0.30)


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
        x, y = rotate(forward, down, -self.angle)
        return self.x + self.size * x, self.y + self.size * y

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
        parts.append(_disc(plain(BLACK), hub, 0.25 * pose.size, dome=0.2))
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
    trunk = pose.part(striped(0.3, BLACK, (0.30, 0.22, 0.15)), (0, 0), (0.6, 0.1))
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


@dataclasses.dataclass(frozen=True)
class Scene:
    """One sequence.

    Attributes:
        name: folder name.
        split: `train` or `val`.
        frames: length of the sequence.
        background: the scene behind the objects.
        objects: time 0..1 -> the parts of object 1, 2, ...; later objects are in front.
    """

    name: str
    split: str
    frames: int
    background: Background
    objects: Callable[[float], list[list[Part]]]


def _two_fish(time: float) -> list[list[Part]]:
    """Two fish swim toward and past each other."""
    orange = Pose(50 + 130 * time, 95 - 22 * np.sin(3 * time), 0.15 - 0.3 * time, 38, 14 * time)
    striped_one = Pose(190 - 125 * time, 62 + 30 * time, np.pi + 0.1, 32, 2 + 16 * time)
    return [
        fish(striped_one, striped(0.25, PURPLE, YELLOW), plain(PURPLE)),
        fish(orange, roughened(plain(ORANGE), 11, 0.3, 0.5), plain(RED)),
    ]


def _beach_ball(time: float) -> list[list[Part]]:
    """A ball bounces across the sand."""
    bounce = abs(np.cos(1.5 * np.pi * time))
    rolling = Pose(60 + 115 * time, 108 - 40 * bounce, size=30, phase=6 * time)
    return [ball(rolling, wedged(8, RED, WHITE, BLUE, WHITE))]


def _toy_cars(time: float) -> list[list[Part]]:
    """Two toy cars drive past each other, one behind the other for a while."""
    near = Pose(62 + 105 * time, 108, 0.0, 44, 12 * time)
    far = Pose(180 - 125 * time, 76, 0.04, 38, -14 * time)
    return [
        car(far, checked(0.22, BLUE, TEAL)),
        car(near, roughened(striped(0.8, RED, RED, CREAM, tilt=1.57), 12, 0.4, 0.3)),
    ]


def _balloons(time: float) -> list[list[Part]]:
    """Three balloons drift, swing and cover each other."""
    first = Pose(60 + 60 * time, 80 - 14 * time, 0.10 * np.sin(7 * time), 36, 5 * time)
    second = Pose(128 - 10 * time, 70 + 18 * time, -0.12 * np.sin(6 * time), 30, 6 * time)
    third = Pose(196 - 50 * time, 78 - 10 * time, 0.12 * np.sin(5 * time + 1), 34, 7 * time)
    return [
        balloon(second, checked(0.34, GREEN, CREAM), plain(BROWN)),
        balloon(first, striped(0.3, RED, YELLOW), plain(BROWN)),
        balloon(third, striped(0.34, PURPLE, PINK, WHITE, tilt=1.57), plain(DARK)),
    ]


def _butterfly(time: float) -> list[list[Part]]:
    """A butterfly flaps over a meadow."""
    angle = -0.5 + 0.9 * np.sin(4 * time)
    pose = Pose(70 + 100 * time, 100 - 55 * np.sin(np.pi * time), angle, 48, 18 * time)
    return [butterfly(pose, dotted(0.5, ORANGE, DARK))]


def _promenade(time: float) -> list[list[Part]]:
    """Two people walk past each other."""
    one = Pose(52 + 130 * time, 92, 0.02 * np.sin(20 * time), 54, 15 * time)
    other = Pose(190 - 120 * time, 78, 0.02 * np.sin(18 * time), 46, 1 + 14 * time)
    return [
        walker(other, dotted(0.5, TEAL, YELLOW), plain(DARK)),
        walker(one, checked(0.5, RED, PINK), roughened(plain(BLUE), 16, 0.3, 0.4)),
    ]


def _koi(time: float) -> list[list[Part]]:
    """Two koi and a turtle: the fish cross under and over it."""
    white = Pose(55 + 120 * time, 50 + 45 * time, 0.35, 34, 15 * time)
    gold = Pose(185 - 115 * time, 118 - 60 * time, np.pi + 0.45, 32, 1 + 13 * time)
    slow = Pose(120 + 18 * time, 84 - 8 * time, -0.5 + 0.3 * time, 33, 9 * time)
    return [
        fish(gold, dotted(0.35, YELLOW, BROWN), plain(YELLOW)),
        turtle(slow, ringed(0.22, BROWN, GREEN), plain((0.45, 0.55, 0.25))),
        fish(white, clouded(13, 0.5, WHITE, WHITE, RED, RED), plain(WHITE)),
    ]


def _playground(time: float) -> list[list[Part]]:
    """A child walks in front of a ball, and a toy car leaves the frame."""
    child = Pose(165 - 85 * time, 86, 0.0, 50, 13 * time)
    rolling = Pose(62 + 62 * time, 122 - 5 * time, size=22, phase=5 * time)
    leaving = Pose(188 + 150 * time**1.3, 120, -0.03, 34, 20 * time)
    return [
        ball(rolling, wedged(6, YELLOW, GREEN, PURPLE)),
        car(leaving, roughened(plain(GREEN), 14, 0.3, 0.4)),
        walker(child, striped(0.35, BLUE, WHITE, tilt=1.57), roughened(plain(BROWN), 15, 0.4, 0.3)),
    ]


def _caterpillar(time: float) -> list[list[Part]]:
    """A caterpillar creeps over a leaf while the camera follows."""
    pose = Pose(105 + 35 * time, 84 - 10 * time, -0.25 - 0.3 * time, 68, 10 * time)
    return [caterpillar(pose, dotted(0.7, YELLOW, PURPLE))]


SCENES = (
    Scene("balloons", "train", 24, Background(SKY, pan=(30, 6)), _balloons),
    Scene("beach-ball", "train", 22, Background(SAND, pan=(24, 0)), _beach_ball),
    Scene("butterfly", "train", 22, Background(MEADOW, pan=(10, -12), zoom=1.1), _butterfly),
    Scene("promenade", "train", 24, Background(TILES, pan=(12, 4)), _promenade),
    Scene("toy-cars", "train", 24, Background(PARQUET, pan=(-14, 0)), _toy_cars),
    Scene("two-fish", "train", 24, Background(WATER, pan=(18, 10)), _two_fish),
    Scene("caterpillar", "val", 20, Background(LEAF, pan=(28, -8), zoom=1.08), _caterpillar),
    Scene("koi-pond", "val", 24, Background(DEEP_WATER, pan=(-16, 6)), _koi),
    Scene("playground", "val", 24, Background(PAVING, pan=(20, 0)), _playground),
)

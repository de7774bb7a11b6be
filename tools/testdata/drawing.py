"""Draws images with exact masks: textured, deforming parts over a moving background.

Everything is a function of continuous coordinates, drawn on a grid twice as fine as the image and
averaged down, so that edges and textures are antialiased. Coordinates are pixels of the image, x to
the right and y down; angles are in radians; `time` runs from 0 to 1 over a sequence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

HEIGHT = 160
WIDTH = 240
OVERSAMPLING = 2
NOISE_SIZE = 64

Point = tuple[float, float]
Color = tuple[float, float, float]
Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Part:
    """One closed, textured shape at one moment.

    Attributes:
        texture: maps coordinates inside the part (about -1 to 1) to RGB 0..1 `[height, width, 3]`.
        center: x and y in pixels.
        radii: half width and half height in pixels.
        angle: rotation.
        squareness: 2 is an ellipse; larger values approach a rectangle.
        lobes: (count, amplitude, phase) of waves added to the outline.
        dome: how strongly the part is shaded as if round, 0..1.
    """

    texture: Texture
    center: Point
    radii: Point
    angle: float = 0.0
    squareness: float = 2.0
    lobes: tuple[tuple[int, float, float], ...] = ()
    dome: float = 0.5


@dataclasses.dataclass(frozen=True)
class Background:
    """The scene behind the objects, and how the camera moves over it.

    Attributes:
        texture: maps scene coordinates in pixels to RGB 0..1.
        pan: how far the camera moves over the whole sequence, x and y in pixels.
        zoom: scale of the scene at the end, 1 at the start.
    """

    texture: Texture
    pan: Point = (0.0, 0.0)
    zoom: float = 1.0


def draw(
    background: Background, objects: list[list[Part]], time: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image and the object ids at `time`.

    Args:
        background: the scene.
        objects: parts of object 1, 2, ...; later objects cover earlier ones.
        time: 0..1.

    Returns:
        RGB uint8 `[HEIGHT, WIDTH, 3]` and ids uint8 `[HEIGHT, WIDTH]`; a pixel belongs to the
        object (or background) that covers the largest share of it.
    """
    # Of every sample of the fine grid.
    x, y = np.meshgrid(
        *((np.arange(OVERSAMPLING * size) + 0.5) / OVERSAMPLING for size in (WIDTH, HEIGHT))
    )
    image = _draw_background(background, x, y, time)
    coverage = np.zeros((len(objects) + 1, *x.shape), np.float32)
    coverage[0] = 1.0
    for index, parts in enumerate(objects, start=1):
        for part in parts:
            box = _box(part)
            image[box] *= 1.0 - 0.35 * _shadow(part, x[box], y[box])[..., None]
        for part in parts:
            box = _box(part)
            alpha, colors = _draw_part(part, x[box], y[box])
            image[box] += alpha[..., None] * (colors - image[box])
            coverage[:, box[0], box[1]] *= 1.0 - alpha
            coverage[index, box[0], box[1]] += alpha
    picture = np.rint(255 * np.clip(_average_down(image), 0, 1)).astype(np.uint8)
    shares = np.stack([_average_down(layer) for layer in coverage])
    return picture, np.argmax(shares, axis=0).astype(np.uint8)


def noise(seed: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns a function of smooth noise 0..1; features are about one unit wide.

    It depends only on the seed: NumPy's legacy generator is frozen.
    """
    lattice = np.random.RandomState(seed).rand(NOISE_SIZE, NOISE_SIZE)

    def value(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        column, row = np.floor(x).astype(int), np.floor(y).astype(int)
        right, down = (share * share * (3 - 2 * share) for share in (x - column, y - row))

        def at(below: int, beside: int) -> np.ndarray:
            return lattice[np.mod(row + below, NOISE_SIZE), np.mod(column + beside, NOISE_SIZE)]

        top = _blend(at(0, 0), at(0, 1), right)
        return _blend(top, _blend(at(1, 0), at(1, 1), right), down)

    return value


def clouded(seed: int, size: float, *colors: Color) -> Texture:
    """Returns three octaves of noise, `size` units wide, mapped to a color ramp."""
    value = noise(seed)

    def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # Each octave has its own angle: a common one would show the lattice.
        octaves = ((1.0, 1, 0.4), (0.5, 2.2, 1.3), (0.35, 5.1, 2.1))
        mixed = sum(
            weight * value(*rotate(x * scale / size, y * scale / size, tilt))
            for weight, scale, tilt in octaves
        )
        place = np.clip((mixed / 1.85 - 0.2) / 0.6, 0, 1) * (len(colors) - 1)
        stops = range(len(colors))
        return np.stack([np.interp(place, stops, channel) for channel in zip(*colors)], -1)

    return texture


def plain(color: Color) -> Texture:
    """Returns a texture of a single color."""
    return _picked((color,), lambda x, y: np.zeros_like(x))


def striped(width: float, *colors: Color, tilt: float = 0.0) -> Texture:
    """Returns stripes across x, each `width` units wide, rotated by `tilt`."""
    return _picked(colors, lambda x, y: (x * np.cos(tilt) + y * np.sin(tilt)) / width)


def checked(width: float, *colors: Color) -> Texture:
    """Returns a checkered pattern with fields of `width` units."""
    return _picked(colors, lambda x, y: np.floor(x / width) + np.floor(y / width))


def dotted(spacing: float, ground: Color, dot: Color) -> Texture:
    """Returns round dots on a staggered grid of `spacing` units."""

    def is_dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        row = np.floor(y / spacing)
        u = np.mod(x / spacing + 0.5 * np.mod(row, 2), 1) - 0.5
        v = np.mod(y / spacing, 1) - 0.5
        return (u * u + v * v < 0.09).astype(int)

    return _picked((ground, dot), is_dot)


def wedged(count: int, *colors: Color) -> Texture:
    """Returns `count` wedges around the center, like a beach ball's."""
    return _picked(colors, lambda x, y: (np.arctan2(y, x) / (2 * np.pi) + 0.5) * count)


def ringed(width: float, *colors: Color) -> Texture:
    """Returns rings around the center, each `width` units wide."""
    return _picked(colors, lambda x, y: np.hypot(x, y) / width)


def _picked(colors: tuple[Color, ...], index: Callable) -> Texture:
    """Returns a texture of color number `index(x, y)`, rounded down, of the colors in turn."""
    table = np.asarray(colors, float)
    return lambda x, y: table[np.mod(np.floor(index(x, y)).astype(int), len(table))]


def roughened(texture: Texture, seed: int, size: float, amount: float) -> Texture:
    """Returns `texture` lightened and darkened by noise with features of `size` units."""
    value = noise(seed)

    def rough(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        grain = value(x / size, y / size) + value(2.3 * x / size, 2.3 * y / size) - 1.0
        return texture(x, y) * (1.0 + amount * grain[..., None])

    return rough


def _box(part: Part) -> tuple[slice, slice]:
    """Returns the rows and columns of the fine grid that a part and its shadow can touch."""
    waves = sum(abs(amplitude) for _, amplitude, _ in part.lobes)
    reach = 1.25 * np.hypot(*part.radii) * (1 + waves) + 8

    def span(center: float, size: int) -> slice:
        edges = OVERSAMPLING * np.array([center - reach, center + reach])
        return slice(*np.clip(edges, 0, OVERSAMPLING * size).astype(int))

    return span(part.center[1], HEIGHT), span(part.center[0], WIDTH)


def _average_down(fine: np.ndarray) -> np.ndarray:
    return cv2.resize(fine.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def _draw_background(
    background: Background, x: np.ndarray, y: np.ndarray, time: float
) -> np.ndarray:
    """Returns the scene as the camera sees it, slightly darkened toward the corners."""
    zoom = background.zoom**time
    scene_x = (x - WIDTH / 2) / zoom + background.pan[0] * time
    scene_y = (y - HEIGHT / 2) / zoom + background.pan[1] * time
    distance = np.hypot(x / WIDTH - 0.5, y / HEIGHT - 0.5)
    return background.texture(scene_x, scene_y) * (1.05 - 0.45 * distance**2)[..., None]


def _part_coordinates(
    part: Part, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the coordinates inside the part, and the extent: below 1 inside, 1 on the outline."""
    dx, dy = x - part.center[0], y - part.center[1]
    along, across = rotate(dx, dy, part.angle)
    u, v = along / part.radii[0], across / part.radii[1]
    outline = np.ones_like(u)
    theta = np.arctan2(v, u)
    for count, amplitude, phase in part.lobes:
        outline += amplitude * np.cos(count * theta + phase)
    u, v = u / outline, v / outline
    extent = (np.abs(u) ** part.squareness + np.abs(v) ** part.squareness) ** (1 / part.squareness)
    return u, v, extent


def _draw_part(part: Part, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns coverage 0..1 and the shaded RGB colors of a part on the fine grid."""
    u, v, extent = _part_coordinates(part, x, y)
    softness = OVERSAMPLING * min(part.radii)
    alpha = np.clip((1.0 - extent) * softness + 0.5, 0, 1)
    light = 1.0 - part.dome * 0.6 * np.clip(extent, 0, 1) ** 3
    glint = part.dome * 0.35 * np.exp(-((u + 0.35) ** 2 + (v + 0.4) ** 2) / 0.08)
    return alpha, np.clip(part.texture(u, v) * light[..., None] + glint[..., None], 0, 1)


def _shadow(part: Part, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the soft shadow 0..1 that a part casts slightly to the right and down."""
    _, _, extent = _part_coordinates(part, x - 4, y - 5)
    return np.clip((1.15 - extent) / 0.3, 0, 1)


def rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coordinates along axes rotated by `angle`."""
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + (second - first) * share

"""Moves pictures, and objects cut out of them: a path of views, and the pixels each view shows.

A `View` places a point of a picture in a frame, scaled and rotated, with small smooth deformations
on top. Sampling is backward: every pixel of the frame looks up the point of the picture it shows.
Image and mask are sampled at the same points, so they move together.

Pre-training on stills with random affine motion follows successors of the paper (STM, Oh et al.,
ICCV 2019, section 4.1). Neither the paper nor its release does it.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np

from feelvos_tf.media import masks

# Objects with fewer pixels in their picture are not worth cutting out.
MIN_PIXELS = 150
_MARGIN = 2
_BEND_POINTS = 4
# Translation per frame in pixels: slow, ordinary, fast; and how often each is drawn.
_SPEEDS = (1.5, 7.0, 18.0)
_SPEED_SHARES = (0.3, 0.5, 0.2)
MAX_SPEED = 44.0
"""Pixels per frame and direction. The window radius of local matching is 15 at stride 4: 60."""


@dataclasses.dataclass(frozen=True)
class View:
    """Where a picture lies in a frame.

    Attributes:
      anchor: (x, y), the fixed point of scaling and rotation, in pixels of the picture.
      position: (x, y) of that point in the frame, in pixels of the frame.
      scale: pixels of the frame per pixel of the picture.
      rotation: radians.
      shear: horizontal shift per pixel of height.
      stretch: factor on the width alone.
      bend: (x, y) displacements of a coarse grid in pixels of the frame, interpolated smoothly in
        between, float32 [points, points, 2].
    """

    anchor: tuple[float, float]
    position: np.ndarray
    scale: float
    rotation: float = 0.0
    shear: float = 0.0
    stretch: float = 1.0
    bend: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros([_BEND_POINTS, _BEND_POINTS, 2], np.float32)
    )


@dataclasses.dataclass(frozen=True)
class Velocity:
    """The change of a view from one frame to the next; fields as in `View`."""

    position: np.ndarray
    log_scale: float
    rotation: float
    shear: float
    bend: np.ndarray


def draw_velocity(rng: np.random.Generator, strength: float = 1.0) -> Velocity:
    """Returns a random change per frame, small enough for the local matching window."""
    speed = rng.choice(_SPEEDS, p=_SPEED_SHARES) * strength
    calm = min(1.0, speed / _SPEEDS[1])
    return Velocity(
        position=np.clip(rng.normal(0.0, speed, 2), -MAX_SPEED, MAX_SPEED),
        log_scale=calm * rng.normal(0.0, 0.035),
        rotation=calm * rng.normal(0.0, 0.06),
        shear=calm * rng.normal(0.0, 0.03),
        bend=_draw_bend(rng, 1.5 * calm),
    )


def moved(view: View, velocity: Velocity, frames: float = 1.0) -> View:
    """Returns the view `frames` frames later."""
    return dataclasses.replace(
        view,
        position=view.position + frames * velocity.position,
        scale=float(view.scale * np.exp(frames * velocity.log_scale)),
        rotation=view.rotation + frames * velocity.rotation,
        shear=view.shear + frames * velocity.shear,
        bend=view.bend + np.float32(frames) * velocity.bend,
    )


def differing(view: View, rng: np.random.Generator, strength: float = 1.0) -> View:
    """Returns the view at a distant time, with another position, scale, rotation and shape."""
    return dataclasses.replace(
        view,
        position=view.position + rng.normal(0.0, 30.0 * strength, 2),
        scale=float(view.scale * np.exp(strength * rng.uniform(-0.4, 0.4))),
        rotation=view.rotation + strength * rng.normal(0.0, 0.2),
        shear=view.shear + strength * rng.normal(0.0, 0.1),
        stretch=float(view.stretch * np.exp(strength * rng.normal(0.0, 0.08))),
        bend=view.bend + _draw_bend(rng, 4.0 * strength),
    )


def path(view: View, rng: np.random.Generator, frames: int, strength: float = 1.0) -> list[View]:
    """Returns the views of a clip: the reference, then `frames - 1` successive ones.

    Args:
      view: of the previous frame, the first one after the reference.
      rng: the only source of randomness.
      frames: 2 or more.
      strength: factor on all motion.
    """
    velocity = draw_velocity(rng, strength)
    views = [differing(view, rng, strength), view]
    while len(views) < frames:
        views.append(moved(views[-1], velocity, rng.uniform(0.6, 1.2)))
    return views


def sampling_grid(view: View, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the point of the picture that each pixel of the frame shows.

    Args:
      view: where the picture is in the frame.
      size: (height, width) of the frame.

    Returns:
      x and y, float32 [height, width], in pixels of the picture; they may lie outside it.
    """
    height, width = size
    cosine, sine = np.cos(view.rotation), np.sin(view.rotation)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    shape = np.array([[view.stretch, view.shear], [0.0, 1.0]])
    (a, b), (c, d) = view.scale * turn @ shape
    # By hand: np.linalg.inv would start all BLAS threads for a 2x2 matrix.
    inverse = (np.array([[d, -b], [-c, a]]) / (a * d - b * c)).astype(np.float32)
    bend = cv2.resize(view.bend, (width, height), interpolation=cv2.INTER_CUBIC)
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(view.position[0]) - bend[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(view.position[1]) - bend[..., 1]
    return (
        inverse[0, 0] * x + inverse[0, 1] * y + np.float32(view.anchor[0]),
        inverse[1, 0] * x + inverse[1, 1] * y + np.float32(view.anchor[1]),
    )


def sample_picture(
    image: np.ndarray, ids: np.ndarray, view: View, size: tuple[int, int], outside: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a picture and its mask as seen in a frame.

    Args:
      image: uint8 [h, w, 3].
      ids: uint8 [h, w].
      view: where the picture is in the frame.
      size: (height, width) of the frame.
      outside: id beyond the picture's border, where the image is mirrored.

    Returns:
      image: uint8 [height, width, 3], bilinear.
      ids: uint8 [height, width], nearest.
    """
    grid = sampling_grid(view, size)
    sampled = cv2.remap(image, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.remap(
        ids, *grid, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
    )
    return sampled, labels


class Cutout(NamedTuple):
    """An object without its background.

    Attributes:
      pixels: uint8 [h, w, 4], RGB and opacity (255 inside the object).
      center: (x, y) center of mass, in pixels of the cutout.
      extent: square root of the area of the object's bounding box, in pixels.
    """

    pixels: np.ndarray
    center: tuple[float, float]
    extent: float


def cut(image: np.ndarray, inside: np.ndarray) -> Cutout:
    """Returns the part of uint8 [h, w, 3] where `inside` (bool [h, w], not all False) is True."""
    top, bottom, left, right = masks.bounds(inside)
    extent = float(np.sqrt((bottom - top) * (right - left)))
    window = masks.around(inside, _MARGIN)
    # A pixel of blur hides jagged outlines that were drawn at another resolution.
    opacity = cv2.GaussianBlur(inside[window].astype(np.uint8) * 255, (3, 3), 0)
    pixels = np.dstack([image[window], opacity])
    y, x = (float(np.mean(p)) for p in np.nonzero(inside[window]))
    return Cutout(pixels, (x, y), extent)


def mirrored(cutout: Cutout) -> Cutout:
    """Returns the object mirrored left to right."""
    width = cutout.pixels.shape[1]
    x, y = cutout.center
    return Cutout(np.ascontiguousarray(cutout.pixels[:, ::-1]), (width - 1 - x, y), cutout.extent)


def fill(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Returns `image` (uint8 [h, w, 3]) with the pixels `inside` (bool [h, w]) filled in.

    Each becomes the mean of known pixels around it, from blurs of growing width until one reaches
    a known pixel. Cheap, and smooth enough for holes that are mostly covered again.
    """
    hidden = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    known = (~hidden).astype(np.float32)
    if not hidden.any() or not known.any():
        return image.copy()
    result = image.astype(np.float32)
    colors, missing = result * known[..., None], hidden
    for factor in (4, 8, 16, 32, 64, 128):
        small = (max(image.shape[1] // factor, 1), max(image.shape[0] // factor, 1))
        weight = cv2.resize(known, small, interpolation=cv2.INTER_AREA)
        color = cv2.resize(colors, small, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(cv2.blur(weight, (3, 3)), image.shape[1::-1])
        color = cv2.resize(cv2.blur(color, (3, 3)), image.shape[1::-1])
        reached = missing & (weight > 0.05)
        result[reached] = color[reached] / weight[reached][:, None]
        missing = missing & ~reached
        if not missing.any():
            break
    result[missing] = image[~hidden].mean(0)
    return np.clip(result, 0, 255).astype(np.uint8)


def paste(
    image: np.ndarray, labels: np.ndarray, cutout: Cutout, view: View, label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the frame and labels with the object pasted in front of everything else.

    Args:
      image: uint8 [height, width, 3].
      labels: uint8 [height, width].
      cutout: the object.
      view: where it is in the frame.
      label: given to pixels that are at least half object.
    """
    grid = sampling_grid(view, labels.shape)
    pixels = cv2.remap(
        cutout.pixels, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    image, labels = image.copy(), labels.copy()
    x, y, width, height = cv2.boundingRect(pixels[..., 3])
    window = np.s_[y : y + height, x : x + width]
    pixels = pixels[window]
    # Steeper opacity leaves no halo of the object's old background.
    opacity = pixels[..., 3:].astype(np.float32) / 255.0
    opacity = np.clip(1.5 * opacity - 0.25, 0.0, 1.0)
    image[window] = opacity * pixels[..., :3] + (1.0 - opacity) * image[window]
    labels[window][pixels[..., 3] > 127] = label
    return image, labels


def object_masks(ids: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Returns (id, bool [h, w]) of every object in `ids` (uint8 [h, w]) that can be cut out."""
    return [(i, ids == i) for i in masks.object_ids(ids, MIN_PIXELS)]


def _draw_bend(rng: np.random.Generator, amount: float) -> np.ndarray:
    """Returns random displacements of a coarse grid in pixels, float32 [points, points, 2]."""
    return rng.normal(0.0, amount, [_BEND_POINTS, _BEND_POINTS, 2]).astype(np.float32)

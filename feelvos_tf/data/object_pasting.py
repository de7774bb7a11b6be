"""Cuts objects out of pictures, fills the holes, and pastes objects over frames."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.data.synthetic_motion import View, sampling_grid
from feelvos_tf.media import masks

_MARGIN = 2
# Objects with fewer pixels in their picture are not worth cutting out.
MIN_PIXELS = 150


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
    window = np.s_[
        max(top - _MARGIN, 0) : bottom + _MARGIN, max(left - _MARGIN, 0) : right + _MARGIN
    ]
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
    counts = np.bincount(ids.ravel(), minlength=VOID + 1)
    return [(i, ids == i) for i in range(1, VOID) if counts[i] >= MIN_PIXELS]

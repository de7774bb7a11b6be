"""Draws masks over their frames, and contact sheets of several frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.media.masks import DAVIS_PALETTE

_SHEET_GAP = 6


def overlay(
    image: np.ndarray, ids: np.ndarray, alpha: float = 0.5, palette: np.ndarray = DAVIS_PALETTE
) -> np.ndarray:
    """Returns the image with its objects tinted and outlined in the colors of a palette.

    Args:
      image: uint8 [height, width, 3] RGB.
      ids: uint8 [height, width] object ids; background (0) and void (255) stay as they are.
      alpha: weight of the object's color, 0..1.
      palette: uint8 [256, 3], the color of each id.

    Returns:
      uint8 [height, width, 3].
    """
    colors = palette[ids]
    inside = (ids != 0) & (ids != VOID)
    blended = cv2.addWeighted(image, 1.0 - alpha, colors, alpha, 0.0)
    result = np.where(inside[..., None], blended, image)
    contour = inside & _near_another_id(ids, width=1 if min(ids.shape) < 400 else 2)
    # The palette's first colors are dark; a contour must stand out from the tint next to it.
    result[contour] = np.minimum(colors[contour].astype(np.int32) * 2 + 40, 255)
    return result


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, tile_width: int | None = None
) -> np.ndarray:
    """Returns one picture of several frames, row by row on white, uint8 [height, width, 3].

    Args:
      images: uint8 [height, width, 3] each; all are scaled to the first one's shape.
      columns: number of pictures in a row.
      tile_width: width of one picture in pixels; the first one's width when None.
    """
    height, width = images[0].shape[:2]
    tile_width = tile_width or width
    tile_height = max(1, round(height * tile_width / width))
    rows = -(-len(images) // columns)
    sheet = np.full(
        (
            rows * (tile_height + _SHEET_GAP) - _SHEET_GAP,
            min(columns, len(images)) * (tile_width + _SHEET_GAP) - _SHEET_GAP,
            3,
        ),
        255,
        np.uint8,
    )
    for index, image in enumerate(images):
        top = index // columns * (tile_height + _SHEET_GAP)
        left = index % columns * (tile_width + _SHEET_GAP)
        tile = cv2.resize(image, (tile_width, tile_height), interpolation=cv2.INTER_AREA)
        sheet[top : top + tile_height, left : left + tile_width] = tile
    return sheet


def _near_another_id(ids: np.ndarray, width: int) -> np.ndarray:
    """Returns whether another id lies within `width` pixels, bool [height, width]."""
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return cv2.dilate(ids, square) != cv2.erode(ids, square)

"""Draws masks over their frames, and contact sheets of several frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from feelvos_tf.media import masks
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
    inside = masks.is_object(ids)
    blended = cv2.addWeighted(image, 1.0 - alpha, colors, alpha, 0.0)
    result = np.where(inside[..., None], blended, image)
    square = np.ones((3, 3) if min(ids.shape) < 400 else (5, 5), np.uint8)
    contour = inside & (cv2.dilate(ids, square) != cv2.erode(ids, square))
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
    tiles = [
        cv2.copyMakeBorder(
            cv2.resize(image, (tile_width, tile_height), interpolation=cv2.INTER_AREA),
            *(0, _SHEET_GAP, 0, _SHEET_GAP),
            cv2.BORDER_CONSTANT,
            value=(255, 255, 255),
        )
        for image in images
    ]
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.ascontiguousarray(np.vstack(rows)[:-_SHEET_GAP, :-_SHEET_GAP])

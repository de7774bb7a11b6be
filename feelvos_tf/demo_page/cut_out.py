"""Turns a rough box or scribble into the mask of an object, by OpenCV's GrabCut."""

from __future__ import annotations

import cv2
import numpy as np

# What a hint says about a pixel.
UNKNOWN, OBJECT, BACKGROUND, BOX = range(4)
_ROUNDS = 4
# GrabCut's time grows with the number of pixels, and its outlines are good enough at this size.
_LONG_SIDE = 640


def cut_out(image: np.ndarray, hint: np.ndarray) -> np.ndarray:
    """Returns which pixels belong to the object, bool [height, width].

    Args:
      image: uint8 [height, width, 3] RGB.
      hint: uint8 [height, width]: `OBJECT` and `BACKGROUND` on scribbles, `BOX` inside a box around
        the object, `UNKNOWN` elsewhere. Without a box, the object is searched for around its
        scribbles, up to half their extent away.
    """
    if not ((hint == OBJECT) | (hint == BOX)).any():
        return np.zeros(hint.shape, bool)
    hint = hint if (hint == BOX).any() else _with_box_around(hint)
    scale = min(1, _LONG_SIDE / max(hint.shape))
    size = tuple(max(1, round(s * scale)) for s in hint.shape[::-1])
    small_image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    # Nearest neighbor, since a hint is one of four values.
    small_hint = cv2.resize(hint, size, interpolation=cv2.INTER_NEAREST)
    found = _grab(np.ascontiguousarray(small_image[..., ::-1]), small_hint)
    found = cv2.resize(found.astype(np.float32), hint.shape[::-1]) > 0.5
    return (found | (hint == OBJECT)) & (hint != BACKGROUND)


def _grab(image: np.ndarray, hint: np.ndarray) -> np.ndarray:
    """Returns bool [height, width] for a BGR image."""
    labels = np.select(
        [hint == OBJECT, hint == BOX], [cv2.GC_FGD, cv2.GC_PR_FGD], cv2.GC_BGD
    ).astype(np.uint8)
    inside = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    if inside.all() or not inside.any():
        # GrabCut needs pixels of both kinds.
        return inside
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(image, labels, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _with_box_around(hint: np.ndarray) -> np.ndarray:
    """Returns the hint with a box around the scribbles that show the object."""
    rows, columns = np.nonzero(hint == OBJECT)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    margin = max(height, width) // 2 + 4
    box = np.s_[
        max(0, rows.min() - margin) : rows.max() + margin + 1,
        max(0, columns.min() - margin) : columns.max() + margin + 1,
    ]
    result = hint.copy()
    result[box] = np.where(hint[box] == UNKNOWN, BOX, hint[box])
    return result

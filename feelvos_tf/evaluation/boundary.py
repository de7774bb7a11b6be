"""Contour accuracy F (the boundary F-measure) of DAVIS.

The definitions are those of the DAVIS evaluation (Perazzi et al., CVPR 2016, section 5.1): contour
pixels match when a disk around one contains a pixel of the other contour. Dilating byte images by
that disk is slow. Here, a whole map is one long integer with a bit per pixel, and a dilation is a
few shifts of it. The counts are exactly the same.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np

TOLERANCE = 0.008
"""Radius of the disk as a fraction of the image diagonal, before rounding up."""

_BLOCK = np.ones([2, 2], np.uint8)


def tolerance_radius(height: int, width: int) -> int:
    """Returns the distance in pixels at which contours match: 0.008 of the diagonal, rounded up."""
    return int(np.ceil(TOLERANCE * np.linalg.norm((height, width))))


def contour(mask: np.ndarray) -> np.ndarray:
    """Returns where a mask differs from its right, lower, or lower right neighbor.

    In the last row and column only the neighbors inside the image count, so an object that
    leaves the image has no contour along the image's edge.

    Args:
      mask: uint8 [height, width] of 0 and 1.

    Returns:
      uint8 [height, width] of 0 and 1.
    """
    # A pixel is on the contour if the 2x2 block that starts at it is not constant. OpenCV excludes
    # pixels outside the image from both the maximum and the minimum.
    largest = cv2.dilate(mask, _BLOCK, anchor=(0, 0))
    return cv2.bitwise_xor(largest, cv2.erode(mask, _BLOCK, anchor=(0, 0)))


def f_measure(ground_truth: np.ndarray, prediction: np.ndarray, radius: int) -> float:
    """Returns F, the harmonic mean of the two contours' precision and recall.

    Args:
      ground_truth: contour map uint8 [height, width] of 0 and 1.
      prediction: contour map of the same size.
      radius: distance in pixels up to which contour pixels match.

    Returns:
      F in 0..1. Two empty contours agree fully (1), one empty contour misses all (0).
    """
    truth_pixels = cv2.countNonZero(ground_truth)
    predicted_pixels = cv2.countNonZero(prediction)
    if not truth_pixels or not predicted_pixels:
        return float(truth_pixels == predicted_pixels)
    truth, stride = _pack(ground_truth, radius)
    predicted, _ = _pack(prediction, radius)
    precision = _count_ones(predicted & _dilate(truth, stride, radius)) / predicted_pixels
    recall = _count_ones(truth & _dilate(predicted, stride, radius)) / truth_pixels
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _pack(contour_map: np.ndarray, radius: int) -> tuple[int, int]:
    """Returns the map as one integer, a bit per pixel, row after row, and the bits in a row.

    Every row ends with at least `radius` zeros, so that bits shifted out of one row by up to
    `radius` do not reach a pixel of the next.
    """
    width = contour_map.shape[1]
    stride = -(-(width + radius) // 8) * 8
    padded = cv2.copyMakeBorder(contour_map, 0, 0, 0, stride - width, cv2.BORDER_CONSTANT, value=0)
    packed = np.packbits(padded, bitorder="little")
    return int.from_bytes(packed.tobytes(), "little"), stride


def _dilate(bits: int, stride: int, radius: int) -> int:
    """Returns the packed map dilated by a disk; bits outside the pixels are left undefined."""
    # Until the end, everything is offset by `radius` rows and columns, so that no shift is
    # negative; `bits` is the map smeared to the right over `length` pixels.
    dilated, length = 0, 1
    for half_width, rows in _disk_rows(radius):
        while length < 2 * half_width + 1:
            step = min(length, 2 * half_width + 1 - length)
            bits |= bits << step
            length += step
        for row in rows:
            dilated |= bits << ((row + radius) * stride + radius - half_width)
    return dilated >> (radius * stride + radius)


@functools.lru_cache(maxsize=64)
def _disk_rows(radius: int) -> list[tuple[int, list[int]]]:
    """Returns (half width, rows of that width) of the disk x^2 + y^2 <= radius^2, ascending."""
    rows = {}
    for row in range(-radius, radius + 1):
        rows.setdefault(math.isqrt(radius**2 - row**2), []).append(row)
    return sorted(rows.items())


def _count_ones(bits: int) -> int:
    """Returns the number of ones; `int.bit_count` is faster but new in Python 3.10."""
    return bits.bit_count() if hasattr(bits, "bit_count") else bin(bits).count("1")

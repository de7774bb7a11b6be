"""The contour of a mask, and how much of one contour runs close to another.

The definitions are those of the DAVIS evaluation (Perazzi et al., CVPR 2016, section 5.1): contour
pixels match when a disk around one holds a pixel of the other contour. Dilating whole images by
that disk is slow. Here the disk is written as a union of rectangles, and an integral image tells
at once whether a rectangle around a contour pixel is empty. The counts are the same integers.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np

TOLERANCE = 0.008
"""Radius of the disk as a fraction of the image diagonal, before rounding up."""

_BLOCK = np.ones([2, 2], np.uint8)
_WORD = 8
"""Contour maps are searched for non-zero pixels eight at a time."""


def tolerance_radius(height: int, width: int) -> int:
    """Returns the radius in pixels within which contour pixels match: 0.008 diagonals, ceiled."""
    return int(np.ceil(TOLERANCE * np.linalg.norm((height, width))))


def contour(mask: np.ndarray) -> np.ndarray:
    """Returns where a mask differs from its right, lower, or lower right neighbour.

    In the last row and column only the neighbours inside the image count, so an object that
    leaves the image has no contour along the image's edge.

    Args:
      mask: uint8 [height, width] of 0 and 1.

    Returns:
      uint8 [height, width] of 0 and 1.
    """
    # A pixel is contour where the 2x2 block that it opens is not constant. OpenCV leaves pixels
    # outside the image out of both the maximum and the minimum.
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
    truth, predicted = _pad(ground_truth, radius), _pad(prediction, radius)
    truth_pixels, predicted_pixels = _nonzero(truth), _nonzero(predicted)
    if not truth_pixels.size or not predicted_pixels.size:
        return float(truth_pixels.size == predicted_pixels.size)
    precision = _count_near(predicted_pixels, truth, radius) / predicted_pixels.size
    recall = _count_near(truth_pixels, predicted, radius) / truth_pixels.size
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _pad(contour_map: np.ndarray, radius: int) -> np.ndarray:
    """Returns the map with a margin of at least `radius`, its width a multiple of `_WORD`."""
    surplus = -(contour_map.shape[1] + 2 * radius) % _WORD
    return cv2.copyMakeBorder(
        contour_map, radius, radius, radius, radius + surplus, cv2.BORDER_CONSTANT, value=0
    )


def _nonzero(padded: np.ndarray) -> np.ndarray:
    """Returns the flat positions of the map's non-zero pixels, int64 [pixels]."""
    flat = padded.reshape(-1)
    # Contours are thin: nearly all words of eight pixels are empty and are skipped in one look.
    words = np.flatnonzero(flat.view(np.uint64))
    candidates = (words[:, np.newaxis] * _WORD + np.arange(_WORD)).reshape(-1)
    return candidates[flat[candidates] != 0]


def _count_near(pixels: np.ndarray, contour_map: np.ndarray, radius: int) -> int:
    """Returns how many of the pixels have a pixel of the contour within `radius`.

    Args:
      pixels: flat positions in the padded map, none of them in its margin.
      contour_map: the other contour, padded.
      radius: of the disk.
    """
    # sums[y, x] is the number of contour pixels above and left of (y, x), so it has one row and
    # one column more than the map.
    sums = cv2.integral(contour_map)
    stride = sums.shape[1]
    sums = sums.reshape(-1)
    unmatched = pixels + pixels // contour_map.shape[1]
    for half_height, half_width in _disk_rectangles(radius):
        top = unmatched - half_height * stride
        bottom = unmatched + (half_height + 1) * stride
        above = sums[top + half_width + 1] - sums[top - half_width]
        until = sums[bottom + half_width + 1] - sums[bottom - half_width]
        unmatched = unmatched[above == until]
        if not unmatched.size:
            break
    return pixels.size - unmatched.size


@functools.lru_cache(maxsize=64)
def _disk_rectangles(radius: int) -> tuple[tuple[int, int], ...]:
    """Returns (half height, half width) of rectangles whose union is the disk, largest first."""
    rectangles = {}
    for half_height in range(radius + 1):
        # Of equal widths the last, and so the highest, rectangle stays.
        rectangles[math.isqrt(radius**2 - half_height**2)] = half_height
    pairs = [(half_height, half_width) for half_width, half_height in rectangles.items()]
    return tuple(sorted(pairs, key=lambda pair: -(2 * pair[0] + 1) * (2 * pair[1] + 1)))

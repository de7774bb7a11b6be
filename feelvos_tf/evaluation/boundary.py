"""Contour accuracy F (the boundary F-measure) of DAVIS.

The definitions are those of the DAVIS evaluation (Perazzi et al., CVPR 2016, section 5.1): contour
pixels match when a disk around one contains a pixel of the other contour.
"""

from __future__ import annotations

import functools

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
    disk = _disk(radius)
    near_truth = cv2.bitwise_and(prediction, cv2.dilate(ground_truth, disk))
    near_prediction = cv2.bitwise_and(ground_truth, cv2.dilate(prediction, disk))
    precision = cv2.countNonZero(near_truth) / predicted_pixels
    recall = cv2.countNonZero(near_prediction) / truth_pixels
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@functools.lru_cache(maxsize=64)
def _disk(radius: int) -> np.ndarray:
    """Returns the disk x^2 + y^2 <= radius^2, uint8 of 0 and 1; OpenCV's ellipses are smaller."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x**2 + y**2 <= radius**2).astype(np.uint8)

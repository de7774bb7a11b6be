"""Moves a mask's outline to the edges of its image.

The network computes masks on a grid of every fourth pixel, so that the outline of a mask made from
a few clicks is off by two pixels or so. Masks of a video's later frames gain nothing: there, the
previous mask and the memory make outlines more exact than color does.

Source: GrabCut of Rother et al. (SIGGRAPH 2004), as OpenCV implements it, in a narrow band.
"""

from __future__ import annotations

import cv2
import numpy as np

from feelvos_tf.media import masks

_REACH = 3  # Pixels by which the outline may move to either side.
_SURROUNDINGS = 40  # Pixels around the mask that show the colors of the background.
_ITERATIONS = 2
_LEAST_PIXELS = 64  # On either side, for a model of its colors.


def snap(image: np.ndarray, mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the mask with its outline moved to nearby edges of the image.

    Args:
      image: uint8 [height, width, 3] RGB.
      mask: bool [height, width].
      known: int [height, width], 1 and 0 where the mask is known, negative elsewhere.

    Returns:
      bool [height, width]. The same arguments give the same mask. Empty and tiny masks, and masks
      of nearly everything, are returned as they are.
    """
    window = masks.around(mask, _SURROUNDINGS)
    labels = _labels(mask[window], known[window])
    is_object = labels % 2 == 1
    if min(np.count_nonzero(is_object), np.count_nonzero(~is_object)) < _LEAST_PIXELS:
        return mask
    cv2.setRNGSeed(0)  # Its clusters of colors start at random.
    models = np.zeros((2, 1, 65))
    image = cv2.cvtColor(image[window], cv2.COLOR_RGB2BGR)
    cv2.grabCut(image, labels, None, *models, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    result = mask.copy()
    result[window] = labels % 2 == 1
    return result


def _labels(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns what GrabCut may change, uint8 [height, width], in OpenCV's numbers."""
    plane = mask.astype(np.uint8)
    core = cv2.erode(plane, _disc(_REACH))
    result = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    result[core != 0] = cv2.GC_FGD
    result[cv2.dilate(plane, _disc(_REACH)) == 0] = cv2.GC_BGD
    # Parts without a core, such as legs and lines, would vanish in a background like them.
    result[mask & (cv2.dilate(core, _disc(_REACH + 1)) == 0)] = cv2.GC_FGD
    result[known == 1] = cv2.GC_FGD
    result[known == 0] = cv2.GC_BGD
    return result


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)

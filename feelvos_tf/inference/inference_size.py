"""Brings frames and masks to the size the model runs at, and its probabilities back."""

from __future__ import annotations

import cv2
import numpy as np

from feelvos_tf.core.constants import VOID


def model_size(frame_size: tuple[int, ...], inference_size: int | None) -> tuple[int, int]:
    """Returns the [height, width] at which the model runs.

    Args:
      frame_size: height and width of the frames.
      inference_size: pixels of the short side while the model runs; None for the frames' own.
    """
    height, width = frame_size
    scale = inference_size / min(frame_size) if inference_size else 1
    return max(1, round(height * scale)), max(1, round(width * scale))


def scaled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the image at [height, width] `size`, averaged where it shrinks."""
    if size == image.shape[:2]:
        return image
    shrinks = size[0] < image.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation)


def downsample_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask at [height, width] `size`, uint8, in which no object of `mask` is lost.

    Nearest neighbor; an object too small for the grid gets the one pixel that holds its middle or,
    where that is another object's only one, the nearest pixel that is not.
    """
    if size == mask.shape:
        return mask
    result = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    for lost in np.setdiff1d(mask, [*np.unique(result), VOID]):
        result[_pixel_to_spare(result, mask == lost)] = lost
    return result


def upsampled_argmax(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the most probable channel at [height, width] `size`, uint8.

    Channels are enlarged bilinearly and one at a time, so that memory does not grow with objects.

    Args:
      probabilities: float32 [height, width, num_objects].
      size: height and width of the result.
    """
    best = np.full(size, -np.inf, np.float32)
    winner = np.zeros(size, np.uint8)
    for channel in range(probabilities.shape[-1]):
        plane = np.ascontiguousarray(probabilities[..., channel])
        plane = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR)
        better = plane > best
        best[better] = plane[better]
        winner[better] = channel
    return winner


def upsampled(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the probabilities at [height, width] `size`, bilinear.

    Args:
      probabilities: float32 [height, width, num_objects].
      size: height and width of the result.
    """
    if size == probabilities.shape[:2]:
        return probabilities
    planes = np.moveaxis(probabilities, -1, 0)
    resized = [
        cv2.resize(np.ascontiguousarray(plane), size[::-1], interpolation=cv2.INTER_LINEAR)
        for plane in planes
    ]
    return np.stack(resized, -1)


def _pixel_to_spare(grid: np.ndarray, own: np.ndarray) -> tuple[int, int]:
    """Returns row and column of the pixel of `grid` that an object can have.

    Args:
      grid: the mask made smaller, uint8 [h, w].
      own: where the object was, bool [height, width].
    """
    rows, columns = np.nonzero(own)
    middle = len(rows) // 2
    row = rows[middle] * grid.shape[0] // own.shape[0]
    column = columns[middle] * grid.shape[1] // own.shape[1]
    distance = (np.arange(grid.shape[0]) - row)[:, None] ** 2 + (
        np.arange(grid.shape[1]) - column
    ) ** 2
    only_one = (np.bincount(grid.ravel(), minlength=VOID + 1) == 1)[grid] & (grid != VOID)
    distance[only_one] = np.iinfo(distance.dtype).max
    row, column = np.unravel_index(distance.argmin(), grid.shape)
    return int(row), int(column)

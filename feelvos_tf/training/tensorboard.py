"""Pictures and numbers of a training run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from feelvos_tf.media import overlay

REFERENCE, _, CURRENT = range(3)
GAP = 4


def write_scalars(scalars: Mapping[str, float], step: int) -> None:
    """Writes numbers to the default summary writer."""
    for name, value in scalars.items():
        tf.summary.scalar(name, value, step=step)


def write_picture(clip: Mapping[str, np.ndarray], step: int) -> None:
    """Writes the picture of one clip to the default summary writer."""
    tf.summary.image("clip", training_picture(clip)[np.newaxis], step=step)


def training_picture(clip: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns everything that went into and came out of one clip, in one picture.

    First row: the reference with its mask, the current frame, the prediction and the ground
    truth over it. Then one row per object, background first: its global and its local distance
    map, dark for near.

    Args:
      clip: images float32 [3, height, width, 3] of 0..255; labels int32 [3, height, width];
        prediction int32 [height, width]; global_map and local_map float32 [num_objects, h, w]
        of 0..1; a map the model does not use is missing.

    Returns:
      uint8 [rows * height + gaps, 4 * width + gaps, 3].
    """
    images = np.clip(np.asarray(clip["images"]), 0, 255).astype(np.uint8)
    labels = np.asarray(clip["labels"])
    rows = [
        _side_by_side(
            [
                _overlay(images[REFERENCE], labels[REFERENCE]),
                images[CURRENT],
                _overlay(images[CURRENT], clip["prediction"]),
                _overlay(images[CURRENT], labels[CURRENT]),
            ]
        )
    ]
    maps = [np.asarray(clip[k]) for k in ("global_map", "local_map") if k in clip]
    for distances in zip(*maps):
        row = [_distance_picture(d, labels.shape[1:]) for d in distances]
        blank = [np.zeros_like(row[0])] * (4 - len(row))
        rows.append(_side_by_side(row + blank))
    return _stacked(rows)


def _overlay(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns the image tinted and outlined where the integers `ids` are objects."""
    return overlay.overlay(image, np.asarray(ids).astype(np.uint8))


def _distance_picture(distances: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a grey uint8 [height, width, 3] picture of a distance map [h, w]."""
    rows = np.arange(size[0]) * distances.shape[0] // size[0]
    columns = np.arange(size[1]) * distances.shape[1] // size[1]
    grey = (255 * np.clip(distances, 0, 1)).astype(np.uint8)[rows][:, columns]
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)


def _side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for p in pictures for part in (p, gap)][:-1], axis=1)


def _stacked(pictures: list[np.ndarray]) -> np.ndarray:
    gap = np.full((GAP, pictures[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for p in pictures for part in (p, gap)][:-1], axis=0)

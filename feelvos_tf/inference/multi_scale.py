"""Multi-scale inference: segments a frame at several sizes and merges the logits.

Source: 2019 release, multi_scale_logits_with_nearest_neighbor_matching and deeplab/model. The
default is the frame's own size alone, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.resizing import resize_bilinear, resize_nearest
from feelvos_tf.models import object_labels

_LOGITS_STRIDE = 4

MERGES = {"max": tf.reduce_max, "avg": tf.reduce_mean}


def scaled_size(size: tf.Tensor, scale: float) -> tf.Tensor:
    """Returns int32 `[2]`: `size` times `scale` such that corner pixels remain corners.

    Reproduction trap: truncated, not rounded. Source: deeplab/core/utils.scale_dimension.
    """
    return tf.cast((tf.cast(size, tf.float32) - 1.0) * scale + 1.0, tf.int32)


def scaled_image(image: tf.Tensor, scale: float) -> tf.Tensor:
    """Returns float32 `[1, h, w, 3]`: the `[height, width, 3]` image at `scale`, bilinear."""
    batch = tf.cast(image, tf.float32)[tf.newaxis]
    if scale == 1.0:
        return batch
    return resize_bilinear(batch, scaled_size(tf.shape(image)[:2], scale))


def downsample_reference_at_scale(
    mask: tf.Tensor, object_ids: tf.Tensor, scale: float, grid: tf.Tensor
) -> tf.Tensor:
    """Returns int32 `[h, w]` object indices of the reference mask on the grid of a scaled frame.

    Args:
      mask: `[height, width]` ids.
      object_ids: `[objects]` sorted ids of `mask`, without void.
      scale: of the frame.
      grid: `[2]` height and width of the scaled frame's embeddings.
    """
    if scale == 1.0:
        return object_labels.downsample_reference(mask, object_ids, grid)
    size = scaled_size(tf.shape(mask), scale)
    indices = object_labels.downsample_reference(mask, object_ids, size)
    indices = tf.where(indices == object_labels.NO_OBJECT, VOID, indices)
    return object_labels.downsample_reference(indices, tf.range(tf.size(object_ids)), grid)


def downsample_marked_at_scale(
    full: tf.Tensor, marked: tf.Tensor, scale: float, grid: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns marked objects of a frame on the grid of the scaled frame and at the scaled size.

    Args:
      full: int32 `[height, width]` object indices, negative where nothing is marked.
      marked: int32 `[objects]`, the indices that occur in `full`.
      scale: of the frame.
      grid: `[2]` height and width of the scaled frame's embeddings.

    Returns:
      on_grid: int32 `[h, w]`; an object between the grid points may be missing.
      scaled: int32 `[scaled height, scaled width]` with all objects.
    """
    scaled = full
    if scale != 1.0:
        scaled = resize_nearest(full, scaled_size(tf.shape(full), scale))
        scaled = object_labels.keep_objects(full, scaled, marked)
    return resize_nearest(scaled, grid), scaled


def downsample_indices_at_scale(indices: tf.Tensor, scale: float, grid: tf.Tensor) -> tf.Tensor:
    """Returns `[h, w]` object indices of a predicted mask on the grid of a scaled frame.

    Reproduction trap: like the image, the mask is first resized to the scale, then to the grid.
    """
    if scale != 1.0:
        indices = resize_nearest(indices, scaled_size(tf.shape(indices), scale))
    return resize_nearest(indices, grid)


def merged_logits(
    logits: Sequence[tf.Tensor], scales: Sequence[float], size: tf.Tensor, merge: str
) -> tf.Tensor:
    """Returns `[1, h, w, objects]` logits of a frame, merged over its scales.

    All are first resized to stride 4 of the largest scale or of the frame, whichever is larger.

    Args:
      logits: `[1, h, w, objects]` of each scale.
      scales: the scales.
      size: `[2]` height and width of the frame.
      merge: "max" or "avg".
    """
    if tuple(scales) == (1.0,):
        return logits[0]
    grid = scaled_size(size, max(1.0, *scales) / _LOGITS_STRIDE)
    return MERGES[merge](tf.stack([resize_bilinear(each, grid) for each in logits]), axis=0)

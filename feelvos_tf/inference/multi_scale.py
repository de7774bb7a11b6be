"""Multi-scale inference: segments a frame at several sizes and merges the logits.

Source: 2019 release, multi_scale_logits_with_nearest_neighbor_matching and deeplab/model. The
default is the frame's own size alone, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

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
    image = tf.ensure_shape(image, [None, None, 3])  # A server does not check it.
    batch = tf.cast(image, tf.float32)[tf.newaxis]
    if scale == 1.0:
        return batch
    return resize_bilinear(batch, scaled_size(tf.shape(image)[:2], scale))


def labels_at_scale(labels: tf.Tensor, scale: float) -> tf.Tensor:
    """Returns labels `[height, width]` of a frame at `scale`, nearest neighbor."""
    if scale == 1.0:
        return labels
    return resize_nearest(labels, scaled_size(tf.shape(labels), scale))


def downsample_given(
    full: tf.Tensor, objects: tf.Tensor, scale: float, grid: tf.Tensor
) -> tf.Tensor:
    """Returns int32 `[h, w]`, a given mask on the grid of a scaled frame.

    Every object keeps a pixel.

    Args:
      full: int32 `[height, width]` object indices, `NO_OBJECT` where nothing is given.
      objects: int32 `[objects]`, the indices that occur in `full`.
      scale: of the frame.
      grid: `[2]` height and width of the scaled frame's embeddings.
    """
    if scale != 1.0:
        full = object_labels.downsample(full, objects, scaled_size(tf.shape(full), scale))
    return object_labels.downsample(full, objects, grid)


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

"""Resizing as the 2019 release does it: the corner pixels' centers stay where they are.

Reproduction trap: the release resizes with align_corners=True everywhere, which `tf.image.resize`
cannot do. (This is the package's only module that imports TensorFlow.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import tensorflow as tf

Size = Union[tf.Tensor, Sequence[int]]


def resize_bilinear(images: tf.Tensor, size: Size) -> tf.Tensor:
    """Returns float32 `[n, *size, channels]` for `images` `[n, height, width, channels]`."""
    return tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=True)


def resize_nearest(labels: tf.Tensor, size: Size) -> tf.Tensor:
    """Returns labels `[..., *size]` picked from `labels` `[..., height, width]`, of any dtype.

    Reproduction trap: the source row of target row i is i * (height - 1) / (size[0] - 1), rounded
    half up. The values are those of TensorFlow's kernel (resize_nearest_neighbor with
    align_corners=True), but gathering rows and then columns takes a sixth of the time.
    """
    size, shape = tf.convert_to_tensor(size), tf.shape(labels)
    rows = tf.gather(labels, _nearest(shape[-2], size[0]), axis=-2)
    columns = tf.gather(tf.linalg.matrix_transpose(rows), _nearest(shape[-1], size[1]), axis=-2)
    return tf.linalg.matrix_transpose(columns)


def _nearest(source_size: tf.Tensor, target_size: tf.Tensor) -> tf.Tensor:
    """Returns the source position of each target position, int32 `[target_size]`."""
    intervals = tf.cast(tf.maximum(target_size - 1, 1), tf.float32)
    step = tf.cast(source_size - 1, tf.float32) / intervals
    position = tf.cast(tf.range(target_size), tf.float32) * step
    below = tf.floor(position)
    # tf.round would round halves to even.
    return tf.cast(below + tf.cast(position - below >= 0.5, tf.float32), tf.int32)

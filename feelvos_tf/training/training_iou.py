"""J of the clips that a model is trained on, as a training shows it."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.resizing import resize_bilinear


def predicted_indices(logits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns int32 [height, width]: the object of the largest upsampled logit.

    Args:
      logits: float32 [num_objects, h, w, 1].
      size: int32 [2], height and width.
    """
    return tf.argmax(resize_bilinear(logits, size)[..., 0], axis=0, output_type=tf.int32)


def mean_object_iou(predicted: tf.Tensor, labels: tf.Tensor, num_objects: tf.Tensor) -> tf.Tensor:
    """Returns the mean IoU over the objects that are in `labels`, 1 where there is none.

    Background (index 0) is no object here, and void pixels do not count.

    Args:
      predicted: int32 [..., height, width], object indices.
      labels: int32 of the same shape, 255 for void.
      num_objects: int32 [], background included.

    Returns:
      float32 []. Source: calculate_multi_object_miou_tf in feelvos/utils/eval_utils.py.
    """
    indices = tf.range(1, num_objects)
    void = labels == VOID
    ours = (predicted[..., tf.newaxis] == indices) & ~void[..., tf.newaxis]
    truth = labels[..., tf.newaxis] == indices
    common = tf.math.count_nonzero(ours & truth, axis=(-3, -2), dtype=tf.float32)
    union = tf.math.count_nonzero(ours | truth, axis=(-3, -2), dtype=tf.float32)
    present = tf.cast(tf.reduce_any(truth, axis=(-3, -2)), tf.float32)
    count = tf.reduce_sum(present)
    mean = tf.reduce_sum(tf.math.divide_no_nan(common, union) * present) / tf.maximum(count, 1.0)
    return tf.where(count > 0, mean, 1.0)

"""Damages ground-truth masks in training, so that they look like imperfect predictions.

Training feeds the ground truth of the previous frame where inference feeds a prediction. Damaging
it a little narrows that gap. Source: `mask_damage.py` of the 2019 release; off by default, as
there.
"""

from __future__ import annotations

import math

import tensorflow as tf

from feelvos_tf.media.masks import VOID

MAX_SHIFT = 0.05
"""Of the object's size, the square root of its bounding box's area; in each direction."""
MAX_SCALE_CHANGE = 0.025
MAX_ROTATION = math.radians(3.0)


def damage_labels(labels: tf.Tensor, num_objects: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns labels in which every object is shifted, scaled and rotated a little.

    Where objects come to overlap, the one with the higher index wins; what an object uncovers
    becomes background; void stays void.

    Args:
      labels: object indices, int32 [height, width]; 0 is background.
      num_objects: indices are below this, int32 [].
      seed: integer [2], the only source of randomness.
    """
    changes = tf.random.stateless_uniform([num_objects, 4], seed, minval=-1.0, maxval=1.0)

    def add_object(index: tf.Tensor, damaged: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        moved = move_mask(
            labels == index,
            shift=changes[index, :2] * MAX_SHIFT,
            scale=1.0 + changes[index, 2] * MAX_SCALE_CHANGE,
            rotation=changes[index, 3] * MAX_ROTATION,
        )
        return index + 1, tf.where(moved, index, damaged)

    _, damaged = tf.while_loop(
        lambda index, _: index < num_objects, add_object, (1, tf.zeros_like(labels))
    )
    return tf.where(labels == VOID, VOID, damaged)


def move_mask(
    mask: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor, rotation: tf.Tensor
) -> tf.Tensor:
    """Returns the mask rotated and scaled about its center of mass, then shifted; bool.

    Args:
      mask: bool [height, width]; all False comes back as it is.
      shift: (down, right) in units of the object's size, float32 [2].
      scale: factor, float32 [].
      rotation: radians, from down toward right, float32 [].
    """
    inside = tf.cast(tf.where(mask), tf.float32)
    return tf.cond(
        tf.shape(inside)[0] > 0,
        lambda: _moved(mask, inside, shift, scale, rotation),
        lambda: mask,
    )


def _moved(
    mask: tf.Tensor, inside: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor, rotation: tf.Tensor
) -> tf.Tensor:
    """Looks up for every target pixel whether the pixel it comes from is in the mask."""
    center = tf.reduce_mean(inside, 0)
    extent = tf.reduce_max(inside, 0) - tf.reduce_min(inside, 0) + 1.0
    offset = center + shift * tf.sqrt(tf.reduce_prod(extent))
    height, width = tf.unstack(tf.shape(mask))
    down = (tf.cast(tf.range(height), tf.float32) - offset[0])[:, None]
    right = (tf.cast(tf.range(width), tf.float32) - offset[1])[None, :]
    cosine, sine = tf.cos(rotation) / scale, tf.sin(rotation) / scale
    y = tf.cast(tf.round(center[0] + cosine * down + sine * right), tf.int32)
    x = tf.cast(tf.round(center[1] - sine * down + cosine * right), tf.int32)
    exists = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    index = tf.clip_by_value(y, 0, height - 1) * width + tf.clip_by_value(x, 0, width - 1)
    return exists & tf.gather(tf.reshape(mask, [-1]), index)

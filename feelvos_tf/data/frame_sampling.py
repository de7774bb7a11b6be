"""Draws the three frames of a video that a training clip is made of."""

from __future__ import annotations

import tensorflow as tf

MIN_FRAMES = 3
"""The 2019 release trains on no shorter video, although two frames would make a clip."""


def draw_frames(
    num_frames: tf.Tensor, seed: tf.Tensor, first_frame_only: bool = False, max_frame_gap: int = 1
) -> tf.Tensor:
    """Returns the indices of (reference, previous, current), int32 [3].

    The reference is any frame, before, among or after the other two; previous and current follow
    each other, adjacent in the paper. Source: section 3, "Training procedure";
    `utils/video_input_generator.py` of the 2019 release.

    Args:
      num_frames: length of the video, int32 [], at least 2.
      seed: integer [2], the only source of randomness.
      first_frame_only: three times frame 0, for fine-tuning on the given mask.
      max_frame_gap: the current frame comes 1 to this many frames after the previous one.
    """
    if first_frame_only:
        return tf.zeros([3], tf.int32)
    uniform = tf.random.stateless_uniform([3], seed)
    gap = 1 + _pick(uniform[2], tf.minimum(max_frame_gap, num_frames - 1))
    reference = _pick(uniform[0], num_frames)
    previous = _pick(uniform[1], num_frames - gap)
    return tf.stack([reference, previous, previous + gap])


def _pick(uniform: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns 0..count-1, int32, from a number in [0, 1)."""
    return tf.minimum(tf.cast(uniform * tf.cast(count, tf.float32), tf.int32), count - 1)

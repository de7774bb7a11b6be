"""Gating: drops the parts of an object's mask that lie too far from its previous mask.

As in the tracking literature, a measurement outside a region around the last position is not the
object's. Neither the paper nor the 2019 release has a gate: there, anything that looks like the
object joins its mask, wherever it is, and is fed back. `Predictor.gate_radius` enables it.
"""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models import object_labels

# Distance of rejected logits below all others: a probability of less than 0.0001.
_MARGIN = 10.0
_STEPS_AT_ONCE = 8


def apply_gate(
    logits: tf.Tensor, previous: tf.Tensor, object_ids: tf.Tensor, radius: int
) -> tf.Tensor:
    """Returns the logits, with an object's lowered below all others where the gate rejects it.

    A part is a connected component, diagonals included, of the frame's hard mask on the grid of the
    logits. It is rejected if none of its pixels is within `radius` of the object's previous mask.
    If the rejected parts are together larger than the others, they are kept: the object has moved
    farther, or its previous mask is only a remnant. Background is never rejected.

    Args:
      logits: `[1, h, w, objects]`.
      previous: int32 `[h, w]` object indices of the last frame.
      object_ids: int32 `[objects]`; 0 is the background, which not every video has.
      radius: in pixels of the grid, horizontally and vertically.
    """
    num_objects = tf.shape(logits)[-1]
    winners = tf.argmax(logits[0], -1, output_type=tf.int32)
    # The objects are the batch: [objects, h, w, 1], 0 or 1.
    masks, before = (
        object_labels.one_hot(indices, num_objects)[..., tf.newaxis]
        for indices in (winners, previous)
    )
    near = _dilated(before, radius)
    kept = _connected(masks, masks * near)
    areas = [tf.reduce_sum(part, [1, 2, 3], keepdims=True) for part in (kept, masks - kept)]
    is_object = tf.reshape(object_ids != 0, [-1, 1, 1, 1])
    far = (masks > kept) & is_object & (areas[0] >= areas[1])
    lowest = tf.reduce_min(logits, -1, keepdims=True) - _MARGIN
    return tf.where(tf.transpose(far, [3, 1, 2, 0]), lowest, logits)


def _dilated(masks: tf.Tensor, radius: int) -> tf.Tensor:
    """Returns the masks dilated by a square of `radius` pixels in each direction."""
    size = 2 * radius + 1
    for window in ((size, 1), (1, size)):
        masks = tf.nn.max_pool2d(masks, window, 1, "SAME")
    return masks


def _connected(masks: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Returns the parts of the masks that are connected to the seeds, which lie in the masks."""

    def grow(grown: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        after = grown
        for _ in range(_STEPS_AT_ONCE):
            after = masks * _dilated(after, 1)
        return after, tf.reduce_any(after != grown)

    grown, _ = tf.while_loop(lambda _, has_grown: has_grown, grow, (seeds, tf.constant(True)))
    return grown

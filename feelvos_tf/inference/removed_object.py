"""Takes an object out of a video: from then on it is background."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.inference import reference_pixels
from feelvos_tf.inference.predictor_state import PredictorState, ScaleState
from feelvos_tf.models.features import Previous
from feelvos_tf.models.object_labels import NO_OBJECT


def remove(state: PredictorState, object_id: tf.Tensor, max_pixels: tf.Tensor) -> PredictorState:
    """Returns the state without an object.

    Its reference pixels and its pixels in the last frame become the background's, as if the object
    had never been marked. Where the video has no background they are left out.

    Args:
      state: after any frame.
      object_id: int32 scalar, one of the state's, not 0.
      max_pixels: int32 scalar, reference pixels that an object keeps of all frames (0: all).
    """
    stays = state.object_ids != object_id
    object_ids = tf.boolean_mask(state.object_ids, stays)
    has_background = state.object_ids[0] == 0
    # The background is the first of the objects.
    heir = tf.where(has_background, 0, NO_OBJECT)
    renumbered = tf.where(stays, tf.cumsum(tf.cast(stays, tf.int32)) - 1, heir)
    at_scales = tuple(
        _remove_at_scale(at_scale, stays, renumbered, has_background, max_pixels)
        for at_scale in state.scales
    )
    return PredictorState(object_ids, state.previous_is_reference, at_scales)


def _remove_at_scale(
    state: ScaleState,
    stays: tf.Tensor,
    renumbered: tf.Tensor,
    has_background: tf.Tensor,
    max_pixels: tf.Tensor,
) -> ScaleState:
    """Returns the state of one scale without an object.

    Args:
      state: before.
      stays: bool `[objects before]`.
      renumbered: int32 `[objects before]`, the new index of each, or `NO_OBJECT`.
      has_background: bool scalar.
      max_pixels: see `remove`.
    """
    reference, (embeddings, indices, masks) = state
    of_pixels = tf.gather(renumbered, reference_pixels.owners(reference))
    left = of_pixels != NO_OBJECT
    count = tf.math.count_nonzero(stays, dtype=tf.int32)
    reference = reference_pixels.grouped(
        tf.boolean_mask(reference.embeddings, left),
        tf.boolean_mask(of_pixels, left),
        count,
        max_pixels,
    )
    renamed = tf.gather(renumbered, tf.maximum(indices, 0))
    indices = tf.where(indices == NO_OBJECT, NO_OBJECT, renamed)
    freed = tf.reduce_sum(tf.boolean_mask(masks, ~stays), 0)
    masks = tf.boolean_mask(masks, stays)
    inherits = has_background & (tf.range(count) == 0)
    masks += tf.where(inherits[:, tf.newaxis, tf.newaxis], freed, 0.0)
    return ScaleState(reference, Previous(embeddings, indices, masks))

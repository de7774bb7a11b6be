"""Corrects the last frame's labels, and takes it as a further reference, without a network pass."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.inference import added_objects, reference_pixels
from feelvos_tf.inference.predictor_state import PredictorState, ScaleState
from feelvos_tf.models import object_labels
from feelvos_tf.models.object_labels import NO_OBJECT


def correct(
    state: PredictorState,
    mask: tf.Tensor,
    scales: tuple[float, ...],
    prepare_reference: added_objects.PrepareReference,
    max_pixels: tf.Tensor,
) -> PredictorState:
    """Returns the state in which the last frame has the labels of `mask`.

    Where the mask says something, its labels replace those of the last frame, and its pixels join
    the reference pixels of their objects. As long as the last frame is the first, the pixels
    replace what was given before: it is as if the video had been started with the corrected mask.

    Args:
      state: after any frame.
      mask: uint8 `[height, width]` ids that the state knows, 0 being the background; void, and
        ids that it does not know, say nothing.
      scales: of the image pyramid.
      prepare_reference: see `added_objects.add_objects`.
      max_pixels: int32 scalar, reference pixels that an object keeps of all frames (0: all).
    """
    num_objects = tf.size(state.object_ids)
    full = object_labels.to_indices(mask, state.object_ids)
    marked_indices = tf.sort(tf.unique(tf.boolean_mask(full, full != NO_OBJECT))[0])
    replaced = tf.fill([num_objects], state.previous_is_reference)

    def correct_at_scale(at_scale: ScaleState, scale: float) -> ScaleState:
        previous, is_marked = added_objects.marked(at_scale.previous, full, marked_indices, scale)
        is_given = is_marked | state.previous_is_reference
        given = tf.where(is_given, previous.indices, NO_OBJECT)
        added = prepare_reference(previous.embeddings, given, num_objects)
        reference = reference_pixels.joined(at_scale.reference, added, replaced, max_pixels)
        return ScaleState(reference, previous)

    at_scales = tuple(correct_at_scale(*each) for each in zip(state.scales, scales))
    return PredictorState(state.object_ids, state.previous_is_reference, at_scales)

"""Adds objects to a video that is being segmented, without running the network again.

The embeddings of the frame in which they are given are in the state already, and all objects share
one softmax. The paper knows objects of the first frame only; YouTube-VOS has others.
"""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.inference import multi_scale, reference_pixels
from feelvos_tf.inference.predictor_state import PredictorState, ScaleState
from feelvos_tf.models import object_labels
from feelvos_tf.models.features import Previous
from feelvos_tf.models.global_matching import Reference
from feelvos_tf.models.object_labels import NO_OBJECT

PrepareReference = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Reference]


def add_objects(
    state: PredictorState,
    mask: tf.Tensor,
    scales: tuple[float, ...],
    prepare_reference: PrepareReference,
    max_pixels: tf.Tensor,
) -> PredictorState:
    """Returns the state in which the last frame holds the objects of `mask` as well.

    * Ids that are new get the reference pixels that the mask gives them in the last frame.
    * Ids that exist keep their reference pixels.
    * What the mask marks replaces the last frame's labels; 0 and void say nothing.
    * The background keeps the pixels of the first frame as its reference. As long as the last frame
      is the first, it gives up those that the mask marks: objects added there are followed as if
      they had been in the first mask. Later there is no such choice: whether an object was to be
      seen in the first frame, and where, is not known.

    Args:
      state: after any frame.
      mask: uint8 `[height, width]` ids, of the frames' size.
      scales: of the image pyramid.
      prepare_reference: embeddings `[h, w, channels]`, object indices `[h, w]` and the number of
        objects -> reference.
      max_pixels: int32 scalar, reference pixels that an object keeps of all frames (0: all).
    """
    pixels = tf.boolean_mask(mask, (mask != 0) & (mask != VOID))
    marked_ids = tf.unique(tf.cast(pixels, tf.int32))[0]
    object_ids = tf.sort(tf.unique(tf.concat([state.object_ids, marked_ids], 0))[0])
    known = tf.searchsorted(object_ids, state.object_ids)
    is_new = tf.reduce_all(object_ids[:, tf.newaxis] != state.object_ids, 1)
    gives_up = (object_ids == 0) & state.previous_is_reference
    full = object_labels.to_indices(
        tf.where(mask == 0, tf.cast(VOID, mask.dtype), mask), object_ids
    )
    marked_indices = tf.sort(tf.searchsorted(object_ids, marked_ids))

    def add_at_scale(at_scale: ScaleState, scale: float) -> ScaleState:
        before = _renumbered(at_scale, known, tf.size(object_ids))
        previous, _ = marked(before.previous, full, marked_indices, scale)
        owner = tf.maximum(previous.indices, 0)
        renewed = (previous.indices != NO_OBJECT) & tf.gather(is_new | gives_up, owner)
        given = tf.where(renewed, previous.indices, NO_OBJECT)
        added = prepare_reference(previous.embeddings, given, tf.size(object_ids))
        reference = reference_pixels.joined(before.reference, added, gives_up, max_pixels)
        return ScaleState(reference, previous)

    at_scales = tuple(add_at_scale(*each) for each in zip(state.scales, scales))
    return PredictorState(object_ids, state.previous_is_reference, at_scales)


def _renumbered(state: ScaleState, known: tf.Tensor, num_objects: tf.Tensor) -> ScaleState:
    """Returns the state with room for new objects.

    Args:
      state: at one scale.
      known: int32 `[objects before]`, ascending new indices of the objects.
      num_objects: int32 scalar, after.
    """
    reference, previous = state
    sizes = reference.offsets[1:] - reference.offsets[:-1]
    sizes = tf.scatter_nd(known[:, tf.newaxis], sizes, [num_objects])
    offsets = tf.concat([[0], tf.cumsum(sizes)], 0)
    renumbered = tf.gather(known, tf.maximum(previous.indices, 0))
    indices = tf.where(previous.indices == NO_OBJECT, NO_OBJECT, renumbered)
    shape = tf.concat([[num_objects], tf.shape(previous.masks)[1:]], 0)
    masks = tf.scatter_nd(known[:, tf.newaxis], previous.masks, shape)
    return ScaleState(
        Reference(reference.embeddings, offsets), Previous(previous.embeddings, indices, masks)
    )


def marked(
    previous: Previous, full: tf.Tensor, marked_indices: tf.Tensor, scale: float
) -> tuple[Previous, tf.Tensor]:
    """Returns the last frame with the labels and masks of what is marked replaced, and where.

    Args:
      previous: the last frame at one scale.
      full: int32 `[height, width]` object indices, `NO_OBJECT` where nothing is marked.
      marked_indices: int32, the objects that are marked somewhere.
      scale: of the frame.

    Returns:
      previous: the last frame.
      is_marked: bool `[h, w]`.
    """
    grid = tf.shape(previous.indices)
    given, scaled = multi_scale.downsample_marked_at_scale(full, marked_indices, scale, grid)
    indices = tf.where(given == NO_OBJECT, previous.indices, given)
    indices = object_labels.keep_objects(scaled, indices, marked_indices)
    is_marked = (given != NO_OBJECT) | (indices != previous.indices)
    one_hot = object_labels.one_hot(indices, tf.shape(previous.masks)[0])
    masks = tf.where(is_marked, one_hot, previous.masks)
    return Previous(previous.embeddings, indices, masks), is_marked

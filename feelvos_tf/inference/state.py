"""The state of a video between frames, its memory, and its edits: adding, correcting, removing.

No edit runs the network: the embeddings of the last frame are already in the state, and all objects
share one softmax. In the paper all objects appear in the first frame; in YouTube-VOS some appear
later.

Functions take and return the state as a `PredictorState`. A SavedModel takes and returns a flat
dict of named tensors; with several scales, the entries of the second end in `_scale_1`, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.resizing import resize_bilinear
from feelvos_tf.inference import multi_scale
from feelvos_tf.inference.reference_pixels import chosen, grouped, joined
from feelvos_tf.models import object_labels
from feelvos_tf.models.feelvos import Previous
from feelvos_tf.models.global_matching import (
    NO_PIXEL_DISTANCE,
    Reference,
    global_distances_inference,
    owners,
    prepare_reference,
)
from feelvos_tf.models.object_labels import NO_OBJECT

State = dict[str, tf.Tensor]
# A pixel of the background is taken for one of a new object if its squared distance to it is less
# than this share of that to anything else. On the four videos held out from training, if the object
# is removed after 8 frames and added again after 10, J of the next 15 is 0.86; without the rule it
# is 0.66, if the object is never removed 0.91. A share of 1 reaches 0.89 there but loses 12 points
# on one of nine clips whose objects are marked late: background that they hide may go with them.
_LIKENESS = 0.6
PrepareReference = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Reference]


class ScaleState(NamedTuple):
    """The part of the state at one scale of the image pyramid.

    Attributes:
      reference: given pixels of every object for global matching. The background's come from the
        first frame, an object's from the frame it was given in, and those of corrections join them.
      previous: the last frame, with its embeddings, labels and masks.
      memory: predicted pixels for global matching; None without a memory.
    """

    reference: Reference
    previous: Previous
    memory: Reference | None = None


class PredictorState(NamedTuple):
    """Everything known about a video; its size does not depend on the number of frames.

    Attributes:
      object_ids: int32 `[objects]`, ascending; 0 is the background.
      previous_is_reference: bool scalar, whether the last frame is the first.
      scales: one entry for each scale.
      frames: int32 scalar, number of frames propagated so far; None without a memory.
    """

    object_ids: tf.Tensor
    previous_is_reference: tf.Tensor
    scales: tuple[ScaleState, ...]
    frames: tf.Tensor | None = None


def to_flat(state: PredictorState) -> State:
    """Returns the state as a flat dict of named tensors."""
    flat = {
        "object_ids": state.object_ids,
        "previous_is_reference": state.previous_is_reference,
    }
    if state.frames is not None:
        flat["frames"] = state.frames
    for position, scale in enumerate(state.scales):
        for part, values in scale._asdict().items():
            for name, value in values._asdict().items() if values is not None else ():
                flat[_flat_name(part, name, position)] = value
    return flat


def from_flat(flat: State, num_scales: int) -> PredictorState:
    """Returns the state that `to_flat` flattened."""

    def part(name: str, kind: type, position: int):
        return kind(*(flat[_flat_name(name, field, position)] for field in kind._fields))

    has_memory = "frames" in flat
    scales = tuple(
        ScaleState(
            part("reference", Reference, position),
            part("previous", Previous, position),
            part("memory", Reference, position) if has_memory else None,
        )
        for position in range(num_scales)
    )
    return PredictorState(
        flat["object_ids"], flat["previous_is_reference"], scales, flat.get("frames")
    )


def flat_specs(channels: int, num_scales: int, has_memory: bool) -> dict[str, tf.TensorSpec]:
    """Returns the specs of a flat state by name, for any frame size and number of objects."""
    spec = tf.TensorSpec
    reference = Reference(spec([None, channels]), spec([None], tf.int32))
    previous = Previous(
        spec([None, None, channels]), spec([None, None], tf.int32), spec([None, None, None])
    )
    scale = ScaleState(reference, previous, reference if has_memory else None)
    frames = spec([], tf.int32) if has_memory else None
    state = PredictorState(spec([None], tf.int32), spec([], tf.bool), (scale,) * num_scales, frames)
    return {name: spec(each.shape, each.dtype, name) for name, each in to_flat(state).items()}


def _flat_name(part: str, field: str, position: int) -> str:
    suffix = f"_scale_{position}" if position else ""
    return f"{part}_{field}{suffix}"


def add_objects(
    state: PredictorState,
    mask: tf.Tensor,
    scales: tuple[float, ...],
    make_reference: PrepareReference,
    max_pixels: tf.Tensor,
) -> PredictorState:
    """Returns the state after adding the objects of `mask` to the last frame.

    * New ids get the reference pixels that the mask marks in the last frame.
    * Known ids keep their reference pixels.
    * Marked pixels replace the last frame's labels; 0 and void leave them unchanged.
    * The background keeps the pixels of the first frame as its reference. While the last frame is
      still the first, it gives up those that the mask marks: objects added there are followed as
      if they had been in the first mask. Later it gives up those, here and in the memory, that
      look far more like a new object than like anything else in the last frame: the object may
      have been visible before it was marked.

    Args:
      state: after any frame.
      mask: uint8 `[height, width]` ids, of the frames' size.
      scales: of the image pyramid.
      make_reference: embeddings `[h, w, channels]`, object indices `[h, w]` and object ids
        `[objects]` -> reference.
      max_pixels: int32 scalar, reference pixels that an object keeps from all frames (0: all).
    """
    marked = tf.where(mask == 0, tf.cast(VOID, mask.dtype), mask)
    marked_ids = object_labels.present_ids(marked)
    object_ids = object_labels.present_ids(tf.concat([state.object_ids, marked_ids], 0))
    known = tf.searchsorted(object_ids, state.object_ids)
    is_new = tf.reduce_all(object_ids[:, tf.newaxis] != state.object_ids, 1)
    gives_up = (object_ids == 0) & state.previous_is_reference
    full = object_labels.to_indices(marked, object_ids)
    marked_indices = tf.searchsorted(object_ids, marked_ids)

    def add_at_scale(at_scale: ScaleState, scale: float) -> ScaleState:
        before = _renumbered(at_scale, known, tf.size(object_ids), 0)
        previous, _ = _marked(before.previous, full, marked_indices, scale)
        shown = make_reference(previous.embeddings, previous.indices, object_ids)
        added = chosen(shown, tf.gather(is_new | gives_up, owners(shown)))

        def without_new(pixels: Reference) -> Reference:
            distances = global_distances_inference(pixels.embeddings[tf.newaxis], shown)[:, 0]
            to_new, to_others = (
                tf.reduce_min(tf.boolean_mask(distances, of_objects), 0)
                for of_objects in (is_new, ~is_new)
            )
            looks_new = to_new < _LIKENESS * to_others
            looks_new &= distances[0] < NO_PIXEL_DISTANCE  # Not if all background is hidden.
            return chosen(pixels, ~looks_new | (tf.gather(object_ids, owners(pixels)) != 0))

        reference = joined(without_new(before.reference), added, max_pixels, gives_up)
        memory = None if before.memory is None else without_new(before.memory)
        return ScaleState(reference, previous, memory)

    at_scales = tuple(add_at_scale(*each) for each in zip(state.scales, scales))
    return state._replace(object_ids=object_ids, scales=at_scales)


def _renumbered(
    state: ScaleState, new_indices: tf.Tensor, num_objects: tf.Tensor, max_pixels: tf.Tensor | int
) -> ScaleState:
    """Returns the state with other object indices.

    Args:
      state: at one scale.
      new_indices: int32 `[objects before]`: the new index of each object, `NO_OBJECT` to drop it.
        Those with the same one are merged.
      num_objects: int32 scalar, from now on.
      max_pixels: see `grouped`.
    """
    reference, (embeddings, indices, masks), memory = state

    def renumbered(pixels: Reference) -> Reference:
        of_pixels = tf.gather(new_indices, owners(pixels))
        left = of_pixels != NO_OBJECT
        pixels, of_pixels = (tf.boolean_mask(e, left) for e in (pixels.embeddings, of_pixels))
        return grouped(pixels, of_pixels, num_objects, max_pixels)

    new = tf.gather(new_indices, tf.maximum(indices, 0))
    indices = tf.where(indices == NO_OBJECT, NO_OBJECT, new)
    # Ignores negative indices.
    masks = tf.math.unsorted_segment_sum(masks, new_indices, num_objects)
    memory = None if memory is None else renumbered(memory)
    return ScaleState(renumbered(reference), Previous(embeddings, indices, masks), memory)


def _marked(
    previous: Previous, full: tf.Tensor, marked_indices: tf.Tensor, scale: float
) -> tuple[Previous, tf.Tensor]:
    """Returns the last frame with the labels and masks of marked pixels replaced.

    Args:
      previous: the last frame at one scale.
      full: int32 `[height, width]` object indices, `NO_OBJECT` where nothing is marked.
      marked_indices: int32 `[marked objects]`, the indices that occur in `full`.
      scale: of the frame.

    Returns:
      previous: the last frame.
      is_marked: bool `[h, w]`, the pixels that were marked.
    """
    grid = tf.shape(previous.indices)
    # A mark between the points of the grid counts, even if its object has other points.
    given = multi_scale.downsample_given(full, marked_indices, scale, grid)
    is_marked = given != NO_OBJECT
    indices = tf.where(is_marked, given, previous.indices)
    one_hot = object_labels.one_hot(indices, tf.shape(previous.masks)[0])
    masks = tf.where(is_marked, one_hot, previous.masks)
    return Previous(previous.embeddings, indices, masks), is_marked


def correct(
    state: PredictorState,
    mask: tf.Tensor,
    scales: tuple[float, ...],
    make_reference: PrepareReference,
    max_pixels: tf.Tensor,
) -> PredictorState:
    """Returns the state with the last frame corrected by `mask`.

    Marked labels replace those of the last frame, and the marked pixels join the reference pixels
    of their objects. While the last frame is still the first, they replace all earlier ones, as if
    the video had been started with the corrected mask. The memory is emptied.

    Args:
      state: after any frame.
      mask: uint8 `[height, width]` ids of the state, 0 for background; void and unknown ids mark
        nothing.
      scales: of the image pyramid.
      make_reference: see `add_objects`.
      max_pixels: int32 scalar, reference pixels that an object keeps from all frames (0: all).
    """
    num_objects = tf.size(state.object_ids)
    full = object_labels.to_indices(mask, state.object_ids)
    marked_indices = tf.sort(tf.unique(tf.boolean_mask(full, full != NO_OBJECT))[0])

    def correct_at_scale(at_scale: ScaleState, scale: float) -> ScaleState:
        previous, is_marked = _marked(at_scale.previous, full, marked_indices, scale)
        is_given = is_marked | state.previous_is_reference
        given = tf.where(is_given, previous.indices, NO_OBJECT)
        added = make_reference(previous.embeddings, given, state.object_ids)
        replaced = state.previous_is_reference
        reference = joined(at_scale.reference, added, max_pixels, replaced)
        memory = None
        if at_scale.memory is not None:  # The remembered pixels may have caused the mistake.
            memory = empty_memory(previous.embeddings.shape[-1], num_objects)
        return ScaleState(reference, previous, memory)

    at_scales = tuple(correct_at_scale(*each) for each in zip(state.scales, scales))
    return state._replace(scales=at_scales)


def remove(state: PredictorState, object_id: tf.Tensor, max_pixels: tf.Tensor) -> PredictorState:
    """Returns the state without an object.

    Its reference pixels and its pixels in the last frame become the background's, as if the object
    had never been marked. Without a background in the video, they are dropped.

    Args:
      state: after any frame.
      object_id: int32 scalar, one of the state's ids, not 0.
      max_pixels: int32 scalar, reference pixels that an object keeps from all frames (0: all).
    """
    stays = state.object_ids != object_id
    object_ids = tf.boolean_mask(state.object_ids, stays)
    heir = tf.where(state.object_ids[0] == 0, 0, NO_OBJECT)  # The background has index 0.
    new_indices = tf.where(stays, tf.cumsum(tf.cast(stays, tf.int32)) - 1, heir)
    scales = tuple(
        _renumbered(at_scale, new_indices, tf.size(object_ids), max_pixels)
        for at_scale in state.scales
    )
    return state._replace(object_ids=object_ids, scales=scales)


def empty_memory(channels: int, num_objects: tf.Tensor) -> Reference:
    """Returns the memory of a video that has just begun."""
    # Zero pixels, but of unknown static shape, so that loops may change it.
    none = tf.zeros([0 * num_objects, channels])
    return Reference(none, tf.zeros([num_objects + 1], tf.int32))


def remember(
    state: PredictorState,
    probabilities: tf.Tensor,
    every: int,
    pixels_per_frame: tf.Tensor,
    max_pixels: tf.Tensor,
    min_probability: float,
) -> PredictorState:
    """Returns the state after one more frame, with some of its confident pixels in the memory.

    With its own confident predictions as additional references, a network can follow objects that
    change. STM (Oh et al., ICCV 2019) and its successors use a second encoder for this; here global
    matching takes any pixels. The given reference pixels are kept as well.

    Args:
      state: with the frame as its last one.
      probabilities: float32 `[1, h, w, objects]` of the frame.
      every: every n-th frame is remembered.
      pixels_per_frame: int32 `[objects]`, pixels of each object to remember, drawn at random.
      max_pixels: int32 `[objects]`, pixels of each object to keep; above it all frames are thinned
        equally, so that earlier ones fade.
      min_probability: least probability of a remembered pixel.
    """
    frames = state.frames + 1
    num_objects = tf.size(state.object_ids)

    def remember_at_scale(at_scale: ScaleState) -> Reference:
        _, (embeddings, indices, _), memory = at_scale
        at_grid = resize_bilinear(probabilities, tf.shape(indices))[0]
        of_winner = tf.gather(at_grid, tf.maximum(indices, 0), batch_dims=2)
        chosen = tf.where(of_winner >= min_probability, indices, NO_OBJECT)
        # Reproducible, so that a restored state gives the same results.
        seed = tf.stack([frames, 0])
        added = prepare_reference(embeddings, chosen, num_objects, pixels_per_frame, seed)
        return joined(memory, added, max_pixels)

    memories = tf.cond(
        frames % every == 0,
        lambda: tuple(map(remember_at_scale, state.scales)),
        lambda: tuple(at_scale.memory for at_scale in state.scales),
    )
    scales = tuple(
        at_scale._replace(memory=memory) for at_scale, memory in zip(state.scales, memories)
    )
    return state._replace(scales=scales, frames=frames)


def matched(state: ScaleState) -> Reference:
    """Returns all pixels for global matching: the given ones and the memory."""
    if state.memory is None:
        return state.reference
    return joined(state.reference, state.memory)

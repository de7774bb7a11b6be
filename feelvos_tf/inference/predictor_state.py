"""The state of a video between two frames, and its form as a flat dict of named tensors.

A SavedModel takes and gives the flat form. Of several scales each has entries of its own: those of
the second scale end in `_scale_1`, and so on.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.models.features import Previous
from feelvos_tf.models.global_matching import Reference

State = dict[str, tf.Tensor]


class ScaleState(NamedTuple):
    """What is known at one scale of the image pyramid.

    Attributes:
      reference: the pixels of every object that frames are compared with globally. All of the
        background are from the first frame, those of an object from the frame it was given in.
      previous: the last frame, with its embeddings, labels and masks.
    """

    reference: Reference
    previous: Previous


class PredictorState(NamedTuple):
    """What is known of a video; its size does not depend on the number of frames.

    Attributes:
      object_ids: int32 `[objects]`, ascending; 0 is the background.
      previous_is_reference: bool scalar: no frame was segmented yet, the last one is the first.
      scales: one for each scale.
    """

    object_ids: tf.Tensor
    previous_is_reference: tf.Tensor
    scales: tuple[ScaleState, ...]


def to_flat(state: PredictorState) -> State:
    """Returns the state as a flat dict of named tensors."""
    flat = {
        "object_ids": state.object_ids,
        "previous_is_reference": state.previous_is_reference,
    }
    for position, scale in enumerate(state.scales):
        for part, values in scale._asdict().items():
            for name, value in values._asdict().items():
                flat[_flat_name(part, name, position)] = value
    return flat


def from_flat(flat: State, num_scales: int) -> PredictorState:
    """Returns the state that `to_flat` has flattened."""

    def part(name: str, kind: type, position: int):
        return kind(*(flat[_flat_name(name, field, position)] for field in kind._fields))

    scales = tuple(
        ScaleState(part("reference", Reference, position), part("previous", Previous, position))
        for position in range(num_scales)
    )
    return PredictorState(flat["object_ids"], flat["previous_is_reference"], scales)


def flat_specs(channels: int, num_scales: int) -> dict[str, tf.TensorSpec]:
    """Returns shape, type and name of every entry of a flat state, for any size and objects."""
    scale = ScaleState(
        Reference(tf.TensorSpec([None, channels]), tf.TensorSpec([None], tf.int32)),
        Previous(
            tf.TensorSpec([None, None, channels]),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None, None]),
        ),
    )
    state = PredictorState(
        tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.bool), (scale,) * num_scales
    )
    return {
        name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in to_flat(state).items()
    }


def _flat_name(part: str, field: str, position: int) -> str:
    suffix = f"_scale_{position}" if position else ""
    return f"{part}_{field}{suffix}"

"""The functions of a predictor as signatures of a SavedModel, for TensorFlow Serving.

A signature takes and returns tensors by name. The state, a dict for the functions, becomes separate
inputs and outputs: `previous_masks` and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor

_WITH_STATE = ("step", "add_objects", "correct", "remove")
# Negative: `correct` keeps the model's own bound.
_BOUND_OF_MODEL = -1


def signatures(predictor: Predictor) -> dict[str, Any]:
    """Returns name -> function with an input signature.

    They are traced while the SavedModel is written, along with the predictor's own functions. If
    they were traced earlier, the file would contain each of them twice.

    * `start`: image, mask -> state
    * `step`: image, state -> ids, probabilities, state
    * `add_objects`, `correct`: mask, state -> state
    * `remove`: object_id, state -> state
    * `segment_clip`, also the default: images, mask -> ids

    The state's names are those of `feelvos_tf/inference/state.py`. See the methods of `Predictor`.
    """
    found = {name: _with_state(predictor, name) for name in _WITH_STATE}
    found["start"] = _untraced(predictor.start, predictor.start.input_signature)
    found["segment_clip"] = _untraced(
        lambda images, mask: {"ids": predictor.segment_clip(images, mask)},
        predictor.segment_clip.input_signature,
    )
    return {**found, "serving_default": found["segment_clip"]}


def _with_state(predictor: Predictor, name: str) -> Any:
    """Returns the signature of a function that takes a state."""
    function = getattr(predictor, name)
    own, state = function.input_signature[:2]

    def flat(first: tf.Tensor, *before: tf.Tensor) -> dict[str, tf.Tensor]:
        more = [tf.constant(_BOUND_OF_MODEL)] if name == "correct" else []
        result = function(first, dict(zip(state, before)), *more)
        if name != "step":
            return result
        ids, probabilities, after = result
        return {"ids": ids, "probabilities": probabilities, **after}

    return _untraced(flat, [own, *state.values()])


def _untraced(function: Any, specs: Sequence[tf.TensorSpec]) -> Any:
    return tf.function(function, input_signature=specs, autograph=False)

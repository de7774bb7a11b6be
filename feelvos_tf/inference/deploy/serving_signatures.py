"""The functions of a predictor as signatures of a SavedModel, for TensorFlow Serving.

A signature takes and gives tensors by name: what the functions take as a dict, the state of a
video, are inputs and outputs of their own there, `previous_masks` and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor

# Of the functions that take a state; all give one. What they take before it:
_WITH_STATE = {
    "step": ("image",),
    "add_objects": ("mask",),
    "correct": ("mask",),
    "remove": ("object_id",),
}
# Whatever the setting says: a server that has no bound of its own.
_BOUND_OF_MODEL = -1


def signatures(predictor: Predictor) -> dict[str, Any]:
    """Returns name -> function with an input signature.

    They are traced while the SavedModel is written, where the predictor's own functions are traced
    as well; traced before, each of them would be in the file twice.

    * `start`: image, mask -> state
    * `step`: image, state -> ids, probabilities, state
    * `add_objects`, `correct`: mask, state -> state
    * `remove`: object_id, state -> state
    * `segment_clip`, also the default: images, mask -> ids

    A state has the names of `feelvos_tf/inference/state.py`. See the functions of `Predictor`.
    """
    found = {name: _with_state(predictor, name) for name in _WITH_STATE}
    image, mask = predictor.start.input_signature
    found["start"] = _named(predictor.start, {"image": image, "mask": mask})
    images, mask = predictor.segment_clip.input_signature
    found["segment_clip"] = _named(
        lambda images, mask: {"ids": predictor.segment_clip(images, mask)},
        {"images": images, "mask": mask},
    )
    return {**found, "serving_default": found["segment_clip"]}


def _with_state(predictor: Predictor, name: str) -> Any:
    """Returns one of the functions that take a state."""
    function = getattr(predictor, name)
    own = dict(zip(_WITH_STATE[name], function.input_signature))
    state = function.input_signature[1]

    def flat(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        arguments, before = inputs[: len(own)], dict(zip(state, inputs[len(own) :]))
        more = [tf.constant(_BOUND_OF_MODEL)] if name == "correct" else []
        result = function(*arguments, before, *more)
        if name != "step":
            return result
        ids, probabilities, after = result
        return {"ids": ids, "probabilities": probabilities, **after}

    return _named(flat, {**own, **state})


def _named(function: Any, specs: dict[str, tf.TensorSpec]) -> Any:
    named = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()]
    return tf.function(function, input_signature=named, autograph=False)

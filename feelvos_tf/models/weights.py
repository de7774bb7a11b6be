"""Loads the weights of a training, converted or release checkpoint into a model.

Checkpoints store weights under their names in the release, so that they do not depend on how Keras
arranges its layers. The keys of the variable MobilenetV2/Conv/weights are

    weights/MobilenetV2.SConv.Sweights              in training and converted checkpoints,
    average/averages/MobilenetV2.SConv.Sweights     in training ones, for its moving average,

each followed by /.ATTRIBUTES/VARIABLE_VALUE, and its plain name in those of release and DeepLab.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import (
    check_shape,
    read_shapes,
    read_tensor,
    release_names,
)

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def load_weights(model: Feelvos, prefix: str) -> None:
    """Sets all variables of `model`, or none, to their values in a checkpoint.

    If training kept a moving average of the weights, it is loaded instead of the weights.

    Args:
      model: with its variables created and its batch norm not fused.
      prefix: of the checkpoint: the path without `.index`.

    Raises:
      InputError: the checkpoint cannot be read or does not fit the model, or the model has no
        weights with names in the release.
    """
    shapes = read_shapes(prefix)
    variables = release_names(model)
    if not variables:
        raise InputError(
            f"{prefix}: expected a model of layers from feelvos_tf/models/layers.py to load "
            f"weights into, found none in {type(model).__name__}"
        )
    keys = [key_of(name, v, shapes, prefix) for name, v in variables.items()]
    reader = tf.train.load_checkpoint(prefix)
    values = [read_tensor(prefix, reader, key) for key in keys]
    for variable, value in zip(variables.values(), values):
        variable.assign(value)


def checkpoint_of(
    named_variables: Mapping[str, tf.Variable], **others: tf.Module | tf.Variable
) -> tf.train.Checkpoint:
    """Returns the checkpoint that training and conversion write.

    Args:
      named_variables: all variables of the model by their names in the 2019 release.
      **others: further objects to save.
    """
    return tf.train.Checkpoint(weights=dict(named_variables), **others)


def key_of(name: str, variable: tf.Variable, shapes: Mapping[str, list[int]], prefix: str) -> str:
    """Returns the key of a variable in a checkpoint.

    Args:
      name: of the variable in the 2019 release.
      variable: whose shape the checkpoint must have.
      shapes: of everything in the checkpoint, from `read_shapes`.
      prefix: of the checkpoint, for the message.

    Raises:
      InputError: the checkpoint lacks the variable or has it in another shape.
    """
    # As TensorFlow escapes the key of a dictionary in a checkpoint.
    escaped = name.replace(".", "..").replace("/", ".S") + _VALUE
    keys = (f"average/averages/{escaped}", f"weights/{escaped}", name)
    key = next((key for key in keys if key in shapes), name)
    expected = f"{prefix}: expected a checkpoint of the model as it is configured now,"
    check_shape(variable, name, shapes.get(key), expected)
    return key

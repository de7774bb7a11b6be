"""Loads the weights of a checkpoint into a model: a training's, a converted or a release one.

Checkpoints hold weights by their names in the release, so that they do not depend on how Keras
arranges its layers. The variable MobilenetV2/Conv/weights is called

    weights/MobilenetV2.SConv.Sweights                  by trainings and conversions,
    average/averages/MobilenetV2.SConv.Sweights         by trainings, its moving average,
    optimizer/_variables/MobilenetV2.SConv.Sweights     by trainings of version 0.1,
    model/backbone/root/weights                         by them, if they did not train it, and by
                                                        conversions of version 0.1,

each followed by /.ATTRIBUTES/VARIABLE_VALUE, and as it is by the release and DeepLab.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers.walk import convolutions_by_path
from feelvos_tf.models.release_checkpoint import read_shapes, read_tensor

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def load_weights(model: Feelvos, prefix: str, averaged: bool = True) -> None:
    """Gives every variable of `model` its value in a checkpoint; all or none.

    Args:
      model: with its variables created and its batch norm not fused.
      prefix: of the checkpoint: the path without `.index`.
      averaged: where the training kept a moving average of the weights, take that.

    Raises:
      InputError: the checkpoint cannot be read or does not fit the model, or the model holds no
        weights by names of the release.
    """
    shapes = read_shapes(prefix)
    found = [
        (v, _key(name, keys, v, shapes, prefix)) for name, keys, v in _candidates(model, averaged)
    ]
    if not found:
        raise InputError(
            f"{prefix}: expected a model of layers from feelvos_tf/models/layers/ to load weights "
            f"into, found none in {type(model).__name__}"
        )
    reader = tf.train.load_checkpoint(prefix)
    values = [read_tensor(prefix, reader, key) for _, key in found]
    for (variable, _), value in zip(found, values):
        variable.assign(value)


def checkpoint_of(
    named_variables: Mapping[str, tf.Variable], **others: tf.Module | tf.Variable
) -> tf.train.Checkpoint:
    """Returns the checkpoint that trainings and conversions write.

    Args:
      named_variables: all variables of the model by their names in the 2019 release.
      **others: what else is saved.
    """
    return tf.train.Checkpoint(weights=dict(named_variables), **others)


def holds_weights_by_name(keys: Collection[str]) -> bool:
    """Returns whether a checkpoint with these keys is one of `checkpoint_of`."""
    return any(key.startswith("weights/") for key in keys)


def _candidates(model: Feelvos, averaged: bool) -> Iterator[tuple[str, list[str], tf.Variable]]:
    """Yields every variable with its release name and what it may be called in a checkpoint."""
    for path, layer in convolutions_by_path(model):
        for name, variable in layer.release_variables().items():
            place = name[len(layer.scope) + 1 :].replace("BatchNorm/", "norm/")
            escaped = _escaped(name)
            keys = [
                f"weights/{escaped}",
                f"optimizer/_variables/{escaped}",
                f"model/{path}/{place}",
            ]
            if averaged:
                keys.insert(0, f"average/averages/{escaped}")
            yield name, [*(key + _VALUE for key in keys), name], variable


def _escaped(name: str) -> str:
    """Returns `name` as TensorFlow writes the key of a dictionary into a checkpoint."""
    return name.replace(".", "..").replace("/", ".S")


def _key(
    name: str,
    keys: list[str],
    variable: tf.Variable,
    shapes: Mapping[str, list[int]],
    prefix: str,
) -> str:
    """Returns the one of `keys` that the checkpoint holds."""
    key = next((key for key in keys if key in shapes), None)
    shape = variable.shape.as_list()
    if key is None or shapes[key] != shape:
        what = "nothing of that name" if key is None else f"shape {shapes[key]}"
        raise InputError(
            f"{prefix}: expected a checkpoint of the model as it is configured now, with {name} of "
            f"shape {shape}, found {what}; use another checkpoint or the settings of that run"
        )
    return key

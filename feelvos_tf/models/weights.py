"""Loads the weights of a checkpoint into a model: a training's, a converted or a release one.

What the variable MobilenetV2/Conv/weights of the release is called in a checkpoint of

    the release, or DeepLab         MobilenetV2/Conv/weights
    a training with an average      average/averages/MobilenetV2.SConv.Sweights
    a training that trains it       optimizer/_variables/MobilenetV2.SConv.Sweights
    a training that does not,       model/backbone/root/weights
    and in a converted checkpoint

(the last three followed by /.ATTRIBUTES/VARIABLE_VALUE).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers.walk import convolutions_by_path
from feelvos_tf.models.release_checkpoint import read_shapes, read_tensor

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def load_weights(model: Feelvos, prefix: str) -> None:
    """Gives every variable of `model` its value in a checkpoint; all or none.

    Where the training kept a moving average of the weights, it is the average that counts.

    Args:
      model: with its variables created and its batch norm not folded.
      prefix: of the checkpoint: the path without `.index`.

    Raises:
      InputError: the checkpoint cannot be read or does not fit the model.
    """
    shapes = read_shapes(prefix)
    found = [(v, _key(name, keys, v, shapes, prefix)) for name, keys, v in _candidates(model)]
    reader = tf.train.load_checkpoint(prefix)
    values = [read_tensor(prefix, reader, key) for _, key in found]
    for (variable, _), value in zip(found, values):
        variable.assign(value)


def _candidates(model: Feelvos) -> Iterator[tuple[str, list[str], tf.Variable]]:
    """Yields every variable with its release name and what it may be called in a checkpoint."""
    for path, layer in convolutions_by_path(model):
        for name, variable in layer.release_variables().items():
            place = name[len(layer.scope) + 1 :].replace("BatchNorm/", "norm/")
            keys = [
                f"average/averages/{_escaped(name)}",
                f"optimizer/_variables/{_escaped(name)}",
                f"model/{path}/{place}",
            ]
            yield name, [name, *(key + _VALUE for key in keys)], variable


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

"""Reads and writes checkpoints with the variable names of the 2019 release and of DeepLab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers import convolutions_of

# Prefixes of the names of DeepLab's layers after the backbone, which the release restores only on
# request (2019 release, deeplab/model.get_extra_layer_scopes).
LAST_LAYERS = ("logits", "image_pooling", "aspp", "concat_projection", "decoder")
_NEVER_RESTORED = ("logits",)
_STEP = "global_step"
# Not variables of the model: the step counter, and what optimizers and averages keep per variable.
_BOOKKEEPING = (_STEP, "Momentum", "Adam", "Adam_1", "ExponentialMovingAverage")


class DamagedCheckpointError(InputError):
    """A checkpoint cannot be read from beginning to end."""


class Restored(NamedTuple):
    """How a checkpoint and a model matched, by names in the 2019 release.

    Attributes:
      matched: variables that were set.
      missing: variables of the model that the checkpoint lacks or that were left out.
      unused: variables of the checkpoint that the model lacks or that were left out.
      ignored: other contents of the checkpoint: optimizer slots, averages, the step.
    """

    matched: list[str]
    missing: list[str]
    unused: list[str]
    ignored: list[str]


def release_names(model: tf.keras.layers.Layer) -> dict[str, tf.Variable]:
    """Returns the variables of a model, or of a part of it, by their names in the 2019 release."""
    names = {}
    for layer in convolutions_of(model):
        names.update(layer.release_variables())
    return names


def read_shapes(prefix: str) -> dict[str, list[int]]:
    """Returns name -> shape of everything in the checkpoint.

    Raises:
      InputError: there is no readable checkpoint with this prefix.
    """
    try:
        return dict(tf.train.list_variables(prefix))
    except (tf.errors.OpError, ValueError) as error:
        raise InputError(
            f"{prefix}: expected the prefix of a TensorFlow checkpoint "
            "(PREFIX.index and PREFIX.data-*), found none that can be read"
        ) from error


def read_tensor(prefix: str, reader: tf.train.CheckpointReader, name: str) -> np.ndarray:
    """Returns a tensor of the checkpoint `prefix`, which `reader` has opened.

    Raises:
      DamagedCheckpointError: the file is damaged.
    """
    try:
        return reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise DamagedCheckpointError(
            f"{prefix}: expected a complete checkpoint, found {name} unreadable ({error})"
        ) from error


def check_shape(
    variable: tf.Variable, name: str, found: Sequence[int] | None, expected: str
) -> None:
    """Raises InputError unless a variable has the shape that was found for its name.

    Args:
      variable: of a model.
      name: of the variable in the 2019 release.
      found: shape; None if there was nothing of that name.
      expected: where, and what was expected there, e.g. "ckpt-5: expected a checkpoint".
    """
    shape = variable.shape.as_list()
    if found is None or list(found) != shape:
        what = "nothing of that name" if found is None else f"shape {list(found)}"
        raise InputError(f"{expected} with {name} of shape {shape}, found {what}")


def _is_bookkeeping(name: str) -> bool:
    return name.rsplit("/", 1)[-1] in _BOOKKEEPING


def read_global_step(prefix: str) -> int:
    """Returns the training step at which the checkpoint was written, 0 if it holds none."""
    reader = tf.train.load_checkpoint(prefix)
    return int(reader.get_tensor(_STEP)) if reader.has_tensor(_STEP) else 0


def write(model: Feelvos, prefix: str, global_step: int = 0) -> None:
    """Writes the model's weights so that the 2019 release can read them."""
    variables = release_names(model).items()
    tensors = {name: tf.convert_to_tensor(variable) for name, variable in variables}
    tensors[_STEP] = tf.constant(global_step, tf.int64)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )


def restore(
    model: Feelvos, prefix: str, leave_out: tuple[str, ...] = (), may_differ: tuple[str, ...] = ()
) -> Restored:
    """Sets the model's variables from a checkpoint and returns what matched.

    Args:
      model: with its variables created.
      prefix: of the checkpoint.
      leave_out: variables whose names start with one of these stay as they are.
      may_differ: variables whose names start with one of these stay as they are if the checkpoint
        has another shape; otherwise that is an error.

    Raises:
      InputError: the checkpoint cannot be read or a shape differs.
    """
    shapes, variables = read_shapes(prefix), release_names(model)
    reader = tf.train.load_checkpoint(prefix)
    matched = []
    for name, variable in variables.items():
        if name not in shapes or name.startswith(leave_out):
            continue
        if name.startswith(may_differ) and shapes[name] != variable.shape.as_list():
            continue
        check_shape(variable, name, shapes[name], f"{prefix}: expected a checkpoint")
        variable.assign(read_tensor(prefix, reader, name))
        matched.append(name)
    done = set(matched)
    return Restored(
        matched,
        [name for name in variables if name not in done],
        [name for name in shapes if name not in done and not _is_bookkeeping(name)],
        [name for name in shapes if _is_bookkeeping(name)],
    )


def initialize_from_deeplab(
    model: Feelvos, prefix: str, initialize_last_layer: bool = False
) -> Restored:
    """Sets variables from a DeepLab checkpoint, as the release does, and returns what matched.

    Reproduction trap: by default only the backbone is restored; ASPP, decoder and logits are not.

    Args:
      model, prefix: see `restore`.
      initialize_last_layer: also restore ASPP and decoder, where the shapes agree.

    Raises:
      InputError: the checkpoint cannot be read, or it lacks a variable of the backbone or has it in
        another shape.
    """
    leave_out = _NEVER_RESTORED if initialize_last_layer else LAST_LAYERS
    restored = restore(model, prefix, leave_out, may_differ=LAST_LAYERS)
    backbone = release_names(model.backbone)
    missing = [name for name in restored.missing if name in backbone]
    if missing:
        raise InputError(
            f"{prefix}: expected all {len(backbone)} variables of a {model.backbone.name} "
            f"backbone, found {len(backbone) - len(missing)} of them; {missing[0]} is missing"
        )
    return restored

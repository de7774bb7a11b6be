"""A model's weights in one small file: half the size of float32, readable without TensorFlow.

The file is an .npz archive with one array per variable, named as in the 2019 release. Kernels,
which make up nearly all of it, are float16; vectors (biases and those of batch norm) stay float32,
because a variance may be too large or too small for float16.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from feelvos_tf.core import atomic_files, whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import check_shape, release_names


class Rounding(NamedTuple):
    """The effect of rounding weights to float16.

    Attributes:
      variable: the one with the largest difference.
      difference: the largest difference, relative to the variable's largest value.
      parameters: number of the model's parameters.
    """

    variable: str
    difference: float
    parameters: int


def write(model: Feelvos, path: str | os.PathLike[str]) -> Rounding:
    """Writes the weights of `model` atomically and returns the rounding error.

    Args:
      model: with its variables created and its batch norm not fused.
      path: of the file, ending in .npz.

    Raises:
      InputError: a weight is not finite, or too large for float16.
    """
    exact = {name: variable.numpy() for name, variable in release_names(model).items()}
    packed = {name: _rounded(value) for name, value in exact.items()}
    differences = {}
    for name, value in packed.items():
        check_finite(path, name, value)
        largest = np.abs(exact[name]).max() or 1.0
        difference = np.abs(value.astype(np.float32) - exact[name]).max()
        differences[name] = float(difference / largest)
    with atomic_files.replacing(path) as temporary:
        np.savez(temporary, **packed)
    worst = max(differences, key=differences.get)
    return Rounding(worst, differences[worst], sum(value.size for value in exact.values()))


def load(model: Feelvos, path: str | os.PathLike[str]) -> None:
    """Sets all variables of `model`, or none, to their values in the file.

    Args:
      model: with its variables created and its batch norm not fused.
      path: of a file that `write` has written.

    Raises:
      InputError: the file is missing, damaged or another model's, or a weight is not finite.
    """
    values = whole_files.read_npz(path, "a complete weights file")
    variables = release_names(model)
    for name, variable in variables.items():
        found = values[name].shape if name in values else None
        expected = f"{path}: expected the weights of the model in the settings next to it,"
        check_shape(variable, name, found, expected)
        check_finite(path, name, values[name])
    for name, variable in variables.items():
        variable.assign(values[name].astype(np.float32))


def _rounded(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # Infinity is reported afterwards.
        return value if value.ndim == 1 else value.astype(np.float16)


def check_all_finite(path: str | os.PathLike[str], variables: Mapping[str, tf.Variable]) -> None:
    """Raises InputError if one of the weights, by name, in `path` is NaN or infinite."""
    for name, variable in variables.items():
        check_finite(path, name, variable.numpy())


def check_finite(path: str | os.PathLike[str], name: str, value: np.ndarray) -> None:
    """Raises InputError if a weight in the file or folder `path` is NaN or infinite."""
    wrong = value.size - np.count_nonzero(np.isfinite(value))
    if wrong:
        raise InputError(
            f"{path}: expected finite weights, found {wrong} of {value.size} in {name} that are not"
        )

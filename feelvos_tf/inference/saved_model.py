"""A SavedModel of `feelvos_tf.export` in its folder: checked, recognized, loaded."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from feelvos_tf.core.errors import InputError


def check(path: str | os.PathLike[str]) -> None:
    """Raises InputError unless the folder looks like a SavedModel."""
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder of a SavedModel, found no such folder")
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            f"{folder}: expected a SavedModel (write one with python -m feelvos_tf.export), found "
            "a folder without saved_model.pb"
        )


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Returns 16 hexadecimal digits that change with a SavedModel's graph or weights.

    The index of the variables holds a checksum of every weight, so the weights are not read.
    """
    digest = hashlib.sha256()
    for name in ("saved_model.pb", "variables/variables.index"):
        file = pathlib.Path(path) / name
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:16]


def load(path: str | os.PathLike[str]) -> Any:
    """Returns the loaded SavedModel after checking that it is one of this project.

    Raises:
      InputError: it is none, is damaged, or a weight is not finite.
    """
    check(path)
    import tensorflow as tf  # Here, so that a wrong flag is told without seconds of waiting.

    try:
        model = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be loaded as a SavedModel ({reason})") from error
    if not hasattr(model, "start") or not hasattr(model, "step"):
        raise InputError(
            f"{path}: expected a SavedModel written by feelvos_tf.export, found one without its "
            "functions start and step"
        )
    from feelvos_tf.inference.predictor import check_finite

    variables = getattr(model, "_model_variables", {})
    if not isinstance(variables, Mapping):
        variables = {variable.name: variable for variable in variables}  # Written by version 0.1.
    check_finite(variables, str(path))
    return model

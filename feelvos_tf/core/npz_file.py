"""Reads NumPy's .npz files that somebody else may have written."""

from __future__ import annotations

import os
import zipfile
import zlib

import numpy as np

from feelvos_tf.core.errors import InputError

# What NumPy and zipfile report damaged files with.
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,  # Encrypted, or of a later version of the format.
    SyntaxError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(path: str | os.PathLike[str], what: str) -> dict[str, np.ndarray]:
    """Returns all arrays of a file.

    Args:
      path: the file.
      what: what was expected there, e.g. "a whole file of weights".

    Raises:
      InputError: it is missing, damaged, or holds anything but numbers and text.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: expected {what}, found no such file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _DAMAGE as error:
        raise InputError(f"{path}: expected {what}, found {str(error)[:200]}") from error

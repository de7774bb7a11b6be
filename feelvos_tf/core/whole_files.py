"""Reads entire files written by others: bytes, text, JSON and NumPy's .npz archives.

They take the `path` of the file and `what` was expected there, e.g. "a list of videos", for the
message of the InputError that they raise if the file is missing, damaged, too large or of another
kind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from feelvos_tf.core.errors import InputError, first_line

MAX_TEXT_BYTES = 1 << 26
MAX_JSON_BYTES = 1 << 28
MAX_NPZ_BYTES = 1 << 34  # Decompressed.


def check_is_file(path: str | os.PathLike[str], what: str) -> None:
    """Raises InputError unless `path` is a regular file: reading a pipe or device could hang.

    Args:
      path: the file.
      what: what was expected there, e.g. "a picture".
    """
    with errors_about(path, what):
        mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "something that is not a file"
        raise InputError(f"{path}: expected {what}, found {kind}")


def check_is_folder(path: str | os.PathLike[str], what: str) -> None:
    """Raises InputError unless `path` is a folder, described by `what`, e.g. "a data set"."""
    if not os.path.isdir(path):
        found = "a file" if os.path.exists(path) else "no such folder"
        raise InputError(f"{path}: expected {what}, found {found}")


def is_among(path: str | os.PathLike[str], files: Iterable[pathlib.Path]) -> bool:
    """Returns whether a path names an existing file that is one of `files`."""
    return os.path.exists(path) and any(
        each.name == os.path.basename(path) and os.path.exists(each) and each.samefile(path)
        for each in files
    )


def read_bytes(path: str | os.PathLike[str], what: str, max_bytes: int) -> bytes:
    """Returns the contents of a file of at most `max_bytes`."""
    check_is_file(path, what)
    with errors_about(path, what):
        size = os.path.getsize(path)
        if size > max_bytes:
            raise InputError(
                f"{path}: expected {what} of at most {max_bytes >> 20} MiB, found {size >> 20}"
            )
        return pathlib.Path(path).read_bytes()


def sha256_of(path: pathlib.Path) -> str:
    """Returns the hexadecimal SHA-256 of a file, which may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """Returns the text of a UTF-8 file, with or without a byte order mark."""
    with errors_about(path, f"{what} in UTF-8"):
        return read_bytes(path, what, MAX_TEXT_BYTES).decode("utf-8-sig")


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """Returns the value in a JSON file."""
    with errors_about(path, what):
        return json.loads(read_bytes(path, what, MAX_JSON_BYTES))


def read_npz(path: str | os.PathLike[str], what: str) -> dict[str, np.ndarray]:
    """Returns all arrays of an .npz archive; only numbers and text are read, never objects."""
    check_is_file(path, what)
    with errors_about(path, what), np.load(path, allow_pickle=False) as arrays:
        size = sum(entry.file_size for entry in arrays.zip.infolist())
        if size > MAX_NPZ_BYTES:
            raise ValueError(f"{size >> 20} MiB, more than {MAX_NPZ_BYTES >> 20}")
        try:
            return {name: arrays[name] for name in arrays.files}
        except MemoryError as error:  # The archive fits, so the size in a header is wrong.
            raise ValueError("an array larger than the file") from error


@contextlib.contextmanager
def errors_about(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turns errors in the block, which reads the file, into InputErrors, except for full memory."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: expected {what}, found no such file") from None
    except Exception as error:  # Damaged files and odd names raise errors of many classes.
        reason = getattr(error, "strerror", None) or first_line(error)[:200]
        if isinstance(error, KeyError):
            reason = f"no {reason}"
        elif isinstance(error, RecursionError):
            reason = "nested too deep"
        raise InputError(f"{path}: expected {what} ({reason})") from error

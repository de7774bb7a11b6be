"""Reads text that somebody else wrote."""

from __future__ import annotations

import os
import pathlib

from feelvos_tf.core.errors import InputError

MAX_BYTES = 1 << 26


def read(path: str | os.PathLike[str], what: str) -> str:
    """Returns the text of a UTF-8 file.

    Args:
      path: the file.
      what: what was expected there, e.g. "a list of videos".

    Raises:
      InputError: it is missing, no file, too large, or not UTF-8.
    """
    try:
        return read_bytes(path, what, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected {what} in UTF-8, found other bytes ({error.reason} at byte "
            f"{error.start})"
        ) from error


def read_bytes(path: str | os.PathLike[str], what: str, max_bytes: int) -> bytes:
    """Returns what a file holds.

    Args:
      path: the file.
      what: what was expected there, for the sentence.
      max_bytes: its largest size.

    Raises:
      InputError: it is missing, no file, too large, or cannot be read.
    """
    file = pathlib.Path(path)
    try:
        if not file.is_file():
            found = "something that is no file" if file.exists() else "no such file"
            raise InputError(f"{path}: expected {what}, found {found}")
        if file.stat().st_size > max_bytes:
            raise InputError(
                f"{path}: expected {what} of at most {max_bytes >> 20} MiB, found "
                f"{file.stat().st_size >> 20}"
            )
        return file.read_bytes()
    # A path that holds NUL is a ValueError.
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected {what} ({error})") from error

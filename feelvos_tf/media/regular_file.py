"""Refuses pipes, devices and folders where a file is to be read, instead of waiting for them."""

from __future__ import annotations

import os
import stat

from feelvos_tf.core.errors import InputError


def check(path: str | os.PathLike[str], what: str) -> None:
    """Raises InputError for what cannot be read to an end or at all: a pipe, a device, nothing.

    Args:
      path: the file.
      what: what was expected there, e.g. "a picture".
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: expected {what}, found no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected {what} ({error})") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "something that is no file"
        raise InputError(f"{path}: expected {what}, found {kind}")

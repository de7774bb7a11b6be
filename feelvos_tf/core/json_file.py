"""Reads JSON that somebody else wrote."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from feelvos_tf.core.errors import InputError

MAX_BYTES = 1 << 28


def read(path: str | os.PathLike[str], what: str) -> Any:
    """Returns what a JSON file holds.

    Args:
      path: the file.
      what: what was expected there, e.g. "polygons as JSON".

    Raises:
      InputError: it is missing, no file, too large, or not JSON.
    """
    file = pathlib.Path(path)
    try:
        if not file.is_file():
            found = "something that is no file" if file.exists() else "no such file"
            raise InputError(f"{path}: expected {what}, found {found}")
        if file.stat().st_size > MAX_BYTES:
            raise InputError(
                f"{path}: expected {what} of at most {MAX_BYTES >> 20} MiB, found "
                f"{file.stat().st_size >> 20}"
            )
        return json.loads(file.read_bytes())
    # Text that is no UTF-8 and numbers of thousands of digits are a ValueError as well.
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected {what} ({error})") from error
    except RecursionError as error:
        raise InputError(f"{path}: expected {what}, found JSON nested too deep") from error

"""Reads JSON that somebody else wrote."""

from __future__ import annotations

import json
import os
from typing import Any

from feelvos_tf.core import text_file
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
    content = text_file.read_bytes(path, what, MAX_BYTES)
    try:
        return json.loads(content)
    # Text that is no UTF-8 and numbers of thousands of digits are a ValueError as well.
    except ValueError as error:
        raise InputError(f"{path}: expected {what} ({error})") from error
    except RecursionError as error:
        raise InputError(f"{path}: expected {what}, found JSON nested too deep") from error

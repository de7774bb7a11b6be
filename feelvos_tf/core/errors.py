"""The exception for bad input, and what to quote of the error behind it."""

from __future__ import annotations

import re


class InputError(Exception):
    """The user's input cannot be used.

    The message is one sentence that names the file, flag or setting, what was expected and what was
    found. Library code raises it; the programs print it and exit with code 1.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, without the nodes that TensorFlow names.

    An error without a message gives the name of its class.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"\{\{.*?\}\}\s*", "", lines[0]).split(" [Op:")[0]

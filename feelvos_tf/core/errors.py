"""The one exception that stands for bad input."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one sentence that names the file or flag, what was expected and what was found.
    Library code raises it; the command-line programs print it and leave with exit code 1.
    """

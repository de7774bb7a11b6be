"""The exception for bad input."""


class InputError(Exception):
    """The user's input cannot be used.

    The message is one sentence that names the file, flag or setting, what was expected and what was
    found. Library code raises it; the programs print it and exit with code 1.
    """

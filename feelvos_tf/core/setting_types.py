"""Refuses settings of a wrong type with a sentence that names the setting.

Gin hands over whatever a file says: `first_frame_only = 'False'` is a string, and true.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import warnings
from collections.abc import Callable
from typing import Any, Optional, TypeVar

from feelvos_tf.core.errors import InputError

Function = TypeVar("Function", bound=Callable)
Range = tuple[Optional[float], Optional[float]]

# Of TensorFlow's 64-bit integers.
_LARGEST_INT = 2**63
# Annotations stay strings: Python 3.9 cannot evaluate `int | None`.
_FITS: dict[str, Callable[[Any], bool]] = {
    "None": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_INT
    ),
    "float": lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    ),
    "str": lambda value: isinstance(value, str),
    "tuple": lambda value: isinstance(value, (tuple, list)),
    "Sequence": lambda value: isinstance(value, (tuple, list)),
}


def checked(name: str, **ranges: Range) -> Callable[[Function], Function]:
    """Returns a decorator that checks the arguments of a function against its annotations.

    Numbers, strings, truth values, None, and sequences of them are checked; other annotations
    accept everything. Place it below `@gin.configurable`, or on the `__init__` of such a class.

    Args:
      name: of the configurable, for the sentence.
      **ranges: argument -> smallest and largest number that makes sense; None for no bound.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            for argument, value in signature.bind_partial(*args, **kwargs).arguments.items():
                setting = f"{name}.{argument}"
                check_type(setting, signature.parameters[argument].annotation, value)
                if argument in ranges:
                    check_range(setting, ranges[argument], value)
            return function(*args, **kwargs)

        # Gin looks here for the names that may be bound.
        wrapper.__signature__ = signature
        return wrapper

    return decorate


def check_type(setting: str, annotation: Any, value: Any) -> None:
    """Raises InputError unless the value of a setting is of the type that an annotation names."""
    if isinstance(annotation, str) and not _fits(value, annotation):
        raise InputError(f"{setting}: expected {annotation}, found {value!r}")


def check_range(setting: str, allowed: Range, value: Any) -> None:
    """Raises InputError where the number that a setting has is too small or too large."""
    least, most = allowed
    if value is None or (least is None or value >= least) and (most is None or value <= most):
        return
    wanted = f"{least} or more" if most is None else f"{least} to {most}"
    raise InputError(f"{setting}: expected {wanted}, found {value!r}")


def warn_of_renamed(earlier: str, today: str) -> None:
    """Says that settings still use an earlier name, e.g. "A.soft = True", "A.feedback = 'b'"."""
    warnings.warn(f"{earlier} is now {today}", FutureWarning, stacklevel=3)


def _fits(value: Any, annotation: str) -> bool:
    """Returns whether a value is of one of the types between the bars."""
    return any(_fits_one(value, kind.strip()) for kind in annotation.split("|"))


def _fits_one(value: Any, kind: str) -> bool:
    outer, inner = re.fullmatch(r"([\w.]+)(?:\[(.*)\])?", kind).groups()
    if outer not in _FITS:
        return True
    if not _FITS[outer](value):
        return False
    if outer not in ("tuple", "Sequence") or not inner:
        return True
    kinds = [part.strip() for part in inner.split(",")]
    if outer == "Sequence" or kinds[-1] == "...":
        kinds = [kinds[0]] * len(value)
    return len(value) == len(kinds) and all(map(_fits_one, value, kinds))

"""Registers functions and classes with gin and checks their arguments against the annotations.

An argument's annotation is the only place that states which values are valid:

    @settings.configurable
    def blur(
        image: np.ndarray,
        radius: settings.Count = 1,
        kind: Literal["box", "gauss"] = "box",
        strength: Annotated[float, Between(0.0, 2.0)] = 1.0,
        sizes: Sequence[int] | None = None,
    ): ...

Gin passes on whatever a file says: `first_frame_only = 'False'` binds a string, which is truthy.
Numbers, strings, booleans, None, choices, and sequences of them are checked; other annotations
accept everything.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union

import gin

from feelvos_tf.core.errors import InputError

Target = TypeVar("Target", bound=Callable)

NAMES: set[str] = set()
"""Everything that gin files may bind or refer to."""

# TensorFlow's integers have 64 bits.
_LARGEST_INT = 2**63


class Between(NamedTuple):
    """The smallest and the largest valid number; None for no bound."""

    least: float | None
    most: float | None


Count = Annotated[int, Between(0, None)]
PositiveInt = Annotated[int, Between(1, None)]
NonNegative = Annotated[float, Between(0.0, None)]
Probability = Annotated[float, Between(0.0, 1.0)]
# The share that a moving average keeps of its old value: at 1 it would never change.
Decay = Annotated[float, Between(0.0, 0.999999)]


def configurable(target: Target) -> Target:
    """Registers a function or class with gin; its arguments are checked at every call.

    A wrong value raises an InputError that names the setting.
    """
    return gin.configurable(_with_checks(target))


def register(target: Target) -> Target:
    """Like `configurable`, but bindings apply only where gin files say `@Name`.

    Calls in code get the defaults in the code.
    """
    return gin.register(_with_checks(target))


def check(setting: str, kind: Any, value: Any) -> None:
    """Raises InputError unless the type allows the value of the setting."""
    if not _fits(value, kind):
        raise InputError(f"{setting}: expected {_described(kind)}, found {value!r}")


def check_scales(part: str, min_scale: float, max_scale: float) -> None:
    """Raises InputError unless 0 < min_scale <= max_scale.

    Args:
      part: name of the configurable, for the message.
      min_scale: smallest factor that an image's size is multiplied by.
      max_scale: largest factor.
    """
    if not 0.0 < min_scale <= max_scale:
        raise InputError(
            f"{part}: expected 0 < min_scale <= max_scale, found {min_scale} and {max_scale}"
        )


def _with_checks(target: Target) -> Target:
    NAMES.add(target.__name__)
    if not inspect.isclass(target):
        return _checked(target, target.__name__)
    target.__init__ = _checked(target.__init__, target.__name__)
    return target


def _checked(function: Callable, part: str) -> Callable:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        annotations = _annotations(function)
        for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
            check(f"{part}.{name}", annotations.get(name, Any), value)
        return function(*args, **kwargs)

    # Gin looks here for the names that may be bound.
    wrapper.__signature__ = signature
    return wrapper


@functools.cache
def _annotations(function: Callable) -> dict[str, Any]:
    """Returns argument -> evaluated annotation, without those that cannot be evaluated."""
    names = {**vars(typing), **vars(sys.modules[function.__module__])}
    evaluated = {}
    for name, annotation in function.__annotations__.items():
        if isinstance(annotation, str):
            expression = ast.unparse(_Unions().visit(ast.parse(annotation, mode="eval")))
            try:
                annotation = eval(expression, dict(names, Union=Union))
            except (NameError, AttributeError, TypeError):  # A type that only type checkers import.
                continue
        evaluated[name] = annotation
    return evaluated


class _Unions(ast.NodeTransformer):
    """Turns `int | None`, which Python 3.9 cannot evaluate, into `Union[int, None]`."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.BitOr):
            return node
        both = ast.Tuple([node.left, node.right], ast.Load())
        return ast.Subscript(ast.Name("Union", ast.Load()), both, ast.Load())


def _fits(value: Any, kind: Any) -> bool:
    """Returns whether a type allows a value."""
    outer, inner = typing.get_origin(kind), typing.get_args(kind)
    if outer is Annotated:
        number, (least, most) = inner
        return (
            _fits(value, number)
            and (least is None or value >= least)
            and (most is None or value <= most)
        )
    if outer is Union:
        return any(_fits(value, each) for each in inner)
    if outer is Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    if kind in (None, type(None)):
        return value is None
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_INT
    if kind is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and not math.isnan(value)
    if kind in (bool, str):
        return isinstance(value, kind)
    if tuple in (kind, outer) or typing.get_origin(Sequence[int]) in (kind, outer):
        return isinstance(value, (tuple, list)) and _entries_fit(value, outer or kind, inner)
    return True


def _entries_fit(values: Sequence[Any], outer: Any, inner: tuple[Any, ...]) -> bool:
    if not inner:
        return True
    if outer is not tuple or inner[-1] is Ellipsis:
        inner = (inner[0],) * len(values)
    return len(values) == len(inner) and all(map(_fits, values, inner))


def _described(kind: Any) -> str:
    """Returns a type as shown to users: `int of 1 or more`, `tuple[int, int]`, `'max' or 'avg'`."""
    outer, inner = typing.get_origin(kind), typing.get_args(kind)
    if outer is Annotated:
        number, (least, most) = inner
        if most is None:
            return f"{_described(number)} of {least} or more"
        allowed = f"at most {most}" if least is None else f"{least} to {most}"
        return f"{_described(number)} of {allowed}"
    if outer is Union:
        return " | ".join(map(_described, inner))
    if outer is Literal:
        *others, last = map(repr, inner)
        return f"{', '.join(others)} or {last}" if others else last
    if kind in (None, type(None)):
        return "None"
    if kind is Ellipsis:
        return "..."
    name = getattr(outer or kind, "__name__", str(kind))
    return f"{name}[{', '.join(map(_described, inner))}]" if inner else name

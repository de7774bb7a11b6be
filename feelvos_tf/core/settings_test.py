"""Every kind of annotation accepts what fits it and refuses the rest, naming the setting."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import gin
import pytest

from feelvos_tf.core import gin_settings, settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.core.settings import Between

if TYPE_CHECKING:
    from nowhere import Unknown


@settings.configurable
def _kinds(
    count: int = 1,
    share: float = 0.5,
    switch: bool = False,
    name: str = "",
    records: str | Sequence[str] = "",
    size: tuple[int, int] = (1, 1),
    rates: tuple[settings.PositiveInt, ...] = (),
    numbers: Sequence[int | float] | None = None,
    rows: Sequence[Sequence[int] | None] = (),
    anything: Callable[[int], int] | None = None,
    unknown: Unknown | None = None,
    steps: settings.Count = 0,
    bounded: Annotated[int, Between(2, 5)] = 2,
    at_most: Annotated[float, Between(None, 3.0)] = 0.0,
    optional: settings.PositiveInt | None = None,
    probability: settings.Probability = 0.0,
    decay: settings.Decay = 0.9,
    choice: Literal["max", "avg"] = "max",
    stride: Literal[8, 16] = 8,
    mode: Literal["auto"] | settings.Count = "auto",
    merge: Literal["none"] | None = None,
    untyped=None,
):
    return dict(locals())


@settings.configurable
class _Class:
    def __init__(self, size: settings.PositiveInt = 3, *, factor: float = 1.0):
        self.size, self.factor = size, factor


@settings.configurable
@dataclasses.dataclass(frozen=True)
class _Data:
    size: settings.PositiveInt = 3
    shares: tuple[settings.Probability, ...] = (0.5,)


@settings.register
class _Part:
    def __init__(self, size: settings.PositiveInt = 3):
        self.size = size


@settings.configurable
def _whole(part: object = None):
    return part


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


@pytest.mark.parametrize(
    "binding",
    [
        *("share = 1", "share = -1e9", f"count = {2**63 - 1}", "name = 'a b'", "switch = True"),
        *("records = 'a'", "records = ['a', 'b']", "records = ()", "size = [2, 3]"),
        *("rates = ()", "rates = (6, 12, 18)", "numbers = (1, 0.5)", "numbers = None"),
        *("rows = [[1, 2], None, ()]", "anything = 3", "unknown = 'x'", "untyped = [None]"),
        *("steps = 0", "bounded = 2", "bounded = 5", "at_most = 3", "optional = None"),
        *("optional = 1", "probability = 1", "decay = 0", "choice = 'avg'", "stride = 16"),
        *("mode = 'auto'", "mode = 0", "merge = 'none'", "merge = None"),
    ],
)
def test_values_that_fit_pass(binding):
    gin_settings.parse([], [f"_kinds.{binding}"])
    name, value = binding.split(" = ")
    assert _kinds()[name] == eval(value)  # noqa: S307


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        ("count = 2.5", "int"),
        ("count = True", "int"),
        ("count = None", "int"),
        (f"count = {2**63}", "int"),
        ("share = '0.5'", "float"),
        ("share = False", "float"),
        ("switch = 'False'", "bool"),
        ("switch = 0", "bool"),
        ("name = 3", "str"),
        ("records = 5", "str | Sequence[str]"),
        ("records = ['a', 5]", "str | Sequence[str]"),
        ("size = 97", "tuple[int, int]"),
        ("size = (1, 2, 3)", "tuple[int, int]"),
        ("size = (1, 'b')", "tuple[int, int]"),
        ("rates = 6", "tuple[int of 1 or more, ...]"),
        ("rates = (6, 0)", "tuple[int of 1 or more, ...]"),
        ("numbers = 1.0", "Sequence[int | float] | None"),
        ("numbers = (1, 'a')", "Sequence[int | float] | None"),
        ("numbers = 'ab'", "Sequence[int | float] | None"),
        ("rows = [[1], ['a']]", "Sequence[Sequence[int] | None]"),
        ("rows = [1]", "Sequence[Sequence[int] | None]"),
        ("steps = -1", "int of 0 or more"),
        ("steps = 1.0", "int of 0 or more"),
        ("bounded = 1", "int of 2 to 5"),
        ("bounded = 6", "int of 2 to 5"),
        ("at_most = 3.5", "float of at most 3.0"),
        ("optional = 0", "int of 1 or more | None"),
        ("probability = 1.5", "float of 0.0 to 1.0"),
        ("decay = 1.0", "float of 0.0 to 0.999999"),
        ("choice = 'mean'", "'max' or 'avg'"),
        ("choice = None", "'max' or 'avg'"),
        ("stride = 32", "8 or 16"),
        ("stride = 8.0", "8 or 16"),
        ("stride = '8'", "8 or 16"),
        ("mode = 'off'", "'auto' | int of 0 or more"),
        ("mode = -1", "'auto' | int of 0 or more"),
        ("merge = 'max'", "'none' | None"),
    ],
)
def test_other_values_are_refused_in_one_sentence(binding, expected):
    gin_settings.parse([], [f"_kinds.{binding}"])
    name, value = binding.split(" = ")
    with pytest.raises(InputError) as caught, gin_settings.input_errors():
        _kinds()
    assert str(caught.value) == f"_kinds.{name}: expected {expected}, found {eval(value)!r}"  # noqa: S307


def test_nan_is_refused():
    with pytest.raises(InputError, match="^_kinds.share: expected float, found nan"):
        _kinds(share=float("nan"))


@pytest.mark.parametrize("make", [_Class, _Data])
def test_classes_and_dataclasses_are_checked_from_code_and_from_gin(make):
    name = make.__name__
    assert make().size == 3
    for given in ((0,), ("3",)):
        with pytest.raises(InputError, match=f"^{name}.size: expected int of 1 or more, found"):
            make(*given)
    gin_settings.parse([], [f"{name}.size = 7"])
    assert make().size == 7
    assert isinstance(make(), make)
    gin_settings.parse([], [f"{name}.size = -7"])
    with pytest.raises(InputError, match=f"{name}.size: expected int of 1 or more, found -7"):
        make()


def test_keyword_arguments_and_fields_of_sequences_are_checked():
    with pytest.raises(InputError, match="_Class.factor: expected float, found 'a'"):
        _Class(factor="a")
    with pytest.raises(InputError, match=re.escape("_Data.shares: expected tuple[float of 0.0")):
        _Data(shares=(0.5, 1.5))


def test_a_registered_part_is_bound_only_where_gin_makes_it():
    gin_settings.parse([], ["_Part.size = 7", "_whole.part = @_Part()"])
    assert (_Part().size, _whole().size) == (3, 7)
    with pytest.raises(InputError, match="_Part.size: expected int of 1 or more, found 0"):
        _Part(0)


def test_names_that_do_not_exist_are_refused():
    for part in ("_kinds", "_Class", "_Data"):
        with pytest.raises(InputError, match="nonsense"):
            gin_settings.parse([], [f"{part}.nonsense = 1"])


def test_scales_are_positive_and_in_order():
    settings.check_scales("Part", 1.0, 1.0)
    for scales in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(InputError, match="Part: expected 0 < min_scale <= max_scale, found"):
            settings.check_scales("Part", *scales)

from __future__ import annotations

from collections.abc import Callable, Sequence

import gin
import pytest

from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked


@gin.configurable
@checked("_probe_of_types")
def _probe_of_types(
    count: int = 1,
    share: float = 0.5,
    switch: bool = False,
    records: str | Sequence[str] = "",
    size: tuple[int, int] = (1, 1),
    scales: Sequence[float] | None = None,
    make: Callable[[int], int] | None = None,
):
    return count, share, switch, records, size, scales, make


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


@pytest.mark.parametrize(
    "binding",
    ["share = 1", "records = ['a', 'b']", "size = [2, 3]", "scales = (1, 0.5)", "scales = None"]
    + ["make = 3"],
)
def test_values_that_fit_pass(binding):
    gin_settings.parse([], [f"_probe_of_types.{binding}"])
    _probe_of_types()


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        ("count = 2.5", "count: expected int, found 2.5"),
        ("count = True", "count: expected int, found True"),
        ("share = '0.5'", "share: expected float, found '0.5'"),
        ("switch = 'False'", "switch: expected bool, found 'False'"),
        ("records = 5", r"records: expected str \| Sequence\[str\], found 5"),
        ("records = ['a', 5]", "records: expected .*, found .'a', 5."),
        ("size = 97", r"size: expected tuple\[int, int\], found 97"),
        ("size = (1, 2, 3)", r"size: expected tuple\[int, int\], found \(1, 2, 3\)"),
        ("scales = 1.0", "scales: expected .*, found 1.0"),
    ],
)
def test_other_values_are_named_with_their_setting(binding, expected):
    gin_settings.parse([], [f"_probe_of_types.{binding}"])
    with (
        pytest.raises(InputError, match=f"^_probe_of_types.{expected}$") as caught,
        gin_settings.input_errors(),
    ):
        _probe_of_types()
    assert "\n" not in str(caught.value)


def test_names_that_do_not_exist_are_still_refused():
    with pytest.raises(InputError, match="nonsense"):
        gin_settings.parse([], ["_probe_of_types.nonsense = 1"])

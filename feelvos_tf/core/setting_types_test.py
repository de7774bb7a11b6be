from __future__ import annotations

import re
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
        (f"count = {2**63}", f"count: expected int, found {2**63}"),
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


def test_what_is_not_a_number_is_refused():
    with pytest.raises(InputError, match="_probe_of_types.share: expected float, found nan"):
        _probe_of_types(share=float("nan"))


def test_names_that_do_not_exist_are_still_refused():
    with pytest.raises(InputError, match="nonsense"):
        gin_settings.parse([], ["_probe_of_types.nonsense = 1"])


@pytest.mark.parametrize(
    ("binding", "sentence"),
    [
        ("set_random_seed.seed = -1", "expected 0 to 4294967295, found -1"),
        ("training_dataset.decoder_output_stride = 0", "expected 1 or more, found 0"),
        ("training_dataset.seed = 99999999999999999999999", "found 99999999999999999999999"),
        ("training_dataset.scenes = [@MovingScenes]", "with brackets"),
        ("MovingScenes.motion = 'a'", "MovingScenes.motion: expected float, found 'a'"),
        ("MovingScenes.count_shares = 'ab'", "MovingScenes.count_shares: expected Sequence"),
        ("MovingScenes.light = -1.0", "MovingScenes.light: expected 0.0 or more"),
        ("LearningRate.decay_step = 0", "expected 1 or more"),
        ("LearningRate.base = -0.1", "expected 0.0 or more"),
        ("BootstrappedCrossEntropy.top_k_percent_pixels = 15.0", "expected 0.0 to 1.0"),
        ("AdamOptimizer.beta_2 = 1.0", "expected 0.0 to 0.999999"),
        ("Trainer.average_decay = 1.0", "expected 0.0 to 0.999999"),
        ("Trainer.save_every_steps = -1", "expected 0 or more"),
        ("Trainer.max_checkpoints = 0", "expected 1 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_told_with_the_name_of_the_setting(binding, sentence):
    gin_settings.parse([], [binding, "training_dataset.records = 'none'"])
    part = gin.get_configurable(binding.split(".")[0])
    given = {"MovingScenes": (), "training_dataset": (2,), "AdamOptimizer": ({},)}
    given["Trainer"] = (None, {}, "", None)
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        part(*given.get(binding.split(".")[0], ()))
    assert binding.split(" ")[0] in str(caught.value)

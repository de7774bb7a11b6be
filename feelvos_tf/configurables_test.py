"""Invalid settings are refused by name, whichever package they belong to."""

from __future__ import annotations

import re

import gin
import pytest

from feelvos_tf import configurables  # noqa: F401
from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError

# Part -> arguments that are not bound by gin files.
ARGUMENTS = {
    "training_dataset": (2,),
    "AdamOptimizer": ({},),
    "Trainer": (None, {}, "", None),
    "Checkpoints": ("", None, {}, None),
    "SegmentationHead": (3,),
}


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        ("set_random_seed.seed = -1", "int of 0 to 4294967295 | None, found -1"),
        ("ClipSettings.decoder_output_stride = 0", "int of 1 or more, found 0"),
        ("training_dataset.seed = 99999999999999999999999", "int | None, found 999999999999999"),
        ("training_dataset.scenes = [@MovingScenes]", "@MovingScenes()"),
        ("MovingScenes.motion = 'a'", "float of 0.0 or more, found 'a'"),
        ("MovingScenes.count_shares = 'ab'", "Sequence[float of 0.0 or more], found 'ab'"),
        ("MovingScenes.light = -1.0", "float of 0.0 or more, found -1.0"),
        ("LearningRate.decay_step = 0", "int of 1 or more, found 0"),
        ("LearningRate.base = -0.1", "float of 0.0 or more, found -0.1"),
        ("BootstrappedCrossEntropy.top_k_percent_pixels = 15.0", "float of 0.0 to 1.0, found 15.0"),
        ("AdamOptimizer.beta_2 = 1.0", "float of 0.0 to 0.999999, found 1.0"),
        ("Trainer.average_decay = 1.0", "float of 0.0 to 0.999999, found 1.0"),
        ("Intervals.save_every_steps = -1", "int of 0 or more, found -1"),
        ("Checkpoints.max_to_keep = 0", "int of 1 or more, found 0"),
        ("SegmentationHead.layers = 0", "int of 1 or more, found 0"),
        ("decoder_batch_norm.decay = 1.0", "float of 0.0 to 0.999999, found 1.0"),
    ],
)
def test_an_invalid_value_is_refused_with_the_name_of_its_setting(binding, expected):
    gin_settings.parse([], [binding, "training_dataset.records = 'none'"])
    setting = binding.split(" = ")[0]
    part = setting.split(".")[0]
    with pytest.raises(InputError, match=re.escape(f"{setting}: expected ")) as caught:
        gin.get_configurable(part)(*ARGUMENTS.get(part, ()))
    assert expected in str(caught.value)


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()

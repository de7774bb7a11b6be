from __future__ import annotations

import pytest
from absl import flags

from feelvos_tf.inference import bundled_model, model_choice


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ((), bundled_model.inference_size()),
        (("--fast",), 240),
        (("--fast", "--inference_size=96"), 96),
        (("--inference_size=96",), 96),
    ],
)
def test_the_size_is_the_best_the_fast_or_the_given_one(arguments, size):
    values = flags.FlagValues()
    model = model_choice.define(values)
    values(["program", *arguments])
    choice = model.choice()
    assert choice == (None, size, bundled_model.fingerprint())

"""`feelvos_tf.load` works as its docstring and the README show."""

from __future__ import annotations

import inspect
import pathlib
import re
import textwrap

import numpy as np
import pytest

import feelvos_tf
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import model_loading
from feelvos_tf.testing import color_model

ROOT = pathlib.Path(__file__).resolve().parents[1]


def example_of_docstring() -> str:
    # Only Python 3.13 and later remove the indentation themselves.
    shown = inspect.getdoc(feelvos_tf.load).split("Example:\n")[1].split("\nArgs:")[0]
    return textwrap.dedent(shown)


def example_of_readme() -> str:
    return re.search(
        r"```python\n(import feelvos_tf\n.*?)```", (ROOT / "README.md").read_text(), re.S
    )[1]


@pytest.mark.parametrize("example", [example_of_docstring, example_of_readme])
def test_the_examples_run_and_give_masks_of_the_clip(example, bundled_model, monkeypatch):
    """On the clip's first frames at a small size, which takes a fraction of the time."""
    monkeypatch.chdir(ROOT)
    program = (
        example().replace('.mp4"))', '.mp4"))[:3]').replace("load()", "load(inference_size=160)")
    )
    assert "[:3]" in program and "inference_size=160" in program
    found = {}
    exec(program, found)  # noqa: S102
    assert (found["ids"].dtype, found["ids"].shape[-2:]) == (np.uint8, (240, 426))
    assert set(np.unique(found["ids"])) == {0, 1}
    if "probabilities" in found:
        assert (found["probabilities"].dtype, found["probabilities"].shape) == (
            np.float32,
            (240, 426),
        )


def test_the_bundled_model_runs_at_its_own_size_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(model_loading, "build_bundled", lambda **_: None)
    assert feelvos_tf.load().inference_size == model_loading.bundled_inference_size()
    assert feelvos_tf.load(inference_size=100).inference_size == 100
    with pytest.raises(InputError, match="found 0"):
        feelvos_tf.load(inference_size=0)


def test_a_saved_model_runs_on_frames_as_they_are(tmp_path):
    model = feelvos_tf.load(color_model.save(tmp_path / "model"))
    assert model.inference_size is None
    mask = np.zeros([20, 30], np.uint8)
    mask[5:10, 5:10] = 4
    image = np.repeat(mask[..., np.newaxis] * 50, 3, -1)
    np.testing.assert_array_equal(model.segment_clip([image, image], mask)[1], mask)


def test_a_missing_saved_model_is_named(tmp_path):
    with pytest.raises(InputError, match="none/saved_model.pb: expected a SavedModel"):
        feelvos_tf.load(tmp_path / "none")

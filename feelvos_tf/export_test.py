import subprocess
import sys

import gin
import numpy as np
import pytest

from feelvos_tf import export as export_module
from feelvos_tf.core.errors import InputError
from feelvos_tf.export import export, load_model
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.testing import small_model

# Importing the package is made impossible: the SavedModel must need none of its code.
_WITHOUT_PACKAGE = """
import sys
sys.modules["feelvos_tf"] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
data = np.load(sys.argv[2])
state = model.start(data["images"][0], data["mask"])
ids, probabilities, state = model.step(data["images"][1], state)
segmented = model.segment_clip(data["images"], data["mask"])
state = model.add_objects(data["later_mask"], state)
_, added, state = model.step(data["images"][0], state)
np.savez(sys.argv[3], ids=ids, probabilities=probabilities, segmented=segmented, added=added)
"""


@pytest.fixture(scope="module")
def model():
    return small_model.create()


def test_saved_model_gives_the_predictors_masks_without_the_package(model, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, [2, 41, 53, 3], np.uint8)
    mask = np.zeros([41, 53], np.uint8)
    mask[5:20, 5:25], mask[25:, 30:] = 3, 7
    predictor = Predictor(model)
    expected_ids, expected, state = predictor.step(images[1], predictor.start(images[0], mask))
    later_mask = np.zeros_like(mask)
    later_mask[30:, :20] = 5
    np.savez(tmp_path / "in.npz", images=images, mask=mask, later_mask=later_mask)

    export(model, str(tmp_path / "saved_model"))
    command = [sys.executable, "-c", _WITHOUT_PACKAGE]
    paths = [str(tmp_path / name) for name in ("saved_model", "in.npz", "out.npz")]
    subprocess.run([*command, *paths], check=True, capture_output=True, cwd=tmp_path)

    got = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(got["probabilities"], expected, atol=1e-4)
    assert np.mean(got["ids"] != expected_ids) < 0.001
    assert set(np.unique(got["ids"])) <= {0, 3, 7}
    np.testing.assert_array_equal(got["segmented"][0], mask)
    np.testing.assert_array_equal(got["segmented"][1], got["ids"])
    _, expected, state = predictor.step(images[0], predictor.add_objects(later_mask, state))
    assert got["added"].shape == (*mask.shape, 4)
    np.testing.assert_allclose(got["added"], expected, atol=1e-4)


def test_an_existing_folder_is_not_touched(model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="does not exist yet"):
        export(model, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_without_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match="expected a checkpoint of the trainer, found none"):
        load_model(str(tmp_path))


def test_unusable_folders_and_files_are_told_without_waiting_for_tensorflow(tmp_path):
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        assert name != 'tensorflow', 'TensorFlow is imported'\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import runpy; runpy.run_module('feelvos_tf.export', run_name='__main__')\n"
    )
    run, new = f"--model_dir={tmp_path / 'run'}", f"--export_dir={tmp_path / 'new'}"
    (tmp_path / "run").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "operative_config.gin").write_text("")
    for arguments, sentence in {
        (): "--model_dir: expected a folder",
        (run, f"--export_dir={tmp_path}"): "expected a folder that does not exist yet",
        (f"--model_dir={tmp_path / 'empty'}", new): "expected the settings of a training run",
        (run, new, "--gin_file=no.gin"): "no.gin: expected a gin file",
    }.items():
        command = [sys.executable, "-c", program, *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 1 and sentence in result.stderr, result.stderr


def test_settings_of_the_evaluation_scope_are_those_exported(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(export_module, "load_model", lambda *_: small_model.create())
    monkeypatch.setattr(export_module, "export", lambda model, _: seen.append(Predictor(model)))
    (tmp_path / "operative_config.gin").write_text(
        "Predictor.merge = 'max'\nevaluation/Predictor.merge = 'avg'\nPredictor.scales = (1.0, 0.5)"
    )
    flags = ["export", f"--model_dir={tmp_path}", f"--export_dir={tmp_path / 'new'}"]
    export_module._FLAGS(flags)
    try:
        export_module.main(flags[:1])
    finally:
        gin.clear_config()
    assert (seen[0].merge, seen[0].scales) == ("avg", (1.0, 0.5))

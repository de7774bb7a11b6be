import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.export import export, load_model
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos

# Importing the package is made impossible: the SavedModel must need none of its code.
_WITHOUT_PACKAGE = """
import sys
sys.modules["feelvos_tf"] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
data = np.load(sys.argv[2])
state = model.start(data["images"][0], data["mask"])
ids, probabilities, state = model.step(data["images"][1], state)
clip = model.segment_clip(data["images"], data["mask"])
np.savez(sys.argv[3], ids=ids, probabilities=probabilities, clip=clip)
"""


@pytest.fixture(scope="module")
def model():
    tf.random.set_seed(0)
    model = Feelvos(MobileNetV2(0.1), atrous_rates=(), embedding_dimension=8)
    model.create_variables()
    return model


def test_saved_model_gives_the_predictors_masks_without_the_package(model, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, [2, 41, 53, 3], np.uint8)
    mask = np.zeros([41, 53], np.uint8)
    mask[5:20, 5:25], mask[25:, 30:] = 3, 7
    predictor = Predictor(model)
    expected_ids, expected, _ = predictor.step(images[1], predictor.start(images[0], mask))
    np.savez(tmp_path / "in.npz", images=images, mask=mask)

    export(model, str(tmp_path / "saved_model"))
    command = [sys.executable, "-c", _WITHOUT_PACKAGE]
    paths = [str(tmp_path / name) for name in ("saved_model", "in.npz", "out.npz")]
    subprocess.run([*command, *paths], check=True, capture_output=True, cwd=tmp_path)

    got = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(got["probabilities"], expected, atol=1e-4)
    assert np.mean(got["ids"] != expected_ids) < 0.001
    assert set(np.unique(got["ids"])) <= {0, 3, 7}
    np.testing.assert_array_equal(got["clip"][0], mask)
    np.testing.assert_array_equal(got["clip"][1], got["ids"])


def test_an_existing_folder_is_not_touched(model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="does not exist yet"):
        export(model, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_without_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match="expected a checkpoint of the trainer, found none"):
        load_model(str(tmp_path))

"""The files of the bundled model; a small network's stand in for them where that will do."""

from __future__ import annotations

import gin
import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import bundled_model
from feelvos_tf.models import packed_weights
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.testing import small_model

SETTINGS = """
# A comment.
inference_size = 123

Feelvos.backbone = @MobileNetV2()
Feelvos.atrous_rates = ()
Feelvos.embedding_dimension = 8
MobileNetV2.depth_multiplier = 0.1
MobileNetV2.output_stride = 16
Predictor.max_reference_pixels = 17
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a folder like the bundled one, and the network that is in it."""
    folder = tmp_path_factory.mktemp("bundled")
    model = small_model.create(backbone=MobileNetV2)
    packed_weights.write(model, folder / bundled_model.WEIGHTS)
    (folder / bundled_model.SETTINGS).write_text(SETTINGS)
    return folder, model


def test_the_model_has_the_settings_and_weights_of_the_folder(files):
    folder, model = files
    predictor = bundled_model.build(folder)
    assert bundled_model.inference_size(folder) == 123
    assert predictor.max_reference_pixels == 17
    image = np.random.default_rng(0).integers(0, 256, [1, 33, 49, 3]).astype(np.float32)
    expected = model.extract(image).embeddings
    found = predictor._extract(image).embeddings
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


def test_settings_of_a_program_and_of_the_bundled_model_are_not_mixed(files):
    folder, _ = files
    gin.clear_config()
    gin.parse_config("evaluation/Predictor.max_reference_pixels = 5\nsize = 3")
    try:
        with gin.config_scope("evaluation"):
            assert bundled_model.build(folder).max_reference_pixels == 17
        assert gin.query_parameter("evaluation/Predictor.max_reference_pixels") == 5
        with pytest.raises(ValueError):
            gin.query_parameter("Predictor.max_reference_pixels")
        gin.finalize()
        bundled_model.build(folder)
    finally:
        with gin.unlock_config():
            gin.clear_config()


def test_a_checkout_without_weights_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no trained model is bundled here .*--saved_model"):
        bundled_model.check(tmp_path)


def test_damaged_settings_are_told_in_one_sentence(files, tmp_path):
    folder, _ = files
    weights = (folder / bundled_model.WEIGHTS).read_bytes()
    (tmp_path / bundled_model.WEIGHTS).write_bytes(weights)
    for old, new, sentence in (
        ("Feelvos.embedding_dimension", "Feelvos.no_such_setting", "no_such_setting"),
        ("Feelvos.embedding_dimension", "Nothing.embedding_dimension", "Nothing"),
        ("embedding_dimension = 8", "embedding_dimension = 9", "found shape"),
        ("embedding_dimension = 8", "embedding_dimension = (", "settings.gin: "),
        ("@MobileNetV2()", "@MobileNetV2", "expected a backbone such as @Xception"),
        ("Feelvos", "Feelv\xf6s", "expected settings of a model in UTF-8"),
    ):
        (tmp_path / bundled_model.SETTINGS).write_text(SETTINGS.replace(old, new), "latin-1")
        with pytest.raises(InputError, match=sentence) as caught:
            bundled_model.build(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / bundled_model.SETTINGS).write_text("inference_size = big\n")
    with pytest.raises(InputError, match="a line like 'inference_size = 400'"):
        bundled_model.inference_size(tmp_path)


def test_the_fingerprint_tells_settings_and_weights_apart(files, tmp_path):
    folder, _ = files
    first = bundled_model.fingerprint(folder)
    for name in (bundled_model.WEIGHTS, bundled_model.SETTINGS):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert bundled_model.fingerprint(tmp_path) == first
    for name in (bundled_model.WEIGHTS, bundled_model.SETTINGS):
        with open(tmp_path / name, "ab") as file:
            file.write(b"\n")
        assert bundled_model.fingerprint(tmp_path) != first
        first = bundled_model.fingerprint(tmp_path)


def test_every_weight_of_the_bundled_model_is_read():
    bundled_model.check()
    arrays = np.load(bundled_model.FOLDER / bundled_model.WEIGHTS)
    assert (bundled_model.FOLDER / bundled_model.WEIGHTS).stat().st_size < 12e6
    predictor = bundled_model.build()
    kernels = {name for name in arrays if name.endswith("weights")}
    assert len(kernels) == len(predictor._model_variables) / 2  # A kernel and a bias each.
    assert bundled_model.inference_size() >= bundled_model.FAST_INFERENCE_SIZE

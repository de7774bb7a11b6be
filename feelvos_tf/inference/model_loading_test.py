"""SavedModels and the bundled model, for which a small network stands in where possible."""

from __future__ import annotations

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import model_loading
from feelvos_tf.models import packed_weights
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.testing import color_model, small_model

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
    """Returns a folder like the bundled one and the network in it."""
    folder = tmp_path_factory.mktemp("bundled")
    model = small_model.create(backbone=MobileNetV2)
    packed_weights.write(model, folder / model_loading.WEIGHTS)
    (folder / model_loading.SETTINGS).write_text(SETTINGS)
    return folder, model


def test_the_model_has_the_settings_and_weights_of_the_folder(files):
    folder, model = files
    predictor = model_loading.build_bundled(folder)
    assert model_loading.bundled_inference_size(folder) == 123
    assert predictor.max_reference_pixels == 17
    image = np.random.default_rng(0).integers(0, 256, [1, 33, 49, 3]).astype(np.float32)
    expected = model.extract(image).embeddings
    found = predictor._extract(image).embeddings
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


def test_settings_may_be_spaced_freely(files, tmp_path):
    folder, _ = files
    (tmp_path / model_loading.WEIGHTS).write_bytes((folder / model_loading.WEIGHTS).read_bytes())
    spaced = SETTINGS.replace(" = ", "=").replace("=17", "   =  18  # Why.")
    (tmp_path / model_loading.SETTINGS).write_text(spaced)
    assert model_loading.bundled_inference_size(tmp_path) == 123
    assert model_loading.build_bundled(tmp_path).max_reference_pixels == 18


def test_settings_of_a_program_and_of_the_bundled_model_are_not_mixed(files):
    folder, _ = files
    gin.clear_config()
    gin.parse_config("evaluation/Predictor.max_reference_pixels = 5\nsize = 3")
    try:
        with gin.config_scope("evaluation"):
            assert model_loading.build_bundled(folder).max_reference_pixels == 17
        assert gin.query_parameter("evaluation/Predictor.max_reference_pixels") == 5
        with pytest.raises(ValueError):
            gin.query_parameter("Predictor.max_reference_pixels")
        gin.finalize()
        model_loading.build_bundled(folder)
    finally:
        with gin.unlock_config():
            gin.clear_config()


def test_a_checkout_without_weights_names_the_fix(tmp_path):
    with pytest.raises(InputError, match="no trained model is bundled here .*--saved_model"):
        model_loading.check_bundled(tmp_path)


def test_damaged_settings_are_reported_in_one_sentence(files, tmp_path):
    folder, _ = files
    weights = (folder / model_loading.WEIGHTS).read_bytes()
    (tmp_path / model_loading.WEIGHTS).write_bytes(weights)
    for old, new, sentence in (
        ("Feelvos.embedding_dimension", "Feelvos.no_such_setting", "no_such_setting"),
        ("Feelvos.embedding_dimension", "Nothing.embedding_dimension", "Nothing"),
        ("embedding_dimension = 8", "embedding_dimension = 9", "found shape"),
        ("embedding_dimension = 8", "embedding_dimension = (", "settings.gin: "),
        ("@MobileNetV2()", "@MobileNetV2", "expected a backbone such as @Xception"),
        ("\nFeelvos.backbone", "\nimport os\nFeelvos.backbone", "line 5: expected NAME = VALUE"),
        ("Feelvos", "Feelv\xf6s", "expected settings of a model in UTF-8"),
    ):
        (tmp_path / model_loading.SETTINGS).write_text(SETTINGS.replace(old, new), "latin-1")
        with pytest.raises(InputError, match=sentence) as caught:
            model_loading.build_bundled(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / model_loading.SETTINGS).write_text("inference_size = big\n")
    with pytest.raises(InputError, match="a line such as 'inference_size = 400'"):
        model_loading.bundled_inference_size(tmp_path)


def test_the_fingerprint_changes_with_settings_and_weights(files, tmp_path):
    folder, _ = files
    first = model_loading.bundled_fingerprint(folder)
    for name in (model_loading.WEIGHTS, model_loading.SETTINGS):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert model_loading.bundled_fingerprint(tmp_path) == first
    for name in (model_loading.WEIGHTS, model_loading.SETTINGS):
        with open(tmp_path / name, "ab") as file:
            file.write(b"\n")
        assert model_loading.bundled_fingerprint(tmp_path) != first
        first = model_loading.bundled_fingerprint(tmp_path)


def test_every_weight_of_the_bundled_model_is_read():
    model_loading.check_bundled()
    arrays = np.load(model_loading.BUNDLED / model_loading.WEIGHTS)
    assert (model_loading.BUNDLED / model_loading.WEIGHTS).stat().st_size < 12e6
    predictor = model_loading.build_bundled()
    kernels = {name for name in arrays if name.endswith("weights")}
    assert len(kernels) == len(predictor._model_variables) / 2  # Each kernel has a bias.
    assert model_loading.bundled_inference_size() >= model_loading.FAST_INFERENCE_SIZE


def test_fingerprint_changes_with_weights_but_not_with_the_folder(tmp_path):
    first = color_model.save(tmp_path / "first")
    other = color_model.save(tmp_path / "other", sharpness=0.02)
    assert model_loading.saved_model_fingerprint(first) != model_loading.saved_model_fingerprint(
        other
    )
    moved = tmp_path / "moved"
    before = model_loading.saved_model_fingerprint(other)
    other.rename(moved)
    assert model_loading.saved_model_fingerprint(moved) == before


def test_invalid_models_are_reported_in_one_sentence(tmp_path):
    for folder in (tmp_path / "missing", tmp_path):
        sentence = f"{folder}/saved_model.pb: expected a SavedModel .*, found no such file"
        with pytest.raises(InputError, match=sentence):
            model_loading.load_saved_model(folder)
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded as a SavedModel"):
        model_loading.load_saved_model(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"))
    with pytest.raises(InputError, match="foreign: .*without its functions start and step"):
        model_loading.load_saved_model(tmp_path / "foreign")


@pytest.mark.parametrize(
    ("arguments", "size", "window"),
    [
        ((), model_loading.bundled_inference_size(), model_loading.bundled_window()),
        (("--fast",), 240, 1.0),
        (("--fast", "--inference_size=96", "--window=0.25"), 96, 0.25),
        (("--inference_size=96", "--window=0"), 96, 0.0),
    ],
)
def test_flags_select_inference_size_and_window(arguments, size, window):
    choice = flags_of(*arguments).choice()
    assert choice == (None, size, model_loading.bundled_fingerprint(), window, ())


def flags_of(*arguments):
    values = flags.FlagValues()
    model = model_loading.ModelFlags(values)
    values(["program", *arguments])
    return model


def test_bundled_settings_can_be_overridden_and_are_restored(tmp_path):
    plain = model_loading.choose()
    params = ('Predictor.feedback = "probabilities"', "Predictor.memory_every = 0")
    changed = model_loading.choose(gin_params=params)
    assert changed.identity not in (plain.identity, model_loading.choose(gin_params=params[:1])[2])
    predictor = changed.load()._model
    assert (predictor.feedback, predictor.memory_every) == ("probabilities", 0)
    predictor = plain.load()._model
    assert (predictor.feedback, predictor.memory_every) == ("labels", 5)
    color_model.save(tmp_path / "saved")
    with pytest.raises(InputError, match="settings of a SavedModel are fixed"):
        model_loading.choose(tmp_path / "saved", gin_params=params)


@pytest.mark.parametrize(
    ("param", "sentence"),
    [
        ("Predictor.feedback = 'masks'", r"feedback: expected .*labels.* found 'masks'"),
        ("Predictor.feedbak = 'labels'", "feedbak"),
        ("Predictr.feedback = 'labels'", "No configurable matching 'Predictr"),
        ("feedback = 'labels'", "expected NAME.ARGUMENT = VALUE"),
        ("Predictor.memory_every", "expected NAME.ARGUMENT = VALUE"),
        ("Predictor.memory_every = (", r"--gin_param='Predictor.memory_every = \('"),
    ],
)
def test_invalid_settings_are_rejected(param, sentence):
    with pytest.raises(InputError, match=sentence):
        model_loading.build_bundled(gin_params=[param])
    assert model_loading.build_bundled().feedback == "labels"

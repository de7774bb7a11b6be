import errno
import json
import pathlib
import subprocess
import sys

import gin
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from feelvos_tf import export as export_module
from feelvos_tf.core.errors import InputError
from feelvos_tf.export import export, find_checkpoint
from feelvos_tf.inference import model_loading
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.models.weights import checkpoint_of
from feelvos_tf.testing import color_model, small_model, without_tensorflow

# The package cannot be imported: the SavedModel must not need its code. It is called first by its
# functions, then by its signatures, as a server does.
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

call = model.signatures
data = {name: tf.constant(array) for name, array in data.items()}
image, later = data["images"]
state = call["start"](image=image, mask=data["mask"])
segmented = call["segment_clip"](images=data["images"], mask=data["mask"])["ids"]
default = call["serving_default"](images=data["images"], mask=data["mask"])["ids"]
assert (default.numpy() == segmented.numpy()).all()
results = call["step"](image=later, **state)
ids, probabilities = results.pop("ids"), results.pop("probabilities")
state = call["add_objects"](mask=data["later_mask"], **results)
added = call["step"](image=image, **state)["probabilities"]
state = call["correct"](mask=data["later_mask"], **state)
state = call["remove"](object_id=tf.constant(3), **state)
corrected = call["step"](image=image, **state)["probabilities"]
refused = []
for name, inputs in (
    ("start", {"image": tf.cast(image, tf.float32) / 255}),
    ("start", {"image": tf.concat([image, image[..., :1]], -1)}),
    ("segment_clip", {"images": data["images"][:0]}),
):
    try:
        call[name](mask=data["mask"], **inputs)
    except tf.errors.InvalidArgumentError as error:
        refused.append(str(error))
np.savez(sys.argv[4], ids=ids, probabilities=probabilities, segmented=segmented, added=added,
         corrected=corrected, refused=refused)
"""


def _read(saved_model: pathlib.Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())


@pytest.fixture(scope="module")
def model():
    return small_model.create()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """Returns the predictor, its SavedModel, and a file with two frames and two masks."""
    images = np.random.default_rng(0).integers(0, 256, [2, 41, 53, 3], np.uint8)
    mask, later_mask = np.zeros([2, 41, 53], np.uint8)
    mask[5:20, 5:25], mask[25:, 30:] = 3, 7
    later_mask[30:, :20] = 5
    folder = tmp_path_factory.mktemp("exported")
    np.savez(folder / "in.npz", images=images, mask=mask, later_mask=later_mask)
    predictor = Predictor(model)
    export(predictor, str(folder / "saved_model"))
    return predictor, folder / "saved_model", folder / "in.npz"


def test_saved_model_gives_the_predictors_masks_without_the_package(exported, eagerly, tmp_path):
    predictor, saved_model, data = exported
    results = [tmp_path / "functions.npz", tmp_path / "signatures.npz"]
    command = [sys.executable, "-c", _WITHOUT_PACKAGE, saved_model, data, *results]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    images, mask, later_mask = (np.load(data)[name] for name in ("images", "mask", "later_mask"))
    expected_ids, expected, state = predictor.step(images[1], predictor.start(images[0], mask))
    state = predictor.add_objects(later_mask, state)
    _, added, _ = predictor.step(images[0], state)
    for path in results:
        got = np.load(path)
        np.testing.assert_allclose(got["probabilities"], expected, atol=1e-4)
        assert np.mean(got["ids"] != expected_ids) < 0.001
        assert set(np.unique(got["ids"])) <= {0, 3, 7}
        np.testing.assert_array_equal(got["segmented"][0], mask)
        np.testing.assert_array_equal(got["segmented"][1], got["ids"])
        assert got["added"].shape == (*mask.shape, 4)
        np.testing.assert_allclose(got["added"], added, atol=1e-4)
    by_signatures = np.load(results[1])
    state = predictor.remove(np.int32(3), predictor.correct(later_mask, state, np.int32(-1)))
    _, corrected, _ = predictor.step(images[0], state)
    np.testing.assert_allclose(by_signatures["corrected"], corrected, atol=1e-4)
    assert len(by_signatures["refused"]) == 3
    for found, sentence in zip(
        by_signatures["refused"],
        (
            "expected to be a uint8 tensor but is a float tensor",
            "[41,53,4] is not compatible with expected shape [?,?,3]",
            "expected at least one image",
        ),
    ):
        assert sentence in found


def test_signatures_name_their_tensors_and_assets_describe_the_model(exported):
    predictor, saved_model, _ = exported
    (graph,) = _read(saved_model).meta_graphs
    state = set(predictor.step.input_signature[1])
    for name, inputs, outputs in (
        ("start", {"image", "mask"}, state),
        ("step", {"image", *state}, {"ids", "probabilities", *state}),
        ("add_objects", {"mask", *state}, state),
        ("correct", {"mask", *state}, state),
        ("remove", {"object_id", *state}, state),
        ("segment_clip", {"images", "mask"}, {"ids"}),
        ("serving_default", {"images", "mask"}, {"ids"}),
    ):
        signature = graph.signature_def[name]
        assert set(signature.inputs) == inputs and set(signature.outputs) == outputs, name
    assert graph.signature_def["step"].inputs["image"].dtype == tf.uint8.as_datatype_enum
    described = json.loads((saved_model / "assets/model.json").read_text())
    assert described["class"] == "feelvos_tf.inference.predictor.Predictor"
    assert "Predictor.feedback = 'labels'" in (saved_model / "assets/settings.gin").read_text()


def test_no_function_is_in_the_file_twice(exported):
    """Loading these operations is what delays a process's first mask."""
    _, saved_model, _ = exported
    (graph,) = _read(saved_model).meta_graphs
    # A signature is a small function around a large one.
    large = [each for each in graph.graph_def.library.function if len(each.node_def) > 30]
    for method in ("extract", "_step", "start", "_add_objects", "_correct", "_remove"):
        found = [each for each in large if f"__inference_{method}_" in each.signature.name]
        assert len(found) == 1, method


def test_weights_that_are_not_finite_are_refused_at_export(model, tmp_path):
    name, variable = next(iter(release_names(model).items()))
    value = variable.numpy()
    broken = value.copy()
    broken.flat[0] = np.nan
    variable.assign(broken)
    try:
        with pytest.raises(InputError, match=f"found 1 of {value.size} in {name} that are not"):
            export(Predictor(model), str(tmp_path / "new"))
    finally:
        variable.assign(value)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_refused_in_a_saved_model(tmp_path):
    model = color_model.ColorModel()
    model._model_variables = {"logits/weights": tf.Variable([1.0, np.inf])}
    tf.saved_model.save(model, str(tmp_path / "new"))
    with pytest.raises(InputError, match="new: expected finite weights, found 1 of 2 in logits/"):
        model_loading.load_saved_model(tmp_path / "new")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "{{x}} a/b; No space left on device [Op:y]"),
    ],
    ids=["python", "tensorflow"],
)
def test_a_full_disk_is_reported_in_one_sentence_and_leaves_nothing(
    model, tmp_path, monkeypatch, error
):
    def save(predictor, folder, *_):
        pathlib.Path(folder).mkdir()
        (pathlib.Path(folder) / "saved_model.pb").write_text("half")
        raise error

    monkeypatch.setattr(export_module, "_save", save)
    with pytest.raises(
        InputError, match="new: cannot be written, no space is left on the disk$"
    ) as caught:
        export(Predictor(model), str(tmp_path / "new"))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_reported_in_one_sentence(model):
    with pytest.raises(InputError, match="/proc/new/model: cannot be written, "):
        export(Predictor(model), "/proc/new/model")


def test_an_existing_folder_is_not_touched(model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="does not exist yet"):
        export(Predictor(model), str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_without_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match="expected a checkpoint of the trainer, found none"):
        find_checkpoint(str(tmp_path))


def test_unusable_folders_and_files_are_reported_without_waiting_for_tensorflow(tmp_path):
    run, new = f"--model_dir={tmp_path / 'run'}", f"--export_dir={tmp_path / 'new'}"
    (tmp_path / "run").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "operative_config.gin").write_text("")
    for arguments, sentence in {
        (): "expected --export_dir",
        (new,): "expected either --model_dir or --bundled, found neither",
        (run, f"--export_dir={tmp_path}"): "expected a folder that does not exist yet",
        (f"--model_dir={tmp_path / 'empty'}", new): "expected the settings of a training run",
        (run, new, "--gin_file=no.gin"): "no.gin: expected a gin file",
        (run, new, "--bundled"): "expected either --model_dir or --bundled, found both",
        ("--bundled", new, "--gin_file=no.gin"): "--gin_file needs --model_dir",
        ("--bundled", new, "--checkpoint=ckpt-1"): "--checkpoint needs --model_dir",
        (run, new, "--frame_size=240x427"): "--frame_size needs --format=tflite",
        ("--bundled", new, "--format=tflite"): "--frame_size: expected HEIGHTxWIDTH, found none",
        ("--bundled", new, "--format=tflite", "--frame_size=00x00"): "HEIGHTxWIDTH, found 00x00",
    }.items():
        result = without_tensorflow.run("feelvos_tf.export", *arguments)
        assert result.returncode == 1 and sentence in result.stderr, result.stderr


def test_the_exported_model_is_the_evaluated_one(tmp_path, monkeypatch, eagerly):
    seen = []
    monkeypatch.setattr(export_module, "export", lambda predictor, _: seen.append(predictor))
    (tmp_path / "operative_config.gin").write_text(
        "Feelvos.backbone = @MobileNetV2()\n"
        "MobileNetV2.depth_multiplier = 0.1\n"
        "MobileNetV2.output_stride = 16\n"
        "Feelvos.atrous_rates = ()\n"
        "Feelvos.embedding_dimension = 8\n"
        "Predictor.merge = 'max'\n"
        "evaluation/Predictor.merge = 'avg'\n"
        "Predictor.scales = (1.0, 0.5)\n"
    )
    trained = small_model.create(backbone=MobileNetV2)
    checkpoint_of(release_names(trained)).save(str(tmp_path / "ckpt"))
    flags = ["export", f"--model_dir={tmp_path}", f"--export_dir={tmp_path / 'new'}"]
    export_module._FLAGS(flags)
    try:
        export_module.main()
    finally:
        gin.clear_config()
    (predictor,) = seen
    assert (predictor.merge, predictor.scales) == ("avg", (1.0, 0.5))
    image = np.random.default_rng(0).integers(0, 256, [32, 48, 3], np.uint8)
    mask = np.zeros([32, 48], np.uint8)
    mask[5:20, 5:25] = 3
    trained_predictor = Predictor(trained, merge="avg", scales=(1.0, 0.5))
    _, expected, _ = trained_predictor.step(image, trained_predictor.start(image, mask))
    _, got, _ = predictor.step(image, predictor.start(image, mask))
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert not any("gamma" in variable.name for variable in predictor.variables)

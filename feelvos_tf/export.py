"""Writes a trained model as a SavedModel that needs no feelvos_tf code to run.

    python -m feelvos_tf.export --model_dir=DIR --export_dir=DIR [--gin_file=...] [--gin_param=...]

The SavedModel has the functions of feelvos_tf/inference/predictor.py:

    start(image, mask) -> state
    step(image, state) -> ids, probabilities, state
    add_objects(mask, state) -> state
    correct(mask, state, max_total_reference_pixels) -> state
    remove(object_id, state) -> state
    segment_clip(images, mask) -> ids

and signatures of the same names for TensorFlow Serving (feelvos_tf/inference/SERVING.md).
The settings are those of the training run; those in its `evaluation/` scope take precedence.
--bundled exports the model that comes with the package instead of --model_dir's.

    python -m feelvos_tf.export --bundled --export_dir=DIR --format=tflite --frame_size=240x427

writes DIR/model.tflite for frames of one size instead; SERVING.md compares the two.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import TYPE_CHECKING

import feelvos_tf
from feelvos_tf.core import atomic_files, cli, gin_settings
from feelvos_tf.core.errors import InputError

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_MODEL_DIR = _DEFINE.string("model_dir", "Folder of the training run.")
_EXPORT_DIR = _DEFINE.string("export_dir", "Folder to write; must not exist yet.", required=True)
_CHECKPOINT = _DEFINE.string(
    "checkpoint", "Checkpoint prefix; the latest of --model_dir by default."
)
_BUNDLED = _DEFINE.boolean("bundled", "Export the model that comes with the package.", False)
_FORMAT = _DEFINE.enum(
    "format", "What to write.", "saved_model", enum_values=["saved_model", "tflite"]
)
_FRAME_SIZE = _DEFINE.string("frame_size", "TFLite: HEIGHTxWIDTH of the frames, e.g. 240x427.")
_NUM_OBJECTS = _DEFINE.integer(
    "num_objects",
    "TFLite: objects in a mask, not counting the background.",
    1,
    lower_bound=1,
    upper_bound=254,
)
_PRECISION = _DEFINE.enum(
    "precision",
    "TFLite: precision of the weights.",
    "float16",
    enum_values=["float32", "float16", "int8"],
)
_GIN_FILE, _GIN_PARAM = gin_settings.define_flags(
    _FLAGS,
    "Settings that override the training run's, e.g. gin_configs/evaluation.gin",
    "output_stride = 8",
)


def find_checkpoint(model_dir: str, checkpoint: str | None = None) -> str:
    """Returns the prefix of the checkpoint to export.

    Args:
      model_dir: folder with checkpoints of the trainer.
      checkpoint: prefix of one of them; the latest by default.

    Raises:
      InputError: there is no such checkpoint.
    """
    import tensorflow as tf

    prefix = checkpoint or tf.train.latest_checkpoint(model_dir)
    if prefix is None or not tf.io.gfile.exists(f"{prefix}.index"):
        raise InputError(f"{prefix or model_dir}: expected a checkpoint of the trainer, found none")
    return prefix


def export(predictor: Predictor, export_dir: str) -> None:
    """Writes `predictor` as a SavedModel, atomically.

    Its folder `assets` describes it: `settings.gin` contains the settings it was built with,
    `model.json` its class and versions.

    Raises:
      InputError: `export_dir` exists or cannot be written, or a weight is not finite.
    """
    import tensorflow as tf

    predictor.check_weights(export_dir)
    with atomic_files.new_folder(export_dir) as temporary:
        try:
            _save(predictor, temporary)
        except tf.errors.OpError as error:
            raise atomic_files.refusal(pathlib.Path(export_dir), error) from error


def _save(predictor: Predictor, folder: pathlib.Path) -> None:
    """Writes the SavedModel with a description for people and programs."""
    import gin
    import tensorflow as tf

    from feelvos_tf.inference.deploy.serving_signatures import signatures

    tf.saved_model.save(predictor, str(folder), signatures(predictor))
    kind = type(predictor)
    described = {
        "class": f"{kind.__module__}.{kind.__name__}",
        "feelvos_tf": feelvos_tf.__version__,
        "tensorflow": tf.__version__,
    }
    assets = folder / "assets"
    assets.mkdir(exist_ok=True)
    (assets / "model.json").write_text(json.dumps(described, indent=1) + "\n")
    (assets / "settings.gin").write_text(gin.operative_config_str())


def main() -> None:
    """Exports the checkpoint that the flags name."""
    if (_MODEL_DIR.value is None) != _BUNDLED.value:
        found = "both" if _BUNDLED.value else "neither"
        raise InputError(f"expected either --model_dir or --bundled, found {found}")
    _check_used("--model_dir", not _BUNDLED.value, "checkpoint", "gin_file")
    is_tflite = _FORMAT.value == "tflite"
    _check_used("--format=tflite", is_tflite, "frame_size", "num_objects", "precision")
    atomic_files.check_new(_EXPORT_DIR.value)
    size = _frame_size() if is_tflite else None
    files = [gin_settings.find(name) for name in _GIN_FILE.value]
    if not _BUNDLED.value:
        gin_settings.operative_config_of(_MODEL_DIR.value)
    print("loading TensorFlow and the model ...", flush=True)
    if not _BUNDLED.value:
        from feelvos_tf import configurables  # noqa: F401

        gin_settings.parse_model_dir(_MODEL_DIR.value, _GIN_PARAM.value, files)
    with gin_settings.input_errors():
        predictor = _predictor()
        print(f"writing {_EXPORT_DIR.value}, which takes up to a minute ...", flush=True)
        if size is None:
            export(predictor, _EXPORT_DIR.value)
            print(f"SavedModel: {_EXPORT_DIR.value}")
        else:
            print(f"TFLite: {_export_tflite(predictor, size)}")


def _check_used(needed: str, is_given: bool, *names: str) -> None:
    """Raises InputError if one of these flags is given without the one it needs."""
    for name in names:
        if _FLAGS[name].present and not is_given:
            raise InputError(f"--{name} needs {needed}")


def _predictor() -> Predictor:
    """Returns the model that the flags name."""
    from feelvos_tf.inference import model_loading

    if _BUNDLED.value:
        return model_loading.build_bundled(gin_params=_GIN_PARAM.value)
    checkpoint = find_checkpoint(_MODEL_DIR.value, _CHECKPOINT.value)
    return model_loading.build_evaluated(checkpoint)[1]


def _frame_size() -> tuple[int, int]:
    """Returns height and width of the frames of a TFLite file."""
    found = re.fullmatch(r"([1-9]\d{1,3})x([1-9]\d{1,3})", _FRAME_SIZE.value or "")
    if not found:
        raise InputError(
            f"--frame_size: expected HEIGHTxWIDTH, found {_FRAME_SIZE.value or 'none'}"
        )
    return int(found[1]), int(found[2])


def _export_tflite(predictor: Predictor, size: tuple[int, int]) -> pathlib.Path:
    """Writes the TFLite file and returns its path."""
    from feelvos_tf.inference.deploy import tflite_model

    predictor.check_weights(_EXPORT_DIR.value)
    num_objects = _NUM_OBJECTS.value + 1  # With the background.
    content = tflite_model.convert(predictor, size, num_objects, _PRECISION.value)
    path = pathlib.Path(_EXPORT_DIR.value) / "model.tflite"
    with atomic_files.replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


if __name__ == "__main__":
    cli.run(main)

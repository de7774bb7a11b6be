"""The trained model that comes with the package, in `feelvos_tf/pretrained/`.

`tools/pack_pretrained.py` writes that folder, `MODEL_CARD.md` in it tells what the model is.
TensorFlow is imported by `build` alone, so that programs can look at the folder without waiting.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pathlib
import re
from typing import TYPE_CHECKING

import gin

from feelvos_tf.core import gin_settings, text_file
from feelvos_tf.core.errors import InputError

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor
    from feelvos_tf.models.feelvos import Feelvos

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "pretrained"
WEIGHTS, SETTINGS = "weights.npz", "settings.gin"
FAST_INFERENCE_SIZE = 240
# Settings of the bundled model are bound in a scope of their own: they are not mixed with those
# that a program, or a user of the package, has made.
_SCOPE = "bundled_model"
_MODULES = (
    "feelvos_tf.models.backbones.mobilenet_v2",
    "feelvos_tf.models.backbones.xception",
    "feelvos_tf.models.feelvos",
    "feelvos_tf.inference.predictor",
)
_BINDING = re.compile(r"^(\w+\.\w+ = .+)$", re.MULTILINE)
_INFERENCE_SIZE = re.compile(r"^inference_size = (\d+)$", re.MULTILINE)


def check(folder: str | os.PathLike[str] = FOLDER) -> None:
    """Raises InputError unless the folder holds weights and settings."""
    for name in (WEIGHTS, SETTINGS):
        if not (pathlib.Path(folder) / name).is_file():
            raise InputError(
                f"no trained model is bundled here ({pathlib.Path(folder) / name} is missing): "
                "name one with --saved_model, a folder written by feelvos_tf.export"
            )


def inference_size(folder: str | os.PathLike[str] = FOLDER) -> int:
    """Returns the pixels of the short side at which the model scores best.

    Raises:
      InputError: the settings do not say.
    """
    path = pathlib.Path(folder) / SETTINGS
    found = _INFERENCE_SIZE.search(_read(path))
    if found is None:
        raise InputError(f"{path}: expected a line like 'inference_size = 400', found none")
    return int(found[1])


def fingerprint(folder: str | os.PathLike[str] = FOLDER) -> str:
    """Returns 16 hexadecimal digits that change with the model's settings or weights."""
    digest = hashlib.sha256()
    for name in (SETTINGS, WEIGHTS):
        digest.update((pathlib.Path(folder) / name).read_bytes())
    return digest.hexdigest()[:16]


def build(folder: str | os.PathLike[str] = FOLDER) -> Predictor:
    """Returns the predictor of the model, batch norm fused for inference.

    Raises:
      InputError: a file is missing, damaged, or does not fit the other one.
    """
    return _build(folder, fused=True)[1]


def build_trainable(folder: str | os.PathLike[str] = FOLDER) -> tuple[Feelvos, Predictor]:
    """Returns the network, whose weights can be trained further, and its predictor.

    Raises:
      InputError: a file is missing, damaged, or does not fit the other one.
    """
    return _build(folder, fused=False)


def _build(folder: str | os.PathLike[str], fused: bool) -> tuple[Feelvos, Predictor]:
    check(folder)
    for module in _MODULES:
        importlib.import_module(module)
    from feelvos_tf.inference.predictor import Predictor
    from feelvos_tf.models import packed_weights
    from feelvos_tf.models.feelvos import Feelvos

    _bind(pathlib.Path(folder) / SETTINGS)
    with gin.config_scope([_SCOPE]), gin_settings.input_errors():
        model = Feelvos()
        model.create_variables()
        packed_weights.load(model, pathlib.Path(folder) / WEIGHTS)
        if fused:
            model.fuse_batch_norm()
        return model, Predictor(model)


def _read(settings: pathlib.Path) -> str:
    return text_file.read(settings, "settings of a model")


def _bind(path: pathlib.Path) -> None:
    """Binds the settings of a file, one a line, in the scope of the bundled model."""
    bindings = _BINDING.findall(_read(path))
    try:
        with gin.unlock_config():
            gin.parse_config([f"{_SCOPE}/{binding}" for binding in bindings])
    except (SyntaxError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {str(error).strip().splitlines()[0]}") from error

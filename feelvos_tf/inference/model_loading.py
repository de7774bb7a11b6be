"""Loads models: the bundled one, a SavedModel, or the checkpoint of a training run.

The bundled model is in `feelvos_tf/pretrained/`, written by `tools/pack_pretrained.py` and
described in `MODEL_CARD.md` there. TensorFlow is imported only when a model is built or loaded, so
that programs can check their flags and files without waiting.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import tokenize
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gin
from absl import flags

from feelvos_tf.core import cli, gin_settings, whole_files
from feelvos_tf.core.errors import InputError, first_line
from feelvos_tf.inference.video_predictor import VideoPredictor

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor
    from feelvos_tf.models.feelvos import Feelvos

BUNDLED = pathlib.Path(__file__).resolve().parents[1] / "pretrained"
WEIGHTS, SETTINGS = "weights.npz", "settings.gin"
# --fast: as many pixels as a whole frame at this size, but around the objects.
FAST_INFERENCE_SIZE, FAST_WINDOW = 240, 1.0
# The bundled model's settings have their own scope, so that they do not mix with those of a program
# or of a user of the package.
SCOPE = "bundled_model"
_INFERENCE_SIZE, _WINDOW = "inference_size", "window"
_LINE = re.compile(r"\s*(?:(?P<name>[\w.]+)\s*=\s*(?P<value>[^#]+?))?\s*(?:#.*)?")


class ModelChoice(NamedTuple):
    """A model that exists but is not loaded yet.

    Attributes:
      path: folder of a SavedModel; None for the bundled model.
      inference_size: pixels on the short side of the frames while the model runs; None for the
        frames' own size.
      identity: changes with the model's settings or weights.
      window: see `VideoPredictor`.
      gin_params: settings that override the bundled model's own.
    """

    path: str | os.PathLike[str] | None
    inference_size: int | None
    identity: str
    window: float = 0.0
    gin_params: tuple[str, ...] = ()

    def load(self, max_total_reference_pixels: int | None = None) -> VideoPredictor:
        """Returns the model, ready to run; this is the slow part.

        Args:
          max_total_reference_pixels: see `VideoPredictor`.

        Raises:
          InputError: the model is damaged, or a setting is unknown or out of range.
        """
        if self.path is None:
            from feelvos_tf.inference import graph_cache

            model = graph_cache.load(
                self.identity, lambda: build_bundled(gin_params=self.gin_params)
            )
        else:
            model = load_saved_model(self.path)
        return VideoPredictor(
            model, self.inference_size, max_total_reference_pixels, self.identity, self.window
        )


def choose(
    path: str | os.PathLike[str] | None = None,
    inference_size: int | None = None,
    window: float | None = None,
    gin_params: Sequence[str] = (),
) -> ModelChoice:
    """Returns the choice after checking the model's files.

    Args:
      path: folder written by `feelvos_tf.export`; None for the bundled model.
      inference_size: see `ModelChoice`; by default the size at which the bundled model scores best
        or, for a SavedModel, the frames' own.
      window: see `VideoPredictor`; by default the bundled model's or, for a SavedModel, 0.
      gin_params: see `ModelChoice`.

    Raises:
      InputError: the model is missing, or settings are given for a SavedModel, whose own are fixed.
    """
    if path is not None:
        if gin_params:
            raise InputError(
                f"--gin_param={gin_params[0]!r}: expected the bundled model or the folder of a "
                "training run, since the settings of a SavedModel are fixed, found --saved_model"
            )
        check_saved_model(path)
        return ModelChoice(path, inference_size, saved_model_fingerprint(path), window or 0.0)
    check_bundled()
    if inference_size is None:
        inference_size = bundled_inference_size()
    if window is None:
        window = bundled_window()
    identity = with_params(bundled_fingerprint(), gin_params)
    return ModelChoice(None, inference_size, identity, window, tuple(gin_params))


def with_params(identity: str, gin_params: Sequence[str]) -> str:
    """Returns the identity of a model with some settings replaced."""
    if not gin_params:
        return identity
    return fingerprint("\n".join([identity, *gin_params]).encode())


def fingerprint(*contents: bytes) -> str:
    """Returns 16 hexadecimal digits that change with the contents."""
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


class ModelFlags:
    """The flags of one program that choose a model."""

    def __init__(self, flag_values: flags.FlagValues):
        """Defines --saved_model, --inference_size, --window and --fast.

        Args:
          flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
        """
        group = cli.FlagGroup(flag_values, "The model")
        group.string(
            "saved_model",
            "Folder written by feelvos_tf.export; by default the model bundled with the package.",
        )
        group.integer(
            "inference_size",
            "Run the model on frames scaled to this many pixels on the short side; masks keep the "
            "frame's full size. By default the bundled model runs at the size at which it scores "
            "best, a --saved_model at the frames' own size.",
            lower_bound=16,
            upper_bound=8192,
        )
        group.floating(
            "window",
            "Process this share of a frame's pixels, around the objects: small ones are enlarged "
            "and large ones reduced to fit it. 0 processes whole frames, as in the paper and, by "
            "default, with a --saved_model.",
            lower_bound=0.0,
            upper_bound=1.0,
        )
        group.boolean(
            "fast",
            f"Short for --inference_size={FAST_INFERENCE_SIZE} --window={FAST_WINDOW:g}: several "
            "times as fast, but less accurate.",
            False,
        )
        self._flags = flag_values

    def overrides(self) -> tuple[int | None, float | None]:
        """Returns inference size and window, None if no flag sets it."""
        size, window = self._flags.inference_size, self._flags.window
        if self._flags.fast:
            size = FAST_INFERENCE_SIZE if size is None else size
            window = FAST_WINDOW if window is None else window
        return size, window

    def choice(self, gin_params: Sequence[str] = ()) -> ModelChoice:
        """Returns the chosen model. See `choose` and `overrides`."""
        return choose(self._flags.saved_model, *self.overrides(), gin_params)


def check_bundled(folder: str | os.PathLike[str] = BUNDLED) -> None:
    """Raises InputError unless the folder of a bundled model holds weights and settings."""
    for path in (pathlib.Path(folder) / name for name in (WEIGHTS, SETTINGS)):
        if not path.is_file():
            raise InputError(
                f"no trained model is bundled here ({path} is missing): name one with "
                "--saved_model, a folder written by feelvos_tf.export"
            )


def bundled_inference_size(folder: str | os.PathLike[str] = BUNDLED) -> int:
    """Returns the pixels on the short side at which the bundled model scores best.

    Raises:
      InputError: the settings lack it.
    """
    return int(_number(folder, _INFERENCE_SIZE, r"\d+", "400"))


def bundled_window(folder: str | os.PathLike[str] = BUNDLED) -> float:
    """Returns the share of a frame that the bundled model processes; see `VideoPredictor`.

    Raises:
      InputError: the settings lack it.
    """
    return float(_number(folder, _WINDOW, r"0(\.\d+)?|1(\.0)?", "0.5"))


def _number(folder: str | os.PathLike[str], name: str, pattern: str, example: str) -> str:
    """Returns one of the bundled model's settings that gin does not know."""
    path = pathlib.Path(folder) / SETTINGS
    found = _read_settings(path).get(name, "none")
    if not re.fullmatch(pattern, found):
        raise InputError(f"{path}: expected a line such as '{name} = {example}', found {found}")
    return found


def bundled_fingerprint(folder: str | os.PathLike[str] = BUNDLED) -> str:
    """Returns 16 hexadecimal digits that change with the bundled model's settings or weights."""
    return fingerprint(*((pathlib.Path(folder) / n).read_bytes() for n in (SETTINGS, WEIGHTS)))


def build_bundled(
    folder: str | os.PathLike[str] = BUNDLED, gin_params: Sequence[str] = ()
) -> Predictor:
    """Returns the predictor of the bundled model, with batch norm fused.

    See `build_bundled_network`.
    """
    return build_bundled_network(folder, gin_params)[1]


def build_bundled_network(
    folder: str | os.PathLike[str] = BUNDLED, gin_params: Sequence[str] = (), fused: bool = True
) -> tuple[Feelvos, Predictor]:
    """Returns the network of the bundled model, and its predictor.

    Args:
      folder: of the bundled model.
      gin_params: see `ModelChoice`.
      fused: whether to fuse batch norm, after which the network cannot be trained.

    Raises:
      InputError: a file is missing, damaged, or does not match the other; a setting is unknown or
        out of range.
    """
    check_bundled(folder)
    # Registers what the settings refer to.
    from feelvos_tf.inference.predictor import Predictor
    from feelvos_tf.models import packed_weights
    from feelvos_tf.models.backbones import mobilenet_v2, xception  # noqa: F401
    from feelvos_tf.models.feelvos import Feelvos

    path = pathlib.Path(folder) / SETTINGS
    _bind(str(path), _read_settings(path))
    for param in gin_params:
        place = f"--gin_param={param!r}"
        found = _LINE.fullmatch(param)
        if not found or not found["name"] or "." not in found["name"]:
            raise InputError(f"{place}: expected NAME.ARGUMENT = VALUE")
        _bind(place, {found["name"]: found["value"]})
    with gin.config_scope([SCOPE]), gin_settings.input_errors():
        model = Feelvos()
        model.create_variables()
        packed_weights.load(model, pathlib.Path(folder) / WEIGHTS)
        if fused:
            model.fuse_batch_norm()
        return model, Predictor(model)


def _read_settings(path: pathlib.Path) -> dict[str, str]:
    """Returns name -> value of the settings of a bundled model, one per line."""
    settings = {}
    for number, line in enumerate(
        whole_files.read_text(path, "settings of a model").splitlines(), 1
    ):
        found = _LINE.fullmatch(line)
        if not found:
            raise InputError(f"{path}, line {number}: expected NAME = VALUE, found {line!r}")
        if found["name"]:
            settings[found["name"]] = found["value"]
    return settings


def _bind(place: str, settings: Mapping[str, str]) -> None:
    """Binds settings of the file or flag `place` in the scope of the bundled model."""
    own = (_INFERENCE_SIZE, _WINDOW)
    statements = [f"{SCOPE}/{n} = {value}" for n, value in settings.items() if n not in own]
    try:
        with gin.unlock_config():
            gin.parse_config(statements)
    except (SyntaxError, ValueError, TypeError, tokenize.TokenError) as error:
        raise InputError(f"{place}: {first_line(error)}") from error


def check_saved_model(path: str | os.PathLike[str]) -> None:
    """Raises InputError unless the folder looks like a SavedModel."""
    file = pathlib.Path(path) / "saved_model.pb"
    whole_files.check_is_file(file, "a SavedModel (python -m feelvos_tf.export writes one)")


def saved_model_fingerprint(path: str | os.PathLike[str]) -> str:
    """Returns 16 hexadecimal digits that change with a SavedModel's graph or weights.

    The index of the variables holds a checksum of every weight, so the weights need not be read.
    """
    files = (pathlib.Path(path) / n for n in ("saved_model.pb", "variables/variables.index"))
    return fingerprint(*(file.read_bytes() for file in files if file.is_file()))


def load_saved_model(path: str | os.PathLike[str]) -> Any:
    """Returns a loaded SavedModel after checking that this project wrote it.

    Raises:
      InputError: this project did not write it, it is damaged, or a weight is not finite.
    """
    check_saved_model(path)
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise InputError(
            f"{path}: cannot be loaded as a SavedModel ({first_line(error)})"
        ) from error
    if not hasattr(model, "start") or not hasattr(model, "step"):
        raise InputError(
            f"{path}: expected a SavedModel written by feelvos_tf.export, found one without its "
            "functions start and step"
        )
    from feelvos_tf.models.packed_weights import check_all_finite

    check_all_finite(path, getattr(model, "_model_variables", {}))
    return model


def build_evaluated(checkpoint: str | None = None, fused: bool = True) -> tuple[Feelvos, Predictor]:
    """Returns a network as it is evaluated and exported, and its predictor.

    Export, `feelvos_tf.evaluate` and validation during training all build it here, so that a
    checkpoint has one score. Settings bound as `evaluation/...` override those of training.

    Args:
      checkpoint: prefix of the weights to load; None for variables with random values, to be
        assigned later any number of times.
      fused: whether to fuse the batch norm of a checkpoint, after which the network cannot be
        trained.

    Raises:
      InputError: a setting is out of range, or the checkpoint does not match the model.
    """
    from feelvos_tf.inference.predictor import Predictor
    from feelvos_tf.models.feelvos import Feelvos
    from feelvos_tf.models.weights import load_weights

    with gin_settings.evaluation_scope():
        model = Feelvos()
        model.create_variables()
        if checkpoint is not None:
            load_weights(model, checkpoint)
            if fused:
                model.fuse_batch_norm()
        return model, Predictor(model)

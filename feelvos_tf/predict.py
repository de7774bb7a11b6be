"""Segments one or more videos: frames in, indexed PNGs out.

    python -m feelvos_tf.predict --video=FILE_OR_FOLDER --mask=first.png --output_dir=OUT \\
        [--overlay=out.mp4] [--fast|--best]

writes OUT/00000.png ... with the DAVIS palette; the first is the given mask. The model is the one
that comes with the package (feelvos_tf/pretrained/MODEL_CARD.md), unless --saved_model=DIR or
--model_dir=DIR, the folder of a training run, selects another one; --finetune_steps=60 first trains
it on the given mask (feelvos_tf/training/FINE_TUNING.md), and --gin_param overrides settings.
--first_frame=first.png instead of --mask writes the frame to draw the mask on.

    python -m feelvos_tf.predict --videos=LIST_OR_TREE --output_dir=OUT
    python -m feelvos_tf.predict --dataset_root=DIR --year=2017 --split=val --output_dir=OUT \\
        [--overlays=DIR]

do the same for many videos, into OUT/<name>, or on a Ray cluster with --ray.
feelvos_tf/media/README.md lists the supported videos and masks and what else can be written.

Frames of a video file are numbered from 00000; masks for a folder are named like its images. A
folder of masks appears when it is complete, and a later run with the same model and settings
continues where an interrupted one stopped.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gin
from absl import flags

from feelvos_tf import export
from feelvos_tf.core import cli, gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import command_line, model_loading
from feelvos_tf.inference.video_predictor import VideoPredictor

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor
    from feelvos_tf.models.feelvos import Feelvos

_FLAGS = cli.flag_values(__name__)
_COMMAND_LINE = command_line.define(_FLAGS)
_MODEL = model_loading.define_flags(_FLAGS)
_MODEL_DIR = flags.DEFINE_string(
    "model_dir",
    None,
    "Folder of a training run, whose last checkpoint is used as it is.",
    flag_values=_FLAGS,
)
_FINETUNE_STEPS = flags.DEFINE_integer(
    "finetune_steps",
    0,
    "Train the model for this many steps on the first frame of each video and its mask before it "
    "segments the rest: minutes on a CPU. The model's files are not changed.",
    lower_bound=0,
    flag_values=_FLAGS,
)
_SAVE_EMBEDDINGS = flags.DEFINE_string(
    "save_embeddings",
    None,
    "Folder for the embedding vectors of every frame: 10 MB for a frame of 480x854 pixels.",
    flag_values=_FLAGS,
)
_DISTANCE_MAPS = flags.DEFINE_string(
    "distance_maps",
    None,
    "Folder for images of the global and local distance maps of every frame, as in the paper's "
    "figure 2. Not with --saved_model.",
    flag_values=_FLAGS,
)
_GIN_PARAM = flags.DEFINE_multi_string(
    "gin_param",
    [],
    "A setting of the bundled model or of --model_dir to override, e.g. "
    "'Predictor.feedback = \"probabilities\"' or 'Predictor.memory_every = 0'.",
    flag_values=_FLAGS,
)
cli.group_flags(
    _FLAGS,
    "The model",
    ["model_dir", "gin_param", "finetune_steps", "save_embeddings", "distance_maps"],
)


def main(argv: list[str]) -> None:
    """Propagates masks through the videos that the flags select."""
    del argv
    if _COMMAND_LINE.write_first_frame():
        return
    if _DISTANCE_MAPS.value is not None and _MODEL.path is not None:
        raise InputError(
            "--distance_maps: expected the bundled model or --model_dir, found --saved_model"
        )
    steps = _FINETUNE_STEPS.value
    model: _Trained | model_loading.ModelChoice
    if _MODEL_DIR.value is None and not steps:
        model = _MODEL.choice(_GIN_PARAM.value)
    else:
        size, window = _MODEL.inference_size, _MODEL.window
        gin_params = _MODEL.gin_params(_GIN_PARAM.value)
        model = _trained(_MODEL.path, _MODEL_DIR.value, steps, size, window, gin_params)
    settings = {
        "saved_model": model.identity,
        "inference_size": model.inference_size,
        "window": model.window,
    }
    if steps:
        settings["finetune_steps"] = steps

    _COMMAND_LINE.run(model.load, settings, _SAVE_EMBEDDINGS.value, _DISTANCE_MAPS.value)


@dataclasses.dataclass(frozen=True)
class _Trained:
    """A network built in code: a training run's, or (if `model_dir` is None) the bundled one."""

    model_dir: str | None
    finetune_steps: int
    inference_size: int | None
    identity: str
    window: float
    gin_params: tuple[str, ...]

    def load(self) -> VideoPredictor:
        """Returns the model, ready to run."""
        if not self.finetune_steps:
            _, predictor = self._built(fused=True)
            return VideoPredictor(
                predictor, self.inference_size, identity=self.identity, window=self.window
            )
        from feelvos_tf.training.first_frame import FineTunedPredictor

        built = self._built(fused=False)
        # Where --gin_param binds settings of the bundled model.
        with gin.config_scope(model_loading.SCOPE if self.model_dir is None else None):
            return FineTunedPredictor(
                *built, self.finetune_steps, self.inference_size, self.identity, self.window
            )

    def _built(self, fused: bool) -> tuple[Feelvos, Predictor]:
        """Returns the network with its weights, and its predictor."""
        if self.model_dir is None:
            return model_loading.build_bundled_network(gin_params=self.gin_params, fused=fused)
        from feelvos_tf import configurables  # noqa: F401

        gin_settings.parse_model_dir(self.model_dir, self.gin_params)
        with gin_settings.input_errors():
            return model_loading.build_evaluated(export.find_checkpoint(self.model_dir), fused)


def _trained(
    saved_model: str | None,
    model_dir: str | None,
    finetune_steps: int,
    size: int | None,
    window: float | None,
    gin_params: Sequence[str],
) -> _Trained:
    """Returns the network that the flags select, after checking that its files exist."""
    if saved_model is not None and model_dir is not None:
        raise InputError("expected --saved_model or --model_dir, found both")
    if saved_model is not None:
        raise InputError(
            "--finetune_steps: expected the bundled model or --model_dir, since the weights of "
            "a SavedModel cannot be trained, found --saved_model"
        )
    if model_dir is None:
        _, *chosen = model_loading.choose(None, size, window, gin_params)
        return _Trained(None, finetune_steps, *chosen)
    settings = gin_settings.operative_config_of(model_dir)
    index = pathlib.Path(f"{export.find_checkpoint(model_dir)}.index")
    identity = model_loading.fingerprint(settings.read_bytes(), index.read_bytes())
    identity = model_loading.with_params(identity, gin_params)
    params = tuple(gin_params)
    return _Trained(model_dir, finetune_steps, size, identity, window or 0.0, params)


if __name__ == "__main__":
    cli.run(main)

"""Segments one or more videos: frames in, indexed PNGs out.

    python -m feelvos_tf.predict --video=FILE_OR_FOLDER --mask=first.png --output_dir=OUT \\
        [--overlay=out.mp4] [--fast]

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

import functools
import pathlib
from collections.abc import Callable, Sequence

import gin

from feelvos_tf import export
from feelvos_tf.core import cli, gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import command_line, model_loading
from feelvos_tf.inference.model_loading import ModelChoice
from feelvos_tf.inference.video_predictor import VideoPredictor

_FLAGS = cli.flag_values(__name__)
_COMMAND_LINE = command_line.CommandLine(_FLAGS)
_MODEL = model_loading.ModelFlags(_FLAGS)
_DEFINE = cli.FlagGroup(_FLAGS, "The model")
_MODEL_DIR = _DEFINE.string(
    "model_dir", "Folder of a training run, whose last checkpoint is used as it is."
)
_GIN_PARAM = _DEFINE.multi_string(
    "gin_param",
    "A setting of the bundled model or of --model_dir to override, e.g. "
    "'Predictor.feedback = \"probabilities\"' or 'Predictor.memory_every = 0'.",
    [],
)
_FINETUNE_STEPS = _DEFINE.integer(
    "finetune_steps",
    "Train the model for this many steps on the first frame of each video and its mask before it "
    "segments the rest: minutes on a CPU. The model's files are not changed.",
    0,
    lower_bound=0,
)
_SAVE_EMBEDDINGS = _DEFINE.string(
    "save_embeddings",
    "Folder for the embedding vectors of every frame: 10 MB for a frame of 480x854 pixels.",
)
_DISTANCE_MAPS = _DEFINE.string(
    "distance_maps",
    "Folder for images of the global and local distance maps of every frame, as in the paper's "
    "figure 2. Not with --saved_model.",
)


def main() -> None:
    """Propagates masks through the videos that the flags select."""
    if _COMMAND_LINE.write_first_frame():
        return
    choice, load = _chosen_model()
    settings = {
        "saved_model": choice.identity,
        "inference_size": choice.inference_size,
        "window": choice.window,
    }
    if _FINETUNE_STEPS.value:
        settings["finetune_steps"] = _FINETUNE_STEPS.value
    _COMMAND_LINE.run(load, settings, _SAVE_EMBEDDINGS.value, _DISTANCE_MAPS.value)


def _chosen_model() -> tuple[ModelChoice, Callable[[], VideoPredictor]]:
    """Returns the model that the flags choose, whose files exist, and a function that loads it."""
    model_dir, steps = _MODEL_DIR.value, _FINETUNE_STEPS.value
    for flag in (_MODEL_DIR, _FINETUNE_STEPS, _DISTANCE_MAPS):
        if _FLAGS.saved_model is not None and flag.value not in (None, 0):
            raise InputError(
                f"--{flag.name}: expected the bundled model or a training run, found "
                "--saved_model; a SavedModel cannot be trained and returns only masks"
            )
    if model_dir is None:
        choice = _MODEL.choice(_GIN_PARAM.value)
    else:
        choice = _choose_run(model_dir, *_MODEL.overrides(), tuple(_GIN_PARAM.value))
    if model_dir is None and not steps:
        return choice, choice.load
    return choice, functools.partial(_load_network, model_dir, steps, choice)


def _choose_run(
    model_dir: str, inference_size: int | None, window: float | None, gin_params: Sequence[str]
) -> ModelChoice:
    """Returns the model of a training run, after checking its files."""
    settings = gin_settings.operative_config_of(model_dir)
    index = pathlib.Path(f"{export.find_checkpoint(model_dir)}.index")
    identity = model_loading.fingerprint(settings.read_bytes(), index.read_bytes())
    identity = model_loading.with_params(identity, gin_params)
    return ModelChoice(None, inference_size, identity, window or 0.0, tuple(gin_params))


def _load_network(
    model_dir: str | None, finetune_steps: int, choice: ModelChoice
) -> VideoPredictor:
    """Returns a training run's network, built in code; the bundled one if `model_dir` is None."""
    is_fused = not finetune_steps
    if model_dir is None:
        network = model_loading.build_bundled_network(gin_params=choice.gin_params, fused=is_fused)
    else:
        from feelvos_tf import configurables  # noqa: F401

        gin_settings.parse_model_dir(model_dir, choice.gin_params)
        with gin_settings.input_errors():
            network = model_loading.build_evaluated(export.find_checkpoint(model_dir), is_fused)
    if not finetune_steps:
        return VideoPredictor(
            network[1], choice.inference_size, identity=choice.identity, window=choice.window
        )
    from feelvos_tf.training.first_frame import FineTunedPredictor

    # Where --gin_param binds settings of the bundled model.
    with gin.config_scope(model_loading.SCOPE if model_dir is None else None):
        return FineTunedPredictor(
            *network, finetune_steps, choice.inference_size, choice.identity, choice.window
        )


if __name__ == "__main__":
    cli.run(main)

"""Segments one video, or many: frames in, indexed PNGs out.

    python -m feelvos_tf.predict --video=FILE_OR_FOLDER --mask=first.png --output_dir=OUT \\
        [--overlay=out.mp4] [--fast]

writes OUT/00000.png ... with the DAVIS palette; the first is the given mask. The model is the one
that comes with the package (feelvos_tf/pretrained/MODEL_CARD.md), unless --saved_model=DIR or
--model_dir=DIR, the folder of a training, names another one; --finetune_steps=60 first trains it on
the given mask (feelvos_tf/training/FINE_TUNING.md). --first_frame=first.png instead of --mask
writes the frame to draw the mask on.

    python -m feelvos_tf.predict --videos=LIST_OR_TREE --output_dir=OUT
    python -m feelvos_tf.predict --dataset_root=DIR --year=2017 --split=val --output_dir=OUT \\
        [--overlays=DIR]

do the same for many videos, into OUT/<name>, or on a Ray cluster with --ray.
feelvos_tf/media/README.md tells which videos and masks are taken and what else can be written.

Frames of a video file are numbered from 00000; a folder's masks are called like its pictures. A
folder of masks appears when it is complete, and a later run with the same model and settings goes
on where an interrupted one stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from feelvos_tf import export
from feelvos_tf.core import cli, gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import bundled_model, command_line
from feelvos_tf.inference.video_segmenter import (
    ModelVideoSegmenter,
    SavedModelVideoSegmenter,
    check_saved_model,
)
from feelvos_tf.inference.video_segmenter import fingerprint as saved_model_fingerprint

if TYPE_CHECKING:
    from feelvos_tf.inference.predictor import Predictor
    from feelvos_tf.models.feelvos import Feelvos

_FLAGS = cli.flag_values(__name__)
_COMMAND_LINE = command_line.define(_FLAGS)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "Folder written by feelvos_tf.export; by default the model that comes with the package.",
    flag_values=_FLAGS,
)
_MODEL_DIR = flags.DEFINE_string(
    "model_dir",
    None,
    "Folder that a training wrote, whose last checkpoint is taken as it is.",
    flag_values=_FLAGS,
)
_FINETUNE_STEPS = flags.DEFINE_integer(
    "finetune_steps",
    0,
    "Train the model for so many steps on the first frame of each video and its mask, before it "
    "segments the rest: minutes on a processor. Files of the model are not changed.",
    lower_bound=0,
    flag_values=_FLAGS,
)
_INFERENCE_SIZE = flags.DEFINE_integer(
    "inference_size",
    None,
    "Run the model on frames scaled to this many pixels on the short side; masks keep the frame's "
    "full size. By default the bundled model runs at the size at which it scores best, a "
    "--saved_model on the frames as they are.",
    lower_bound=16,
    flag_values=_FLAGS,
)
_FAST = flags.DEFINE_bool(
    "fast",
    False,
    f"Short for --inference_size={bundled_model.FAST_INFERENCE_SIZE}: several times as fast, and "
    "less exact.",
    flag_values=_FLAGS,
)
_SAVE_EMBEDDINGS = flags.DEFINE_string(
    "save_embeddings",
    None,
    "Folder for the embedding vectors of every frame: 10 MB for a frame of 480x854 pixels.",
    flag_values=_FLAGS,
)
cli.group_flags(
    _FLAGS,
    "The model",
    ["saved_model", "model_dir", "finetune_steps", "inference_size", "fast", "save_embeddings"],
)


def main(argv: list[str]) -> None:
    """Segments what the flags name."""
    del argv
    if _COMMAND_LINE.write_first_frame():
        return
    model = _Model(_SAVED_MODEL.value, _MODEL_DIR.value, _FINETUNE_STEPS.value)
    model.check()
    size = _INFERENCE_SIZE.value
    if size is None and _FAST.value:
        size = bundled_model.FAST_INFERENCE_SIZE
    if size is None and model.is_bundled:
        size = bundled_model.inference_size()
    settings = {"saved_model": model.fingerprint(), "inference_size": size}
    if model.finetune_steps:
        settings["finetune_steps"] = model.finetune_steps
    _COMMAND_LINE.run(lambda: model.segmenter(size), settings, _SAVE_EMBEDDINGS.value)


@dataclasses.dataclass(frozen=True)
class _Model:
    """What the flags say about the model."""

    saved_model: str | None
    model_dir: str | None
    finetune_steps: int

    @property
    def is_bundled(self) -> bool:
        """Whether it is the one that comes with the package."""
        return self.saved_model is None and self.model_dir is None

    def check(self) -> None:
        """Raises InputError where the flags do not fit together, or the model is not there."""
        if self.saved_model is not None and self.model_dir is not None:
            raise InputError("expected --saved_model or --model_dir, found both")
        if self.saved_model is not None and self.finetune_steps:
            raise InputError(
                "--finetune_steps: expected the bundled model or --model_dir, since the weights of "
                "a SavedModel cannot be trained, found --saved_model"
            )
        if self.is_bundled:
            bundled_model.check()
        elif self.saved_model is not None:
            check_saved_model(self.saved_model)

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that change with the model's settings or weights."""
        if self.is_bundled:
            return bundled_model.fingerprint()
        if self.saved_model is not None:
            return saved_model_fingerprint(self.saved_model)
        settings = gin_settings.operative_config_of(self.model_dir)
        index = pathlib.Path(f"{export.find_checkpoint(self.model_dir)}.index")
        return hashlib.sha256(settings.read_bytes() + index.read_bytes()).hexdigest()[:16]

    def segmenter(self, size: int | None) -> ModelVideoSegmenter:
        """Returns the model ready to be used on frames of so many pixels on the short side."""
        if self.saved_model is not None:
            return SavedModelVideoSegmenter(self.saved_model, size)
        if self.finetune_steps:
            from feelvos_tf.training.first_frame import FirstFrameSegmenter

            return FirstFrameSegmenter(*self._trainable(), self.finetune_steps, size)
        if self.is_bundled:
            return ModelVideoSegmenter(bundled_model.build(), size)
        gin_settings.parse_model_dir(self.model_dir, [])
        with gin_settings.input_errors():
            return ModelVideoSegmenter(export.load_run(self.model_dir), size)

    def _trainable(self) -> tuple[Feelvos, Predictor]:
        """Returns the network with its weights, and its predictor."""
        if self.is_bundled:
            return bundled_model.build_trainable()
        from feelvos_tf.inference.evaluated_model import build_evaluated_model
        from feelvos_tf.models.weights import load_weights

        gin_settings.parse_model_dir(self.model_dir, [])
        with gin_settings.input_errors():
            model, predictor = build_evaluated_model()
            load_weights(model, export.find_checkpoint(self.model_dir))
        return model, predictor


if __name__ == "__main__":
    cli.run(main)

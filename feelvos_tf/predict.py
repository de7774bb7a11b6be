"""Segments one video, or many: frames in, indexed PNGs out.

    python -m feelvos_tf.predict --video=FILE_OR_FOLDER --mask=first.png --output_dir=OUT \\
        [--overlay=out.mp4] [--fast]

writes OUT/00000.png ... with the DAVIS palette; the first is the given mask. The model is the one
that comes with the package (feelvos_tf/pretrained/MODEL_CARD.md), unless --saved_model=DIR names
another one. --first_frame=first.png instead of --mask writes the frame to draw the mask on.

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

from absl import flags

from feelvos_tf.core import cli
from feelvos_tf.inference import bundled_model, command_line
from feelvos_tf.inference.video_segmenter import (
    ModelVideoSegmenter,
    SavedModelVideoSegmenter,
    check_saved_model,
    fingerprint,
)

_FLAGS = cli.flag_values(__name__)
_COMMAND_LINE = command_line.define(_FLAGS)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "Folder written by feelvos_tf.export; by default the model that comes with the package.",
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
cli.group_flags(_FLAGS, "The model", ["saved_model", "inference_size", "fast", "save_embeddings"])


def main(argv: list[str]) -> None:
    """Segments what the flags name."""
    del argv
    if _COMMAND_LINE.write_first_frame():
        return
    path, size = _SAVED_MODEL.value, _INFERENCE_SIZE.value
    if size is None and _FAST.value:
        size = bundled_model.FAST_INFERENCE_SIZE
    if path is None:
        bundled_model.check()
        if size is None:
            size = bundled_model.inference_size()
        identity = bundled_model.fingerprint()
    else:
        check_saved_model(path)
        identity = fingerprint(path)
    _COMMAND_LINE.run(
        lambda: _segmenter(path, size),
        {"saved_model": identity, "inference_size": size},
        _SAVE_EMBEDDINGS.value,
    )


def _segmenter(saved_model: str | None, size: int | None) -> ModelVideoSegmenter:
    """Returns the model that the flags name, ready to be used."""
    if saved_model is None:
        return ModelVideoSegmenter(bundled_model.build(), size)
    return SavedModelVideoSegmenter(saved_model, size)


if __name__ == "__main__":
    cli.run(main)

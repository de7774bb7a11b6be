"""Segments the videos of a data set, or one video: frames in, indexed PNGs out.

    python -m feelvos_tf.predict --saved_model=DIR --dataset_root=DIR --year=2017 --split=val \\
        --output_dir=OUT [--overlays=DIR]

writes OUT/<sequence>/00000.png ... with the DAVIS palette; the first is the given mask.

    python -m feelvos_tf.predict --saved_model=DIR --video=FILE_OR_FOLDER --mask=first.png \\
        --output_dir=OUT [--overlay=out.mp4]

does the same for one video, into OUT itself. --save_embeddings=DIR also saves the embedding vectors
of every frame, as DIR/<sequence>/00000.npz ... (array `embeddings` [h, w, channels] at stride 4).

Frames of a video file are numbered from 00000; a folder's masks are called like its pictures. A
sequence appears when it is complete, and a later run with the same model and settings goes on where
an interrupted one stopped.
"""

from __future__ import annotations

from absl import flags

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import command_line
from feelvos_tf.inference.video_segmenter import (
    SavedModelVideoSegmenter,
    check_saved_model,
    fingerprint,
)

_FLAGS = cli.flag_values(__name__)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "Folder written by feelvos_tf.export.", flag_values=_FLAGS
)
_COMMAND_LINE = command_line.define(_FLAGS)
_INFERENCE_SIZE = flags.DEFINE_integer(
    "inference_size",
    None,
    "Run the model on frames scaled to this many pixels on the short side; masks keep the frame's "
    "full size. By default frames are taken as they are.",
    lower_bound=16,
    flag_values=_FLAGS,
)
_SAVE_EMBEDDINGS = flags.DEFINE_string(
    "save_embeddings",
    None,
    "Folder for the embedding vectors of every frame: 10 MB for a frame of 480x854 pixels.",
    flag_values=_FLAGS,
)


def main(argv: list[str]) -> None:
    """Segments what the flags name."""
    del argv
    if _SAVED_MODEL.value is None:
        raise InputError("expected --saved_model, a folder written by feelvos_tf.export")
    check_saved_model(_SAVED_MODEL.value)
    _COMMAND_LINE.run(
        lambda: SavedModelVideoSegmenter(_SAVED_MODEL.value, _INFERENCE_SIZE.value),
        {"saved_model": fingerprint(_SAVED_MODEL.value), "inference_size": _INFERENCE_SIZE.value},
        _SAVE_EMBEDDINGS.value,
    )


if __name__ == "__main__":
    cli.run(main)

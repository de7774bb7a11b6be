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
from feelvos_tf.inference import command_line, model_choice
from feelvos_tf.inference.video_segmenter import ModelVideoSegmenter

_FLAGS = cli.flag_values(__name__)
_COMMAND_LINE = command_line.define(_FLAGS)
_MODEL = model_choice.define(_FLAGS)
_SAVE_EMBEDDINGS = flags.DEFINE_string(
    "save_embeddings",
    None,
    "Folder for the embedding vectors of every frame: 10 MB for a frame of 480x854 pixels.",
    flag_values=_FLAGS,
)
cli.group_flags(_FLAGS, "The model", ["save_embeddings"])


def main(argv: list[str]) -> None:
    """Segments what the flags name."""
    del argv
    if _COMMAND_LINE.write_first_frame():
        return
    choice = _MODEL.choice()
    _COMMAND_LINE.run(
        lambda: ModelVideoSegmenter(choice.load()),
        {"saved_model": choice.identity, "inference_size": choice.inference_size},
        _SAVE_EMBEDDINGS.value,
    )


if __name__ == "__main__":
    cli.run(main)

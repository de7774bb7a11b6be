"""Writes a data set as TFRecords for training, one record per video.

    python tools/build_tfrecords.py --dataset=davis_2017 --dataset_root=DAVIS --split=train \\
        --output_dir=records

writes records/train-00000-of-00010.tfrecord ... With --first_frame_only each record holds the first
frame alone, for fine-tuning on given masks (gin_configs/datasets/first_frames.gin). The folders
expected below --dataset_root are shown in feelvos_tf/data/datasets.py, the fields of a record in
feelvos_tf/data/tfrecords.py.
"""

from __future__ import annotations

import dataclasses
import pathlib

from absl import flags

from feelvos_tf.core import cli
from feelvos_tf.data import dataset_flags

_FLAGS = cli.flag_values(__name__)
_DATASET = dataset_flags.define(
    _FLAGS, "Folder of the data set.", split="train", root_aliases=("root", "davis_root")
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where the records go.", required=True, flag_values=_FLAGS
)
_NUM_SHARDS = flags.DEFINE_integer("num_shards", 10, "Number of files.", flag_values=_FLAGS)
_FIRST_FRAME_ONLY = flags.DEFINE_boolean(
    "first_frame_only", False, "Write only the first frame and its mask.", flag_values=_FLAGS
)


def main(argv: list[str]) -> None:
    """Writes the records of the sequences that the flags name."""
    del argv
    from tqdm import tqdm

    from feelvos_tf.data import tfrecords

    chosen = _DATASET.choice()
    sequences = chosen.list_sequences("first" if _FIRST_FRAME_ONLY.value else "all")
    if _FIRST_FRAME_ONLY.value:
        sequences = [
            dataclasses.replace(sequence, frames=sequence.frames[:1], masks=sequence.masks[:1])
            for sequence in sequences
        ]
    shards = tfrecords.write_shards(
        sequences,
        pathlib.Path(_OUTPUT_DIR.value),
        chosen.split,
        _NUM_SHARDS.value,
        lambda items: tqdm(items, desc="videos", unit="video"),
    )
    frames = sum(len(sequence.frames) for sequence in sequences)
    pattern = shards[0].parent / f"{chosen.split}-*.tfrecord"
    print(f"{len(sequences)} videos, {frames} frames in {len(shards)} files: {pattern}")
    print(f"""train with --gin_param="training_dataset.records='{pattern.resolve()}'\"""")


if __name__ == "__main__":
    cli.run(main)

"""Writes a data set as TFRecords for training, one record per video.

    python tools/build_tfrecords.py --dataset=davis_2017 --dataset_root=DAVIS --split=train \\
        --output_dir=records

writes records/train-00000-of-00010.tfrecord ... With --first_frame_only each record holds the first
frame alone, for fine-tuning on given masks (gin_configs/datasets/first_frames.gin).
--dataset=stills takes a folder of photographs with masks, one record each, for training on
synthetic motion. The folders expected below --dataset_root are shown in feelvos_tf/data/datasets.py
and feelvos_tf/data/stills.py, the fields of a record in feelvos_tf/data/tfrecords.py.
"""

from __future__ import annotations

import dataclasses
import pathlib

from absl import flags

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags, stills
from feelvos_tf.data.datasets import VideoFiles

_FLAGS = cli.flag_values(__name__)
_STILLS = "stills"
_DATASET = dataset_flags.define(
    _FLAGS,
    "Folder of the data set.",
    split="train",
    root_aliases=("root", "davis_root"),
    more_datasets=(_STILLS,),
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where the records go.", required=True, flag_values=_FLAGS
)
_NUM_SHARDS = flags.DEFINE_integer("num_shards", 10, "Number of files.", flag_values=_FLAGS)
_FIRST_FRAME_ONLY = flags.DEFINE_boolean(
    "first_frame_only", False, "Write only the first frame and its mask.", flag_values=_FLAGS
)
_EXCEPT = flags.DEFINE_list(
    "except_sequences",
    [],
    "All but these sequences, which stay out to validate on.",
    flag_values=_FLAGS,
)


def main(argv: list[str]) -> None:
    """Writes the records of the sequences that the flags name."""
    del argv
    from tqdm import tqdm

    from feelvos_tf.data import tfrecords

    chosen = _DATASET.choice()
    is_stills = chosen.dataset == _STILLS
    sequences = stills.list_stills(chosen.root or "") if is_stills else _videos(chosen)
    kind = "stills" if is_stills else "videos"
    shards = tfrecords.write_shards(
        sequences,
        pathlib.Path(_OUTPUT_DIR.value),
        chosen.split,
        _NUM_SHARDS.value,
        lambda items: tqdm(items, desc=kind, unit=kind.rstrip("s")),
    )
    frames = "" if is_stills else f", {sum(len(s.frames) for s in sequences)} frames"
    pattern = shards[0].parent / f"{chosen.split}-*.tfrecord"
    print(f"{len(sequences)} {kind}{frames} in {len(shards)} files: {pattern}")
    print(f"""train with --gin_param="training_dataset.records='{pattern.resolve()}'\"""")


def _videos(chosen: dataset_flags.Choice) -> list[VideoFiles]:
    """Returns the videos that the flags ask for.

    Raises:
      InputError: one that shall stay out is not there; a typing error must not let it in.
    """
    videos = chosen.list_sequences("first" if _FIRST_FRAME_ONLY.value else "all")
    known = [video.name for video in videos]
    for name in _EXCEPT.value:
        if name not in known:
            raise InputError(f"--except_sequences: {name!r} is not among {', '.join(known)}")
    videos = [video for video in videos if video.name not in _EXCEPT.value]
    if not _FIRST_FRAME_ONLY.value:
        return videos
    return [dataclasses.replace(v, frames=v.frames[:1], masks=v.masks[:1]) for v in videos]


if __name__ == "__main__":
    cli.run(main)

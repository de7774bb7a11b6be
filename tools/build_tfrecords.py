"""Writes a data set as TFRecords for training, one record per video.

    python tools/build_tfrecords.py --dataset=davis_2017 --dataset_root=DAVIS --split=train \\
        --output_dir=records

writes records/train-00000-of-00010.tfrecord ... and records/dataset_info.json, which describes
them. The same data set gives the same bytes; the same command resumes an interrupted run; with
--verify, it checks the records instead. Finished records are not replaced by those of other videos
or settings.

--dataset=stills takes a folder of photographs with masks, one record each, for training on
synthetic motion; --dataset=folder takes any tree of frames and masks. In YouTube-VOS and
YouTube-Objects, not every frame has a mask; the others are omitted. With --first_frame_only, each
record holds only the first frame, for fine-tuning on given masks
(gin_configs/datasets/first_frames.gin). feelvos_tf/data/datasets.py and own_folders.py show the
folders expected below --dataset_root, feelvos_tf/data/tfrecords.py the fields of a record.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib

from tqdm import tqdm

from feelvos_tf.core import cli
from feelvos_tf.data import dataset_flags, datasets, own_folders
from feelvos_tf.data.datasets import VideoFiles

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_STILLS, _FOLDER = "stills", "folder"
# Data sets with masks for only some frames.
_SPARSE = ("youtube_vos", "youtube_objects")
_DATASET = dataset_flags.define(
    _FLAGS,
    "Folder of the data set.",
    split="train",
    more_datasets=(_STILLS, _FOLDER),
)
_OUTPUT_DIR = _DEFINE.string("output_dir", "Folder of the records.", required=True)
_NUM_SHARDS = _DEFINE.integer("num_shards", "Number of files.", 10, lower_bound=1)
_WORKERS = _DEFINE.integer(
    "workers", "Number of threads that read and encode.", os.cpu_count() or 1, lower_bound=1
)
_FIRST_FRAME_ONLY = _DEFINE.boolean(
    "first_frame_only", "Write only the first frame and its mask.", False
)
_EXCEPT = _DEFINE.comma_list("except_sequences", "Sequences to omit, for validation.", [])
_VERIFY = _DEFINE.boolean(
    "verify", "Read and decode the records in --output_dir; write nothing.", False
)


def main() -> None:
    """Writes the records of the selected sequences, or verifies them."""
    chosen = _DATASET.choice()
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    if _VERIFY.value:
        _verify(output_dir, chosen.split)
    else:
        _build(output_dir, chosen)


def _build(output_dir: pathlib.Path, chosen: dataset_flags.Choice) -> None:
    from feelvos_tf.data import record_shards

    sequences = _videos(chosen)
    kind = "stills" if chosen.dataset == _STILLS else "videos"
    progress = functools.partial(tqdm, desc=kind, unit=kind[:-1])
    shards = record_shards.write_shards(
        sequences, output_dir, chosen.split, _NUM_SHARDS.value, progress, _WORKERS.value
    )
    source = {"dataset": chosen.dataset, "split": chosen.split}
    if chosen.dataset.startswith("davis"):
        source["resolution"] = chosen.resolution
    record_shards.write_info(output_dir, chosen.split, shards, source)
    written = cli.count(len(sequences), kind)
    if kind == "videos":
        written += f", {cli.count(sum(len(s.frames) for s in sequences), 'frames')}"
    pattern = output_dir / f"{chosen.split}-*.tfrecord"
    print(f"{written} in {cli.count(len(shards), 'files')}: {pattern}")
    print(f"""train with --gin_param="training_dataset.records='{pattern.resolve()}'\"""")


def _verify(output_dir: pathlib.Path, split: str) -> None:
    from feelvos_tf.data import record_shards

    progress = functools.partial(tqdm, desc="files", unit="file")
    info = record_shards.verify(output_dir, split, progress)
    counts = ", ".join(
        cli.count(info[things], things) for things in ("videos", "frames", "objects")
    )
    files = cli.count(len(info["shards"]), "files")
    print(f"{counts} in {files}: all complete, as written")


def _videos(chosen: dataset_flags.Choice) -> list[VideoFiles]:
    """Returns the videos that the flags select.

    Raises:
      InputError: a sequence to omit does not exist: a typo must not include it.
    """
    if chosen.dataset == _STILLS:
        videos = own_folders.list_stills(chosen.given_root())
    elif chosen.dataset == _FOLDER:
        videos = own_folders.list_folder(chosen.given_root())
    elif chosen.dataset in _SPARSE:
        videos = [datasets.with_masks_alone(video) for video in chosen.list_sequences("none")]
    else:
        videos = chosen.list_sequences("first" if _FIRST_FRAME_ONLY.value else "all")
    datasets.check_names("--except_sequences", _EXCEPT.value, [video.name for video in videos])
    videos = [video for video in videos if video.name not in _EXCEPT.value]
    if not _FIRST_FRAME_ONLY.value:
        return videos
    return [dataclasses.replace(v, frames=v.frames[:1], masks=v.masks[:1]) for v in videos]


if __name__ == "__main__":
    cli.run(main)

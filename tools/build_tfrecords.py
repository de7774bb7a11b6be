"""Writes a data set as TFRecords for training, one record per video.

    python tools/build_tfrecords.py --dataset=davis_2017 --root=DAVIS --split=train \\
        --output_dir=records

writes records/train-00000-of-00010.tfrecord ... With --first_frame_only each record holds the first
frame alone, for fine-tuning on given masks (gin_configs/datasets/first_frames.gin).
--dataset=stills takes a folder of photographs with masks, one record each, for training on
synthetic motion. The folders expected below --root are shown in feelvos_tf/data/datasets.py and
feelvos_tf/data/stills.py, the fields of a record in feelvos_tf/data/tfrecords.py.
"""

import dataclasses
from pathlib import Path

from absl import flags
from tqdm import tqdm

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets, stills, tfrecords

_DATASET = flags.DEFINE_enum(
    "dataset",
    "davis_2017",
    ["davis_2016", "davis_2017", "youtube_vos", "stills"],
    "Layout of the folders.",
)
_ROOT = flags.DEFINE_string("root", None, "Folder of the data set.", required=True)
_SPLIT = flags.DEFINE_string("split", "train", "List of sequences, e.g. train.")
_RESOLUTION = flags.DEFINE_string(
    "resolution", "480p", "Folder below JPEGImages and Annotations (DAVIS only)."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the records go.", required=True)
_NUM_SHARDS = flags.DEFINE_integer("num_shards", 10, "Number of files.")
_FIRST_FRAME_ONLY = flags.DEFINE_boolean(
    "first_frame_only", False, "Write only the first frame and its mask."
)
_SEQUENCES = flags.DEFINE_list("sequences", None, "Only these sequences, e.g. bear,boat.")
_EXCEPT = flags.DEFINE_list(
    "except_sequences", [], "All but these sequences, which stay out to validate on."
)


def main(_: list[str]) -> None:
    sequences = _listed()
    kind = "stills" if _DATASET.value == "stills" else "videos"
    shards = tfrecords.write_shards(
        sequences,
        Path(_OUTPUT_DIR.value),
        _SPLIT.value,
        _NUM_SHARDS.value,
        lambda items: tqdm(items, desc=kind, unit=kind.rstrip("s")),
    )
    frames = "" if kind == "stills" else f", {sum(len(s.frames) for s in sequences)} frames"
    pattern = shards[0].parent / f"{_SPLIT.value}-*.tfrecord"
    print(f"{len(sequences)} {kind}{frames} in {len(shards)} files: {pattern}")
    print(f"""train with --gin_param="training_dataset.records='{pattern.resolve()}'\"""")


def _listed() -> list[datasets.VideoFiles]:
    """Returns the videos that the flags ask for."""
    if _DATASET.value == "stills":
        return stills.list_stills(_ROOT.value)
    sequences = datasets.list_sequences(
        _ROOT.value,
        _DATASET.value,
        _SPLIT.value,
        _RESOLUTION.value,
        _SEQUENCES.value,
        require_masks="first" if _FIRST_FRAME_ONLY.value else "all",
    )
    sequences = _without(sequences, _EXCEPT.value)
    if _FIRST_FRAME_ONLY.value:
        sequences = [
            dataclasses.replace(sequence, frames=sequence.frames[:1], masks=sequence.masks[:1])
            for sequence in sequences
        ]
    return sequences


def _without(sequences: list[datasets.VideoFiles], names: list[str]) -> list[datasets.VideoFiles]:
    """Returns the sequences that have none of the names.

    Raises:
      InputError: a name is not among them; a typing error must not let it into the training.
    """
    known = [sequence.name for sequence in sequences]
    for name in names:
        if name not in known:
            raise InputError(f"--except_sequences: {name!r} is not among {', '.join(known)}")
    return [sequence for sequence in sequences if sequence.name not in names]


if __name__ == "__main__":
    cli.run(main)

"""Evaluation protocols: which frames and objects of a data set are scored.

A protocol is one entry of `PROTOCOLS`, under the name that the data set has in
`feelvos_tf.data.datasets`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.media import masks


@dataclasses.dataclass(frozen=True, eq=False)
class SequenceGroundTruth:
    """The scored frames and objects of one sequence.

    Attributes:
      name: of the sequence, and of its folder below the predictions.
      masks: the ground truth of the scored frames, in order.
      images: the frames themselves, for the report; None where there are none.
      objects: the ids that are scored, ascending. A prediction may hold these and 0 only.
      scored: bool [objects, masks]: whether the object counts in the frame.
      binary: the one object is painted 255, and any id of a prediction stands for it.
    """

    name: str
    masks: tuple[pathlib.Path, ...]
    images: tuple[pathlib.Path | None, ...]
    objects: tuple[int, ...]
    scored: np.ndarray
    binary: bool = False


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How one data set is scored.

    Attributes:
      plan: returns the scored frames and objects of one sequence.
      require_masks: which masks a sequence must have, see `datasets.list_sequences`.
      measures_f: whether F is measured beside J.
    """

    plan: Callable[[datasets.VideoFiles], SequenceGroundTruth]
    require_masks: str = "all"
    measures_f: bool = True


def dataset_ground_truths(
    root: str | os.PathLike[str],
    dataset: str = "davis_2017",
    split: str = "val",
    resolution: str = "480p",
    sequences: Iterable[str] | None = None,
) -> list[SequenceGroundTruth]:
    """Returns the ground truth of every sequence that the protocol of a data set scores.

    Args:
      root: the data set's folder, see `feelvos_tf.data.datasets`.
      dataset: one of `PROTOCOLS`.
      split: name of the list of sequences.
      resolution: DAVIS only.
      sequences: names to keep; all when None.

    Raises:
      InputError: something of the ground truth is missing.
    """
    protocol = _protocol(dataset)
    listed = datasets.list_sequences(
        root, dataset, split, resolution, sequences, protocol.require_masks
    )
    return [protocol.plan(sequence) for sequence in listed]


def measures_f(dataset: str) -> bool:
    """Returns whether a data set's protocol measures F; YouTube-Objects has J alone."""
    return _protocol(dataset).measures_f


def _protocol(dataset: str) -> Protocol:
    if dataset not in PROTOCOLS:
        raise InputError(f"unknown data set {dataset!r}: expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[dataset]


def _davis(sequence: datasets.VideoFiles) -> SequenceGroundTruth:
    """Scores the objects 1..max of the first mask in every frame but the first and the last."""
    objects = (1,)
    if not sequence.binary_masks:
        first = masks.read_mask(sequence.masks[0])
        # The official tool counts up to the largest id of the first mask, void excluded. A missing
        # id in between is an object as well, always empty.
        objects = tuple(range(1, max(masks.object_ids(first), default=0) + 1))
        if not objects:
            raise InputError(f"{sequence.masks[0]}: expected at least one object, found none")
    return _everywhere(sequence, objects, range(1, len(sequence.masks) - 1))


def _youtube_objects(sequence: datasets.VideoFiles) -> SequenceGroundTruth:
    """Scores the one object in every annotated frame but the first."""
    annotated = [i for i, mask in enumerate(sequence.masks) if mask is not None]
    return _everywhere(sequence, (1,), annotated[1:])


def _everywhere(
    sequence: datasets.VideoFiles, objects: tuple[int, ...], frames: Iterable[int]
) -> SequenceGroundTruth:
    """Scores all objects in all the frames."""
    frames = list(frames)
    return SequenceGroundTruth(
        name=sequence.name,
        masks=tuple(sequence.masks[i] for i in frames),
        images=tuple(sequence.frames[i] for i in frames),
        objects=objects,
        scored=np.ones([len(objects), len(frames)], bool),
        binary=sequence.binary_masks,
    )


def _youtube_vos(sequence: datasets.VideoFiles) -> SequenceGroundTruth:
    """Scores an object in the frames that `meta.json` lists for it, after the first."""
    if not sequence.object_frames:
        raise InputError(f"{sequence.name}: meta.json lists no object to score")
    after_first = {key: frames[1:] for key, frames in sequence.object_frames.items()}
    frames = sorted({i for listed in after_first.values() for i in listed})
    for i in frames:
        if sequence.masks[i] is None:
            raise InputError(
                f"{sequence.name}: meta.json lists frame {sequence.frames[i].stem}, which has no "
                "mask to score against"
            )
    return SequenceGroundTruth(
        name=sequence.name,
        masks=tuple(sequence.masks[i] for i in frames),
        images=tuple(sequence.frames[i] for i in frames),
        objects=tuple(after_first),
        scored=np.array([[i in listed for i in frames] for listed in after_first.values()]),
    )


PROTOCOLS = {
    "davis_2016": Protocol(_davis),
    "davis_2017": Protocol(_davis),
    "youtube_vos": Protocol(_youtube_vos, require_masks="first"),
    "youtube_objects": Protocol(_youtube_objects, require_masks="first", measures_f=False),
}
"""The protocol of each of `datasets.DATASETS`, by the same names."""


def folder_ground_truths(
    folder: str | os.PathLike[str], sequences: Iterable[str] | None = None
) -> list[SequenceGroundTruth]:
    """Returns the ground truth of any tree of masks; object ids may have gaps.

    Every folder that holds PNGs is a sequence. As in DAVIS its first and last frame are left out.
    An object that appears later is scored from the frame after its first mask.

    Args:
      folder: the tree.
      sequences: paths below it to keep; all when None.

    Raises:
      InputError: the tree or a sequence is missing, or a sequence holds no object.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise InputError(f"ground truth folder {root} does not exist or is no folder")
    found = {}
    for path, subfolders, names in os.walk(root, followlinks=True):
        subfolders.sort()
        pngs = sorted(name for name in names if name.lower().endswith(".png") and name[0] != ".")
        if pngs:
            base = pathlib.Path(path)
            found[base.relative_to(root).as_posix()] = [base / name for name in pngs]
    if not found:
        raise InputError(f"ground truth folder {root} holds no mask PNG")
    names = list(found) if sequences is None else list(sequences)
    for name in names:
        if name not in found:
            raise InputError(f"ground truth folder {root} has no sequence {name!r}")
    return [_folder_ground_truth(name, found[name]) for name in names]


def _folder_ground_truth(name: str, paths: list[pathlib.Path]) -> SequenceGroundTruth:
    first_seen = {}
    for i, path in enumerate(paths):
        for object_id in masks.object_ids(masks.read_mask(path)):
            first_seen.setdefault(object_id, i)
    if not first_seen:
        raise InputError(f"{paths[0].parent}: expected at least one object, found none")
    frames = range(1, len(paths) - 1)
    return SequenceGroundTruth(
        name=name,
        masks=tuple(paths[1:-1]),
        images=(None,) * len(frames),
        objects=tuple(sorted(first_seen)),
        scored=np.array([[i > seen for i in frames] for _, seen in sorted(first_seen.items())]),
    )

"""Evaluation protocols: which frames and objects of a data set are scored.

A protocol is one entry of `PROTOCOLS`, under the name that the data set has in
`feelvos_tf.data.datasets`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from feelvos_tf.core import whole_files
from feelvos_tf.core.constants import VOID
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
      objects: the ids that are scored, ascending. A prediction may contain only these and 0.
      scored: bool [objects, masks]: whether the object counts in the frame.
      binary: the only object is painted 255, and any id in a prediction stands for it.
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
      measures_f: whether F is measured in addition to J.
      plan_with_first: the variant that also scores the given mask's frame; None for none.
    """

    plan: Callable[[datasets.VideoFiles], SequenceGroundTruth]
    require_masks: str = "all"
    measures_f: bool = True
    plan_with_first: Callable[[datasets.VideoFiles], SequenceGroundTruth] | None = None


def dataset_ground_truths(
    root: str | os.PathLike[str],
    dataset: str = "davis_2017",
    split: str = "val",
    resolution: str = "480p",
    sequences: Iterable[str] | None = None,
    count_first_frame: bool = False,
) -> list[SequenceGroundTruth]:
    """Returns the ground truth of every sequence that the protocol of a data set scores.

    Masks and lists are enough: without `JPEGImages` the report has no pictures.

    Args:
      root, dataset, split, resolution, sequences: see `datasets.list_sequences`.
      count_first_frame: YouTube-Objects only: also score the first annotated frame, as some papers
        do. Its mask is given, so it counts as 1.

    Raises:
      InputError: part of the ground truth is missing.
    """
    protocol = _protocol(dataset)
    plan = protocol.plan_with_first if count_first_frame else protocol.plan
    if plan is None:
        raise InputError(f"{dataset}: expected a protocol that counts the first frame, found none")
    listed = datasets.list_sequences(
        root, dataset, split, resolution, sequences, protocol.require_masks, require_frames=False
    )
    return [plan(sequence) for sequence in listed]


def measures_f(dataset: str) -> bool:
    """Returns whether a data set's protocol measures F; YouTube-Objects has J alone."""
    return _protocol(dataset).measures_f


def _protocol(dataset: str) -> Protocol:
    if dataset not in PROTOCOLS:
        raise InputError(
            f"{dataset}: expected an entry of PROTOCOLS in feelvos_tf/evaluation/protocols.py, "
            f"which says how a data set is scored, found only {', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[dataset]


def _davis(sequence: datasets.VideoFiles) -> SequenceGroundTruth:
    """Scores the objects 1..max of the first mask in every frame but the first and the last."""
    objects = (1,)
    if not sequence.binary_masks:
        first = masks.read_annotation(sequence.masks[0])
        # The official tool counts up to the largest id of the first mask, void excluded. A missing
        # id in between counts as an object that is always empty.
        objects = tuple(range(1, max(masks.object_ids(first), default=0) + 1))
        if not objects:
            raise InputError(f"{sequence.masks[0]}: expected at least one object, found none")
    frames = range(1, len(sequence.masks) - 1)
    return _ground_truth(sequence, frames, dict.fromkeys(objects, frames))


def _youtube_objects(
    sequence: datasets.VideoFiles, count_first_frame: bool = False
) -> SequenceGroundTruth:
    """Scores the only object in every annotated frame, except the first unless requested."""
    annotated = [i for i, mask in enumerate(sequence.masks) if mask is not None]
    frames = annotated if count_first_frame else annotated[1:]
    return _ground_truth(sequence, frames, {1: frames})


def _youtube_vos(sequence: datasets.VideoFiles) -> SequenceGroundTruth:
    """Scores an object in the frames that `meta.json` lists for it, after the first."""
    if not sequence.object_frames:
        raise InputError(f"{sequence.name}: meta.json lists no object to score")
    after_first = {key: frames[1:] for key, frames in sequence.object_frames.items()}
    frames = sorted(set().union(*after_first.values()))
    for i in frames:
        if sequence.masks[i] is None:
            raise InputError(
                f"{sequence.name}: meta.json lists frame {sequence.frames[i].stem}, which has no "
                "mask to score against"
            )
    return _ground_truth(sequence, frames, after_first)


def _ground_truth(
    sequence: datasets.VideoFiles, frames: Sequence[int], scored_in: Mapping[int, Sequence[int]]
) -> SequenceGroundTruth:
    """Returns the ground truth of some frames, given those in which each object is scored."""
    true_masks = tuple(sequence.masks[i] for i in frames)
    scored = [[i in listed for i in frames] for listed in scored_in.values()]
    return SequenceGroundTruth(
        name=sequence.name,
        masks=true_masks,
        # Where there are only masks, they stand in for the frames.
        images=tuple(
            None if sequence.frames[i] == mask else sequence.frames[i]
            for i, mask in zip(frames, true_masks)
        ),
        objects=tuple(scored_in),
        scored=np.array(scored, bool).reshape(len(scored_in), len(frames)),
        binary=sequence.binary_masks,
    )


PROTOCOLS = {
    "davis_2016": Protocol(_davis),
    "davis_2017": Protocol(_davis),
    "youtube_vos": Protocol(_youtube_vos, require_masks="first"),
    "youtube_objects": Protocol(
        _youtube_objects,
        require_masks="first",
        measures_f=False,
        plan_with_first=functools.partial(_youtube_objects, count_first_frame=True),
    ),
}
"""The protocol of each of `datasets.DATASETS`, under the same names."""


def folder_ground_truths(
    folder: str | os.PathLike[str],
    sequences: Iterable[str] | None = None,
    predictions: Iterable[str | os.PathLike[str]] | None = None,
) -> list[SequenceGroundTruth]:
    """Returns the ground truth of any tree of masks; object ids may have gaps.

    Every visible folder that holds PNGs is a sequence. As in DAVIS, its first and last frame are
    not scored. An object that appears later is scored from the frame after its first mask. If a
    sequence has no values other than 0 and 255, 255 is its only object, as in DAVIS 2016.

    Args:
      folder: the tree.
      sequences: paths below it to keep; all when None.
      predictions: folders of predictions. A sequence that is in none of them has no object to
        score, and its masks are not read.

    Raises:
      InputError: the tree or a sequence is missing, or a sequence holds no object.
    """
    whole_files.check_is_folder(folder, "a folder of ground truth")
    by_folder = datasets.files_by_folder(pathlib.Path(folder), (".png",))
    if not by_folder:
        raise InputError(f"{folder}: expected ground truth, found no mask PNG")
    found = {path.as_posix(): tuple(files) for path, files in by_folder.items()}
    names = list(found) if sequences is None else list(sequences)
    datasets.check_names(f"sequences of {folder}", names, list(found))
    folders = None if predictions is None else [pathlib.Path(path) for path in predictions]
    return [
        _folder_ground_truth(
            name,
            found[name],
            is_read=folders is None or any((path / name).is_dir() for path in folders),
        )
        for name in names
    ]


def _folder_ground_truth(
    name: str, paths: tuple[pathlib.Path, ...], is_read: bool
) -> SequenceGroundTruth:
    """Returns one sequence's ground truth, without objects unless its masks are read."""
    first_seen, first_white = {}, None
    for i, path in enumerate(paths if is_read else ()):
        ids = masks.read_annotation(path)
        for object_id in masks.object_ids(ids):
            first_seen.setdefault(object_id, i)
        if first_white is None and (ids == VOID).any():
            first_white = i
    binary = not first_seen and first_white is not None
    if binary:
        first_seen = {1: first_white}
    elif is_read and not first_seen:
        raise InputError(f"{paths[0].parent}: expected at least one object, found none")
    frames = range(1, len(paths) - 1)
    scored_in = {object_id: frames[first:] for object_id, first in sorted(first_seen.items())}
    return _ground_truth(datasets.VideoFiles(name, paths, paths, binary), frames, scored_in)

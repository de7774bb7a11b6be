"""Scores a folder of predicted masks against the ground truth, in several processes.

Every mask is read once and then dropped: memory does not grow with the number of frames.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import tqdm

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.evaluation import region_and_contour
from feelvos_tf.evaluation.protocols import SequenceGroundTruth
from feelvos_tf.media import masks, pictures

_FRAMES_PER_JOB = 8
# Starting a process takes as long as scoring this many frames of 854x480.
_FRAMES_PER_PROCESS = 200


_Values = tuple[np.ndarray, np.ndarray]
"""J and F, float64 [2, objects, frames], NaN where an object is not scored; and, int64 [2], the
sums of `confused_pixels` over the frames that are scored."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """The result for one folder of predictions.

    Attributes:
      folder: the predictions.
      sequences: in the order of the data set.
      missing: one sentence per sequence whose predictions are missing or incomplete.
    """

    folder: pathlib.Path
    sequences: list[region_and_contour.SequenceScores]
    missing: list[str]

    @functools.cached_property
    def summary(self) -> region_and_contour.Summary:
        """The averages over all objects."""
        return region_and_contour.summarize(self.sequences)

    @property
    def confused_share(self) -> float | None:
        """Share of object pixels assigned to another object; None if no sequence has several."""
        if all(len(sequence.objects) < 2 for sequence in self.sequences):
            return None
        confused, pixels = np.sum([sequence.confused for sequence in self.sequences], 0)
        return float(confused / max(pixels, 1))

    def find(self, name: str) -> region_and_contour.SequenceScores | None:
        """Returns the scores of a sequence; None if it was not scored."""
        return next((one for one in self.sequences if one.name == name), None)


class _Job(NamedTuple):
    """A few frames of one sequence; `columns` are their positions in its table of scores."""

    sequence: int
    columns: range
    ground_truth: SequenceGroundTruth


def score_folder(
    ground_truths: list[SequenceGroundTruth],
    predictions: str | os.PathLike[str],
    measure_f: bool = True,
    workers: int = 1,
    allow_missing: bool = False,
    progress: bool = False,
) -> Scores:
    """Returns the scores of `predictions/<sequence>/<frame>.png` against the ground truth.

    Missing files are found before the first mask is read. Nothing is cached.

    Args:
      ground_truths: what to score, from `protocols`.
      predictions: the folder.
      measure_f: False measures J only.
      workers: number of processes, including this one; fewer if starting one takes too long.
      allow_missing: skip sequences and frames that are missing instead of failing.
      progress: show a bar on stderr.

    Raises:
      InputError: a prediction is missing, unreadable, has another size or unknown ids.
    """
    folder = pathlib.Path(predictions)
    what = "a folder of mask PNGs per sequence"
    whole_files.check_is_folder(folder, what)
    if not any(path.is_dir() or path.suffix.lower() == ".png" for path in folder.iterdir()):
        raise InputError(f"{folder}: expected {what}, found none")
    ground_truths, missing = _keep_present(ground_truths, folder)
    if missing and not allow_missing:
        more = f" (and in {len(missing) - 1} more sequences)" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}{more}; --allow_missing scores the others")
    if not any(ground_truth.scored.any() for ground_truth in ground_truths):
        raise InputError(f"{folder} holds no prediction of a frame that is scored")
    tables = [np.full([2, *ground_truth.scored.shape], np.nan) for ground_truth in ground_truths]
    confused = np.zeros([len(ground_truths), 2], np.int64)
    score = functools.partial(_score, folder, measure_f)
    with tqdm.tqdm(
        total=sum(len(ground_truth.masks) for ground_truth in ground_truths),
        desc="scoring",
        unit="frame",
        disable=not progress,
    ) as bar:
        for job, (values, counts) in _run(score, list(_jobs(ground_truths)), workers):
            tables[job.sequence][:, :, job.columns] = values
            confused[job.sequence] += counts
            bar.update(values.shape[-1])
    sequences = [
        region_and_contour.SequenceScores(
            name=ground_truth.name,
            objects=ground_truth.objects,
            frames=tuple(path.stem for path in ground_truth.masks),
            j=j,
            f=f if measure_f else None,
            confused=counts,
        )
        for ground_truth, (j, f), counts in zip(ground_truths, tables, confused)
    ]
    return Scores(folder, sequences, missing)


def read_masks(
    folder: pathlib.Path, ground_truth: SequenceGroundTruth, position: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true and the predicted ids of a frame, uint8 [height, width], after checks.

    Args:
      folder: of all sequences' predictions.
      ground_truth: the sequence's ground truth.
      position: of the frame in it.

    Raises:
      InputError: a mask is unreadable, or the prediction has another size or unknown ids.
    """
    true_path = ground_truth.masks[position]
    truth = masks.read_annotation(true_path, ground_truth.binary)
    path = folder / ground_truth.name / f"{true_path.stem}.png"
    ids = masks.read_annotation(path)
    pictures.check_same_size(path, ids.shape, truth.shape, "the ground truth")
    if ground_truth.binary:
        # Ids are small, and a painted object is only 255; values in between come from resizing.
        levels = np.unique(ids).tolist() if ids.max() > 127 else [0]
        if len({0, *levels}) > 2:
            raise InputError(
                f"{path}: expected 0 and one value for the object, found {len(levels)} gray levels "
                f"({_some(levels)}), as in an antialiased mask"
            )
        return truth, (ids > 0).view(np.uint8)
    is_foreign = np.ones(256, np.uint8)
    is_foreign[[0, *ground_truth.objects]] = 0
    foreign = cv2.LUT(ids, is_foreign)
    if cv2.countNonZero(foreign):
        raise InputError(
            f"{path}: expected 0 and the ground truth's ids "
            f"({', '.join(map(str, ground_truth.objects))}), found "
            f"{_some(np.unique(ids[foreign != 0]).tolist())} (antialiased, or not a mask of this "
            "sequence?)"
        )
    return truth, ids


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:5])) + ", ..." * (len(values) > 5)


def _keep_present(
    ground_truths: list[SequenceGroundTruth], folder: pathlib.Path
) -> tuple[list[SequenceGroundTruth], list[str]]:
    """Returns what can be scored, and one sentence per sequence with missing masks."""
    present, missing = [], []
    for ground_truth in ground_truths:
        path = folder / ground_truth.name
        there = set(os.listdir(path)) if path.is_dir() else set()
        names = [f"{mask.stem}.png" for mask in ground_truth.masks]
        kept = [i for i, name in enumerate(names) if name in there]
        lost = [name for name in names if name not in there]
        if lost:
            missing.append(
                f"sequence {ground_truth.name}: expected {len(names)} predicted masks in {path}, "
                f"found {len(kept)} (the first missing is {lost[0]})"
            )
        if kept or not lost:
            present.append(_frames_of(ground_truth, kept))
    return present, missing


def _frames_of(ground_truth: SequenceGroundTruth, frames: Sequence[int]) -> SequenceGroundTruth:
    """Returns the ground truth reduced to some of its frames."""
    return dataclasses.replace(
        ground_truth,
        masks=tuple(ground_truth.masks[i] for i in frames),
        images=tuple(ground_truth.images[i] for i in frames),
        scored=ground_truth.scored[:, frames],
    )


def _jobs(ground_truths: list[SequenceGroundTruth]) -> Iterator[_Job]:
    for sequence, ground_truth in enumerate(ground_truths):
        frames = range(len(ground_truth.masks))
        for start in frames[::_FRAMES_PER_JOB]:
            columns = frames[start : start + _FRAMES_PER_JOB]
            yield _Job(sequence, columns, _frames_of(ground_truth, columns))


def _run(
    score: Callable[[SequenceGroundTruth], _Values], jobs: list[_Job], workers: int
) -> Iterator[tuple[_Job, _Values]]:
    """Yields each job with its scores, in any order."""
    frames = sum(len(job.columns) for job in jobs)
    helpers = min(workers - 1, frames // _FRAMES_PER_PROCESS)
    if helpers == 0:
        for job in jobs:
            yield job, score(job.ground_truth)
        return
    # A forked child of a process that has used threads (TensorFlow, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    # One thread each, so that the processes do not compete for cores.
    with concurrent.futures.ProcessPoolExecutor(helpers, context, cv2.setNumThreads, (1,)) as pool:
        waiting = collections.deque((job, pool.submit(score, job.ground_truth)) for job in jobs)
        try:
            # The helpers work from the front; this process works from the back without waiting for
            # them to start.
            while waiting:
                job, future = waiting.pop()
                yield job, score(job.ground_truth) if future.cancel() else future.result()
                while waiting and waiting[0][1].done():
                    job, future = waiting.popleft()
                    yield job, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _score(
    predictions: pathlib.Path, measure_f: bool, ground_truth: SequenceGroundTruth
) -> _Values:
    """Returns the scores of a few frames. See `_Values`."""
    objects = np.asarray(ground_truth.objects)
    values = np.full([2, *ground_truth.scored.shape], np.nan)
    confused = np.zeros(2, np.int64)
    for i in range(len(ground_truth.masks)):
        truth, predicted = read_masks(predictions, ground_truth, i)
        scored = ground_truth.scored[:, i]
        values[:, scored, i] = region_and_contour.score_frame(
            truth, predicted, objects[scored].tolist(), measure_f
        )
        if len(objects) > 1 and scored.any():
            confused += region_and_contour.confused_pixels(truth, predicted)
    return values, confused

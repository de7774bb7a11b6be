"""The training input pipeline: batches of augmented clips from TFRecord files.

Clip number n depends only on the seed and n, not on the clips made before, so a resumed run
continues with exactly the clips that it would have seen.
"""

from __future__ import annotations

import functools
import itertools
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import gin
import numpy as np
import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import paper_clips, synthetic_clips, tfrecords
from feelvos_tf.data.corrupt_records import ERROR_MARK, CorruptRecordLog
from feelvos_tf.data.paper_clips import ClipSettings, TrainingClip
from feelvos_tf.data.scene_composing import MovingScenes

_MAX_DROPPED_IN_A_ROW = 1000
_BLOCK = 10_000
"""Number of clips over which the shares of the data sets are exact."""


class BatchShare(NamedTuple):
    """Which clips of a batch one process makes, and in which portions.

    Attributes:
      parts: successive portions of a batch whose gradients are accumulated before an update.
      replicas: devices of all workers, which process a part together.
      workers: processes, each with the same number of replicas.
      worker: index of this process.
    """

    parts: int = 1
    replicas: int = 1
    workers: int = 1
    worker: int = 0

    def clips_per_replica(self, batch_size: int) -> int:
        """Returns the number of clips of a part for each replica.

        Raises:
          InputError: the batch cannot be divided evenly.
        """
        portions = self.parts * self.replicas
        if batch_size % portions:
            raise InputError(
                f"training_dataset.batch_size: expected a multiple of {portions} (replicas "
                f"{self.replicas}, Trainer.gradient_accumulation_steps {self.parts}), found "
                f"{batch_size}"
            )
        return batch_size // portions

    def numbers(self, batch_size: int, first_batch: int) -> tf.data.Dataset:
        """Returns an endless dataset of this worker's clip numbers, int64 [].

        Each successive `clips_per_replica` of them go to one replica. Clips are numbered from 0,
        batch after batch.
        """
        whole_part = self.clips_per_replica(batch_size) * self.replicas
        own = whole_part // self.workers
        first = first_batch * batch_size + self.worker * own
        return tf.data.Dataset.counter().map(lambda n: first + n // own * whole_part + n % own)


WHOLE = BatchShare()
"""All clips of all batches, batch by batch."""


@settings.configurable
def training_dataset(
    batch_size: settings.PositiveInt,
    records: str | Sequence[str] = gin.REQUIRED,
    clips: ClipSettings | None = None,
    scenes: Sequence[MovingScenes | None] | None = None,
    probabilities: Sequence[settings.Probability] | None = None,
    max_corrupt_records: settings.Count = 0,
    seed: int | None = None,
    deterministic: bool | None = None,
    first_batch: settings.Count = 0,
    share: BatchShare = WHOLE,
    otherwise_seed: int | None = None,
) -> tf.data.Dataset:
    """Returns an endless dataset of batches of clips, or of this process's share of them.

    Every batch is a dict of the parts of a `TrainingClip`, each with another dimension in front:
    `images`, for example, is float32 [batch, frames, crop height, crop width, 3].

    Source: paper section 3, "Training procedure", and section 4.

    Args:
      batch_size: clips per batch.
      records: pattern of record files, such as `/data/davis/train-*.tfrecord`, or a data set
        prepared with TensorFlow Datasets, such as `tfds:davis/480p`; or a list of them, one per
        data set.
      clips: how clips are made; None: `ClipSettings` as set by gin.
      scenes: one `MovingScenes` per data set (synthetic motion, pasted objects, changes of light),
        or None for those whose clips are made as in the paper.
      probabilities: how often each of several data sets is drawn from; None: equally often.
      max_corrupt_records: number of unreadable records that are reported and skipped; one more
        stops training. A file that ends inside a record counts as one.
      seed: the same seed gives the same batches; None: different ones on every run.
      deterministic: True waits for slow clips; False lets later ones overtake them, which is
        faster if their times differ a lot. None: True with a `seed`, False without.
      first_batch: index of the first batch, for a resumed run.
      share: the part of each batch to return, for several devices.
      otherwise_seed: used if `seed` is None; must be the same on all workers.

    Raises:
      InputError: a record file is missing or corrupt, or a setting is out of range.
    """
    patterns = tfrecords.as_list(records)
    if not patterns:
        raise InputError("training_dataset.records: expected one or more patterns, found none")
    clips = ClipSettings() if clips is None else clips
    count = len(patterns)
    weights = [1.0 / count] * count if probabilities is None else probabilities
    scenes = [None] * count if scenes is None else scenes
    _check(count, clips, weights, scenes)
    base = next(s for s in (seed, otherwise_seed, secrets.randbits(31)) if s is not None)
    log = CorruptRecordLog(max_corrupt_records)
    data_sets = [tfrecords.find_videos(pattern, log.note_end) for pattern in patterns]
    source = ClipSource(data_sets, weights, clips, scenes, base, log)

    def clip(number: tf.Tensor) -> dict[str, tf.Tensor]:
        return source.clip(number)._asdict()

    return (
        share.numbers(batch_size, first_batch)
        .map(
            clip,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=seed is not None if deterministic is None else deterministic,
        )
        .batch(share.clips_per_replica(batch_size), drop_remainder=True)
        .prefetch(2)
    )


def _check(
    num_sets: int,
    clips: ClipSettings,
    probabilities: Sequence[float],
    scenes: Sequence[MovingScenes | None],
) -> None:
    """Raises InputError unless the settings fit the number of data sets and have their types."""
    for name, values in (("probabilities", probabilities), ("scenes", scenes)):
        if len(values) != num_sets:
            raise InputError(
                f"training_dataset.{name}: expected {num_sets} entries (one per data set), found "
                f"{len(values)}"
            )
    if abs(sum(probabilities) - 1.0) > 1e-3:
        raise InputError(
            f"training_dataset.probabilities: expected a sum of 1, found {probabilities}"
        )
    given = [("scenes", MovingScenes, each) for each in scenes if each is not None]
    for name, kind, value in (("clips", ClipSettings, clips), *given):
        if not isinstance(value, kind):
            raise InputError(
                f"training_dataset.{name}: expected @{kind.__name__}(), with parentheses, found "
                f"{value!r}"
            )


class ClipOrder:
    """Goes through the videos of every data set in rounds, reshuffled each time.

    Every video has one turn per round. Several data sets are mixed at random with their
    probabilities.
    """

    def __init__(self, num_videos: Sequence[int], probabilities: Sequence[float], seed: int):
        """Takes each data set's number of videos and probability, and the seed."""
        self._num_videos = tf.constant(num_videos, tf.int64)
        ends = np.round(np.cumsum([0.0, *probabilities]) * _BLOCK).astype(np.int64)
        ends[-1] = _BLOCK
        self._first_of_block = tf.constant(ends[:-1], tf.int64)
        self._share = tf.constant(np.diff(ends), tf.int64)
        self._seed = tf.constant(seed, tf.int64)

    def turn(self, clip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the video that clip number `clip` (int64 [], from 0) is made from.

        Returns:
          data_set: position in the list of data sets, int64 [].
          video: position in the data set's list of videos, int64 [].
          is_first_round: whether no video of the data set has had two turns yet, bool [].
        """
        data_set, turn = self._data_set(clip)
        count = self._num_videos[data_set]
        round_number = turn // count
        seed = tf.random.experimental.stateless_fold_in(
            tf.stack([self._seed, round_number]), data_set
        )
        video = tf.random.experimental.index_shuffle(turn % count, seed, count - 1)
        return data_set, video, round_number == 0

    def _data_set(self, clip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the data set of a clip, and the clip's turn in that data set, from 0.

        (With several data sets, the turns within a block are shuffled.)
        """
        if len(self._share) == 1:
            return tf.constant(0, tf.int64), clip
        block = clip // _BLOCK
        seed = tf.stack([self._seed, -1 - block])
        place = tf.random.experimental.index_shuffle(clip % _BLOCK, seed, _BLOCK - 1)
        data_set = tf.searchsorted(self._first_of_block, [place], side="right")[0] - 1
        turn = block * self._share[data_set] + place - self._first_of_block[data_set]
        return tf.cast(data_set, tf.int64), turn


class ClipSource:
    """Makes clips from the records of several data sets, by number."""

    def __init__(
        self,
        data_sets: list[list[tuple[str, int]]],
        probabilities: list[float],
        clips: ClipSettings,
        scenes: list[MovingScenes | None],
        seed: int,
        log: CorruptRecordLog,
    ):
        """Takes the places from `tfrecords.find_videos`; for the rest, see `training_dataset`."""
        counts = [len(videos) for videos in data_sets]
        self._order = ClipOrder(counts, probabilities, seed)
        paths, offsets = zip(*itertools.chain(*data_sets))
        self._paths, self._offsets = tf.constant(paths), tf.constant(offsets, tf.int64)
        self._counts = tf.constant(counts, tf.int64)
        self._first_rows = tf.cumsum(self._counts, exclusive=True)
        self._clips = clips
        self._scenes = scenes
        self._seed = tf.constant(seed, tf.int64)
        self._log = log
        self._too_short = tf.constant(
            [
                f"{ERROR_MARK}no video in {videos[0][0]} ... {videos[-1][0]} "
                f"has the {clips.frames_needed} frames that training needs"
                for videos in data_sets
            ]
        )

    def clip(self, number: tf.Tensor) -> TrainingClip:
        """Returns clip `number` (int64 [], from 0).

        If the video whose turn it is gives no usable clip, others of the same data set are tried:
        AutoGraph makes the loop a part of the graph.

        Raises (when run):
          tf.errors.InvalidArgumentError: too many clips in a row were unusable, or too many
            records are corrupt.
        """
        data_set, first_video, is_first_round = self._order.turn(number)
        attempts, found, usable = tf.constant(0), tf.constant(False), tf.constant(False)
        clip = paper_clips.blank_clip(self._clips)
        while not usable and attempts < _MAX_DROPPED_IN_A_ROW:
            seed = tf.random.experimental.stateless_fold_in(
                tf.stack([self._seed, number]), attempts
            )
            any_video = tf.random.stateless_uniform([], seed, 0, self._counts[data_set], tf.int64)
            video = tf.where(attempts == 0, first_video, any_video)
            report = (attempts == 0) & is_first_round
            long_enough, usable, clip = self._attempt(data_set, video, seed, report)
            found |= long_enough
            attempts += 1
        nothing_usable = (
            f"{ERROR_MARK}{_MAX_DROPPED_IN_A_ROW} clips in a row were dropped because "
            "the reference showed no object, or one with fewer than "
            f"{self._clips.min_label_count} pixels at stride {self._clips.decoder_output_stride} "
            f"(crop_size {self._clips.crop_size}, min_label_count {self._clips.min_label_count})"
        )
        reason = tf.where(found, nothing_usable, self._too_short[data_set])
        tf.debugging.Assert(usable, [reason])
        return clip

    def _attempt(
        self, data_set: tf.Tensor, video: tf.Tensor, seed: tf.Tensor, report: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """Returns whether the video has enough frames, whether its clip is usable, and the clip."""
        row = self._first_rows[data_set] + video
        ways = [
            functools.partial(self._plain, row, seed, report)
            if scenes is None
            else functools.partial(self._scene, row, seed, scenes)
            for scenes in self._scenes
        ]
        return ways[0]() if len(ways) == 1 else tf.switch_case(tf.cast(data_set, tf.int32), ways)

    def _scene(
        self, row: tf.Tensor, seed: tf.Tensor, scenes: MovingScenes
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """As `_attempt`, for a data set with `MovingScenes`."""
        donor_rows = tf.random.stateless_uniform(
            [synthetic_clips.DONORS], seed, 0, tf.reduce_sum(self._counts), tf.int64
        )

        def make(video: tfrecords.EncodedVideo, *donors: tfrecords.EncodedVideo):
            clip, usable = synthetic_clips.make_clip(video, donors, seed, self._clips, scenes)
            return tf.constant(True), usable, clip

        return self._unless_corrupt(make, tf.concat([[row], donor_rows], 0))

    def _plain(
        self, row: tf.Tensor, seed: tf.Tensor, report: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """As `_attempt`, for clips as in the paper."""

        def make(video: tfrecords.EncodedVideo):
            long_enough = paper_clips.is_long_enough(video, self._clips, report)
            clip, usable = tf.cond(
                long_enough,
                lambda: paper_clips.make_clip(video, seed, self._clips),
                lambda: (paper_clips.blank_clip(self._clips), tf.constant(False)),
            )
            return long_enough, usable, clip

        return self._unless_corrupt(make, row[tf.newaxis])

    def _unless_corrupt(self, make: Callable, rows: tf.Tensor):
        """Returns the result of `make` for some records, or an unusable clip if one is corrupt.

        In a TensorFlow graph only a dataset can catch errors, so `make` becomes a dataset with a
        single element.
        """
        paths, offsets = tf.gather(self._paths, rows), tf.gather(self._offsets, rows)
        places = list(zip(tf.unstack(paths), tf.unstack(offsets)))

        def attempt(_: tf.Tensor):
            return make(*(tfrecords.parse(tfrecords.read_record(*p)) for p in places)), False

        attempts = tf.data.Dataset.from_tensors(0).map(attempt).ignore_errors()
        instead = (tf.constant(True), tf.constant(False), paper_clips.blank_clip(self._clips))
        otherwise = tf.data.Dataset.from_tensors((instead, True))
        result, is_corrupt = attempts.concatenate(otherwise).take(1).get_single_element()
        self._log.report(is_corrupt, paths, offsets)
        return result

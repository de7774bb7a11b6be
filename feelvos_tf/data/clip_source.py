"""Makes clips by number: chooses a video, and tries others if it gives no usable clip.

Clip number n depends only on the seed and n, so a run that resumes at step 1000 need not read the
clips of earlier steps.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from feelvos_tf.data import paper_clips, synthetic_clips, tfrecords
from feelvos_tf.data.corrupt_records import ERROR_MARK, CorruptRecordLog
from feelvos_tf.data.paper_clips import ClipSettings, TrainingClip
from feelvos_tf.data.scene_composing import MovingScenes

_MAX_DROPPED_IN_A_ROW = 1000
_BLOCK = 10_000
"""Number of clips over which the shares of the data sets are exact."""


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
        """Stores where the videos are and how clips are made from them.

        Args:
          data_sets: the videos of each data set, see `tfrecords.find_videos`.
          probabilities: how often each is drawn from.
          clips: settings.
          scenes: one entry per data set, None for clips as in the paper.
          seed: the only source of randomness.
          log: counts records that cannot be read.
        """
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

        If the video whose turn it is gives no usable clip, others of the same data set are tried.

        Raises (when run):
          tf.errors.InvalidArgumentError: too many clips in a row were unusable, or too many
            records are corrupt.
        """
        data_set, first_video, is_first_round = self._order.turn(number)

        def is_searching(attempts: tf.Tensor, usable: tf.Tensor, *_) -> tf.Tensor:
            return ~usable & (attempts < _MAX_DROPPED_IN_A_ROW)

        def search(attempts: tf.Tensor, usable: tf.Tensor, found: tf.Tensor, clip: TrainingClip):
            del usable, clip
            seed = tf.random.experimental.stateless_fold_in(
                tf.stack([self._seed, number]), attempts
            )
            first = attempts == 0
            video = tf.where(first, first_video, self._any_video(data_set, seed))
            report = first & is_first_round
            long_enough, usable, clip = self._attempt(data_set, video, seed, report)
            return attempts + 1, usable, found | long_enough, clip

        never = tf.constant(False)
        state = (tf.constant(0), never, never, paper_clips.blank_clip(self._clips))
        _, usable, found, clip = tf.while_loop(is_searching, search, state)
        nothing_usable = (
            f"{ERROR_MARK}{_MAX_DROPPED_IN_A_ROW} clips in a row were dropped because "
            "the reference showed no object, or one with fewer than "
            f"{self._clips.min_label_count} pixels at stride {self._clips.decoder_output_stride} "
            f"(crop_size {self._clips.crop_size}, min_label_count {self._clips.min_label_count})"
        )
        reason = tf.where(found, nothing_usable, self._too_short[data_set])
        tf.debugging.Assert(usable, [reason])
        return clip

    def _any_video(self, data_set: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([], seed, 0, self._counts[data_set], tf.int64)

    def _attempt(
        self, data_set: tf.Tensor, video: tf.Tensor, seed: tf.Tensor, report: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """Returns whether the video has enough frames, whether its clip is usable, and the clip."""
        row = self._first_rows[data_set] + video
        ways = [
            functools.partial(self._attempt_plain, row, seed, report)
            if scenes is None
            else functools.partial(self._attempt_scene, row, seed, scenes)
            for scenes in self._scenes
        ]
        return ways[0]() if len(ways) == 1 else tf.switch_case(tf.cast(data_set, tf.int32), ways)

    def _record(self, row: tf.Tensor) -> tfrecords.EncodedVideo:
        """Returns record `row` (int64 []) of the concatenated data sets."""
        return tfrecords.parse(tfrecords.read_record(self._paths[row], self._offsets[row]))

    def _attempt_scene(
        self, row: tf.Tensor, seed: tf.Tensor, scenes: MovingScenes
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """As `_attempt`, for a data set with `MovingScenes`."""
        donor_rows = tf.random.stateless_uniform(
            [synthetic_clips.DONORS], seed, 0, tf.reduce_sum(self._counts), tf.int64
        )

        def make() -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
            donors = synthetic_clips.choose_donors(
                [self._record(donor) for donor in tf.unstack(donor_rows)], seed
            )
            chosen = synthetic_clips.choose_frames(self._record(row), seed, self._clips, scenes)
            clip, usable = synthetic_clips.make_clip(chosen, donors, seed, self._clips, scenes)
            return tf.constant(True), usable, clip

        return self._unless_corrupt(make, tf.concat([[row], donor_rows], 0))

    def _attempt_plain(
        self, row: tf.Tensor, seed: tf.Tensor, report: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """As `_attempt`, for clips as in the paper."""

        def make() -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
            video = self._record(row)
            long_enough = paper_clips.is_long_enough(video, self._clips, report)
            clip, usable = tf.cond(
                long_enough,
                lambda: paper_clips.make_clip(video, seed, self._clips),
                lambda: (paper_clips.blank_clip(self._clips), tf.constant(False)),
            )
            return long_enough, usable, clip

        return self._unless_corrupt(make, row[tf.newaxis])

    def _unless_corrupt(self, make: Callable, rows: tf.Tensor):
        """Returns the result of `make`, or an unusable clip if one of the records is corrupt.

        In a TensorFlow graph only a dataset can catch errors, so `make` becomes a dataset with a
        single element.
        """
        attempt = tf.data.Dataset.from_tensors(0).map(lambda _: (make(), False)).ignore_errors()
        instead = (tf.constant(True), tf.constant(False), paper_clips.blank_clip(self._clips))
        otherwise = tf.data.Dataset.from_tensors((instead, True))
        result, is_corrupt = attempt.concatenate(otherwise).take(1).get_single_element()
        paths, offsets = tf.gather(self._paths, rows), tf.gather(self._offsets, rows)
        self._log.report(is_corrupt, paths, offsets)
        return result

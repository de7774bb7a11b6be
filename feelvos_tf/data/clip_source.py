"""Makes clips by number: chooses the video, tries others where it gives none that can be used."""

from __future__ import annotations

import functools

import tensorflow as tf

from feelvos_tf.data import scene_clip, scene_composing, tfrecord_files, tfrecords, training_clip
from feelvos_tf.data.clip_order import ClipOrder
from feelvos_tf.data.corrupt_records import CorruptRecordLog
from feelvos_tf.data.moving_scenes import MovingScenes
from feelvos_tf.data.tfrecord_files import VideoRecords
from feelvos_tf.data.training_clip import ClipSettings, TrainingClip

_MAX_DROPPED_IN_A_ROW = 1000


class ClipSource:
    """Makes clips by number."""

    def __init__(
        self,
        data_sets: list[VideoRecords],
        probabilities: list[float],
        settings: ClipSettings,
        scenes: list[MovingScenes | None],
        seed: int,
        damage: CorruptRecordLog,
    ):
        """Stores where the videos lie and what is made of them.

        Args:
          data_sets: their records.
          probabilities: how often each is drawn from.
          settings: of the clips.
          scenes: one entry per data set, None for clips as in the paper.
          seed: the only source of randomness.
          damage: says what becomes of records that cannot be read.
        """
        counts = [len(videos.paths) for videos in data_sets]
        self._order = ClipOrder(counts, probabilities, seed)
        self._paths = tf.constant([path for videos in data_sets for path in videos.paths])
        self._offsets = tf.constant([o for videos in data_sets for o in videos.offsets], tf.int64)
        self._counts = tf.constant(counts, tf.int64)
        self._first_rows = tf.cumsum(self._counts, exclusive=True)
        self._settings = settings
        self._scenes = scenes
        self._seed = tf.constant(seed, tf.int64)
        self._damage = damage
        self._too_short = tf.constant(
            [
                f"{tfrecord_files.ERROR_MARK}no video in {videos.paths[0]} ... {videos.paths[-1]} "
                f"has the {training_clip.frames_needed(settings)} frames that training needs"
                for videos in data_sets
            ]
        )

    def clip(self, number: tf.Tensor) -> TrainingClip:
        """Returns clip `number` (int64 [], from 0).

        Where the video whose turn it is gives no usable clip, others of the same data set are
        tried.

        Raises (when run):
          tf.errors.InvalidArgumentError: there is no end of clips that are not usable, or more
            records are damaged than may be.
        """
        turn = self._order.turn(number)

        def is_searching(attempts: tf.Tensor, usable: tf.Tensor, *_) -> tf.Tensor:
            return ~usable & (attempts < _MAX_DROPPED_IN_A_ROW)

        def search(attempts: tf.Tensor, usable: tf.Tensor, found: tf.Tensor, clip: TrainingClip):
            del usable, clip
            seed = tf.random.experimental.stateless_fold_in(
                tf.stack([self._seed, number]), attempts
            )
            first = attempts == 0
            video = tf.where(first, turn.video, self._any_video(turn.data_set, seed))
            report = first & turn.is_first_round
            long_enough, usable, clip = self._attempt(turn.data_set, video, seed, report)
            return attempts + 1, usable, found | long_enough, clip

        never = tf.constant(False)
        state = (tf.constant(0), never, never, training_clip.blank_clip(self._settings))
        _, usable, found, clip = tf.while_loop(is_searching, search, state)
        reason = tf.where(found, _nothing_usable(self._settings), self._too_short[turn.data_set])
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
        """Returns one of all records, the data sets' one behind the other; `row`: int64 []."""
        return tfrecords.parse(tfrecords.read_record(self._paths[row], self._offsets[row]))

    def _attempt_scene(
        self, row: tf.Tensor, seed: tf.Tensor, scenes: MovingScenes
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """Returns what `_attempt` does, for a data set with `MovingScenes`."""
        donor_rows = tf.random.stateless_uniform(
            [scene_composing.DONORS], seed, 0, tf.reduce_sum(self._counts), tf.int64
        )

        def make() -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
            donors = scene_clip.choose_donors(
                [self._record(donor) for donor in tf.unstack(donor_rows)], seed
            )
            chosen = scene_clip.choose_frames(self._record(row), seed, self._settings, scenes)
            clip, usable = scene_clip.make_clip(chosen, donors, self._settings, scenes)
            return tf.constant(True), usable, clip

        return self._unless_damaged(make, tf.concat([[row], donor_rows], 0))

    def _attempt_plain(
        self, row: tf.Tensor, seed: tf.Tensor, report: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """Returns what `_attempt` does, for clips as in the paper."""

        def make() -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
            encoded = self._record(row)
            long_enough = training_clip.is_long_enough(encoded, self._settings, report)
            clip, usable = tf.cond(long_enough, lambda: self._make_clip(encoded, seed), self._blank)
            return long_enough, usable, clip

        return self._unless_damaged(make, row[tf.newaxis])

    def _make_clip(
        self, encoded: tfrecords.EncodedVideo, seed: tf.Tensor
    ) -> tuple[TrainingClip, tf.Tensor]:
        chosen = training_clip.choose_frames(encoded, seed, self._settings)
        return training_clip.make_clip(chosen, self._settings)

    def _blank(self) -> tuple[TrainingClip, tf.Tensor]:
        return training_clip.blank_clip(self._settings), tf.constant(False)

    def _unless_damaged(self, make, rows: tf.Tensor):
        """Returns what `make` does, or that nothing is usable where one of the records is damaged.

        Nothing in TensorFlow catches an error but a dataset; so `make` becomes one of one element.
        """
        attempt = tf.data.Dataset.from_tensors(0).map(lambda _: (make(), False)).ignore_errors()
        instead = (tf.constant(True), tf.constant(False), training_clip.blank_clip(self._settings))
        otherwise = tf.data.Dataset.from_tensors((instead, True))
        result, is_damaged = attempt.concatenate(otherwise).take(1).get_single_element()
        paths, offsets = tf.gather(self._paths, rows), tf.gather(self._offsets, rows)
        with tf.control_dependencies([self._damage.report(is_damaged, paths, offsets)]):
            return tf.nest.map_structure(tf.identity, result)


def _nothing_usable(settings: ClipSettings) -> str:
    """Returns the sentence for data of which no clip can be trained on."""
    return (
        f"{tfrecord_files.ERROR_MARK}{_MAX_DROPPED_IN_A_ROW} clips in a row were dropped because "
        "the reference showed no object, or one with fewer than "
        f"{settings.min_label_count} pixels at stride {settings.decoder_output_stride} "
        f"(crop_size {settings.crop_size}, min_label_count {settings.min_label_count})"
    )

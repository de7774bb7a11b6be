"""Feeds the training: batches of augmented clips from record files.

Clip number n follows from the seed and n alone, whichever clips were made before. So a run that is
resumed goes on with the very clips that it would have seen.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked
from feelvos_tf.data import (
    scene_clip,
    scene_composing,
    tfrecord_files,
    tfrecords,
    training_clip,
)
from feelvos_tf.data.clip_order import ClipOrder
from feelvos_tf.data.moving_scenes import MovingScenes
from feelvos_tf.data.tfrecord_files import VideoRecords
from feelvos_tf.data.training_clip import ClipSettings, TrainingClip

_MAX_DROPPED_IN_A_ROW = 1000


@gin.configurable
@checked("training_dataset")
def training_dataset(
    batch_size: int,
    records: str | Sequence[str] = gin.REQUIRED,
    probabilities: Sequence[float] | None = None,
    crop_size: tuple[int, int] = (465, 465),
    min_scale: float = 1.0,
    max_scale: float = 1.3,
    flip_probability: float = 0.5,
    decoder_output_stride: int = 4,
    min_label_count: int = 10,
    first_frame_only: bool = False,
    max_frame_gap: int = 1,
    damage_previous_mask: bool = False,
    scenes: Sequence | None = None,
    rollout_steps: int = 0,
    shuffle_buffer: int | None = None,
    seed: int | None = None,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """Returns an endless dataset of batches of clips.

    Every batch is a dict; frames are in the order reference, previous, current, then those that
    follow, 3 + `rollout_steps` in all:
      images: float32 [batch, frames, crop height, crop width, 3], RGB 0..255, padding 127.5.
      labels: int32 [batch, frames, crop height, crop width], object indices 0..num_objects-1 (0
        is background) and 255 for void and padding.
      num_objects: int32 [batch], background included.
      video_id: string [batch].

    Source: paper section 3, "Training procedure", and section 4; defaults are those of the 2019
    release.

    Args:
      batch_size: clips per batch.
      records: pattern of record files, such as `/data/davis/train-*.tfrecord`, or a list with one
        pattern per data set.
      probabilities: with several data sets, how often each is drawn from; equally when None.
      crop_size: (height, width).
      min_scale: smallest factor on the size of the frames.
      max_scale: largest.
      flip_probability: of mirroring left to right.
      decoder_output_stride: at which objects must exist in the reference.
      min_label_count: pixels every object and the background need there; else the clip is dropped.
      first_frame_only: all three frames are made from frame 0, each with its own augmentation: for
        fine-tuning on the given mask of a video.
      max_frame_gap: the current frame comes 1 to this many frames after the previous one. More than
        the paper's 1 makes the previous mask less trustworthy, as the model's own masks are.
      damage_previous_mask: the previous frame's labels are made as wrong as a prediction might be
        (see `mask_damaging.py`).
      scenes: one `MovingScenes` per data set: synthetic motion, pasted objects, changes of light.
        None for those whose clips are made as in the paper. With it `min_scale`, `max_scale`,
        `flip_probability`, `first_frame_only` and `max_frame_gap` of this function have no say.
      rollout_steps: frames that follow the current one; needs `scenes` for all data sets.
      shuffle_buffer: without effect since the order of all videos is drawn anew in every round;
        settings written before may name it.
      seed: the same seed gives the same batches; None gives new ones every time.
      first_batch: number of the batch to begin with, for a run that is resumed.

    Raises:
      InputError: no record file, a broken one, or a setting out of range.
    """
    if batch_size < 1 or first_batch < 0:
        raise InputError(
            "training_dataset: expected batch_size of 1 or more and first_batch of 0 or more, "
            f"found {batch_size} and {first_batch}"
        )
    settings = ClipSettings(
        crop_size=tuple(crop_size),
        min_scale=min_scale,
        max_scale=max_scale,
        flip_probability=flip_probability,
        decoder_output_stride=decoder_output_stride,
        min_label_count=min_label_count,
        first_frame_only=first_frame_only,
        max_frame_gap=max_frame_gap,
        damage_previous_mask=damage_previous_mask,
        rollout_steps=rollout_steps,
    )
    _check_settings(settings)
    patterns = _checked_patterns(records)
    weights = _checked_probabilities(probabilities, patterns)
    base = secrets.randbits(31) if seed is None else seed
    data_sets = [tfrecord_files.find_videos(pattern) for pattern in patterns]
    scenes = _checked_scenes(scenes, patterns, rollout_steps)
    source = _ClipSource(data_sets, weights, settings, scenes, base)
    return (
        tf.data.Dataset.range(first_batch * batch_size, tf.int64.max)
        .map(
            lambda number: source.clip(number)._asdict(),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=seed is not None,
        )
        .batch(batch_size, drop_remainder=True)
        .prefetch(2)
    )


class _ClipSource:
    """Makes clips by number."""

    def __init__(
        self,
        data_sets: list[VideoRecords],
        probabilities: list[float],
        settings: ClipSettings,
        scenes: list[MovingScenes | None],
        seed: int,
    ):
        counts = [len(videos.paths) for videos in data_sets]
        self._order = ClipOrder(counts, probabilities, seed)
        self._paths = tf.constant([path for videos in data_sets for path in videos.paths])
        self._offsets = tf.constant([o for videos in data_sets for o in videos.offsets], tf.int64)
        self._counts = tf.constant(counts, tf.int64)
        self._first_rows = tf.cumsum(self._counts, exclusive=True)
        self._settings = settings
        self._scenes = scenes
        self._seed = tf.constant(seed, tf.int64)
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
          tf.errors.InvalidArgumentError: there is no end of clips that are not usable.
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
        encoded = self._record(self._first_rows[data_set] + video)
        ways = [
            functools.partial(self._attempt_plain, encoded, seed, report)
            if scenes is None
            else functools.partial(self._attempt_scene, encoded, seed, scenes)
            for scenes in self._scenes
        ]
        return ways[0]() if len(ways) == 1 else tf.switch_case(tf.cast(data_set, tf.int32), ways)

    def _record(self, row: tf.Tensor) -> tfrecords.EncodedVideo:
        """Returns one of all records, the data sets' one behind the other; `row`: int64 []."""
        return tfrecords.parse(tfrecords.read_record(self._paths[row], self._offsets[row]))

    def _attempt_scene(
        self, encoded: tfrecords.EncodedVideo, seed: tf.Tensor, scenes: MovingScenes
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """Returns what `_attempt` does, for a data set with `MovingScenes`."""
        rows = tf.random.stateless_uniform(
            [scene_composing.DONORS], seed, 0, tf.reduce_sum(self._counts), tf.int64
        )
        donors = scene_clip.choose_donors([self._record(row) for row in tf.unstack(rows)], seed)
        chosen = scene_clip.choose_frames(encoded, seed, self._settings, scenes)
        clip, usable = scene_clip.make_clip(chosen, donors, self._settings, scenes)
        return tf.constant(True), usable, clip

    def _attempt_plain(
        self, encoded: tfrecords.EncodedVideo, seed: tf.Tensor, report: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, TrainingClip]:
        """Returns what `_attempt` does, for clips as in the paper."""
        long_enough = training_clip.is_long_enough(encoded, self._settings, report)

        def make() -> tuple[TrainingClip, tf.Tensor]:
            chosen = training_clip.choose_frames(encoded, seed, self._settings)
            return training_clip.make_clip(chosen, self._settings)

        def give_up() -> tuple[TrainingClip, tf.Tensor]:
            return training_clip.blank_clip(self._settings), tf.constant(False)

        clip, usable = tf.cond(long_enough, make, give_up)
        return long_enough, usable, clip


def _nothing_usable(settings: ClipSettings) -> str:
    """Returns the sentence for data of which no clip can be trained on."""
    return (
        f"{tfrecord_files.ERROR_MARK}{_MAX_DROPPED_IN_A_ROW} clips in a row were dropped because "
        "the reference showed no object, or one with fewer than "
        f"{settings.min_label_count} pixels at stride {settings.decoder_output_stride} "
        f"(crop_size {settings.crop_size}, min_label_count {settings.min_label_count})"
    )


def _checked_patterns(records: str | Sequence[str]) -> list[str]:
    """Returns a list of patterns, all of them given."""
    patterns = tfrecord_files.as_list(records)
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise InputError(
            "training_dataset.records must be a pattern such as '/data/train-*.tfrecord', or a "
            f"list with one per data set, got {records}"
        )
    return patterns


def _checked_probabilities(
    probabilities: Sequence[float] | None, patterns: list[str]
) -> list[float]:
    """Returns one probability per data set, summing to 1."""
    if probabilities is None:
        return [1.0 / len(patterns)] * len(patterns)
    valid = len(probabilities) == len(patterns) and min(probabilities) >= 0.0
    if not valid or abs(sum(probabilities) - 1.0) > 1e-3:
        raise InputError(
            f"training_dataset.probabilities must be {len(patterns)} numbers (one per data set) "
            f"that sum to 1, got {probabilities}"
        )
    return list(probabilities)


def _checked_scenes(
    scenes: Sequence[MovingScenes | None] | None, patterns: list[str], rollout_steps: int
) -> list[MovingScenes | None]:
    """Returns one entry per data set."""
    scenes = [None] * len(patterns) if scenes is None else list(scenes)
    if len(scenes) != len(patterns):
        raise InputError(
            f"training_dataset.scenes must have {len(patterns)} entries (one per data set), got "
            f"{len(scenes)}"
        )
    if rollout_steps < 0 or (rollout_steps and None in scenes):
        raise InputError(
            "training_dataset.rollout_steps must be 0, or more where all data sets have scenes, "
            f"got {rollout_steps}"
        )
    return scenes


def _check_settings(settings: ClipSettings) -> None:
    if len(settings.crop_size) != 2 or min(settings.crop_size) < 1:
        raise InputError(
            f"training_dataset.crop_size must be (height, width), got {settings.crop_size}"
        )
    if not 0.0 < settings.min_scale <= settings.max_scale:
        raise InputError(
            "training_dataset needs 0 < min_scale <= max_scale, got "
            f"{settings.min_scale} and {settings.max_scale}"
        )
    if not 0.0 <= settings.flip_probability <= 1.0:
        raise InputError(
            "training_dataset.flip_probability must be between 0 and 1, got "
            f"{settings.flip_probability}"
        )
    if settings.max_frame_gap < 1:
        raise InputError(
            f"training_dataset.max_frame_gap must be 1 or more, got {settings.max_frame_gap}"
        )

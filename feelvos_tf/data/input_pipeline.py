"""From record files to training batches."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import moving_scenes, scene_clip, tfrecord_files, training_clip
from feelvos_tf.data.moving_scenes import MovingScenes
from feelvos_tf.data.tfrecords import EncodedVideo, parse
from feelvos_tf.data.training_clip import ClipSettings

_MAX_DROPPED_IN_A_ROW = 1000
_DONOR_SEED = 1_000_003


@gin.configurable
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
    shuffle_buffer: int = 128,
    scenes: Sequence[MovingScenes | None] | None = None,
    donor_records: str | Sequence[str] | None = None,
    rollout_steps: int = 0,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Returns an endless dataset of batches of clips.

    Every batch is a dict; frames are in the order reference, previous, current, then
    those that follow:
      images: float32 [batch, frames, crop height, crop width, 3], RGB 0..255, padding 127.5; 3
        frames and `rollout_steps` more.
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
        (see `mask_damage.py`).
      shuffle_buffer: clips (still encoded) to draw from.
      scenes: one `MovingScenes` per data set: synthetic motion, pasted objects, changes of light.
        None for those whose clips are made as in the paper. With it `min_scale`, `max_scale`,
        `flip_probability`, `first_frame_only` and `max_frame_gap` of this function have no say.
      donor_records: like `records`, where pasted objects come from; all of `records` when None.
      rollout_steps: frames that follow the current one; needs `scenes`.
      seed: the same seed gives the same batches; None gives new ones every time. A run that is
        resumed should pass another seed than the one it began with.

    Raises:
      InputError: no record file, a broken one, or a setting out of range.
    """
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
    )
    _check_settings(settings)
    patterns = _checked_patterns(records)
    weights = _checked_probabilities(probabilities, patterns)
    base = secrets.randbits(31) if seed is None else seed
    scenes = _checked_scenes(scenes, patterns, rollout_steps)
    sources = []
    for number, (pattern, scene) in enumerate(zip(patterns, scenes)):
        files = tfrecord_files.matching(pattern)
        if scene is None:
            clips = _encoded_clips(files, settings, shuffle_buffer, base + number)
            make = functools.partial(training_clip.make_clip, settings=settings)
        else:
            clip_frames = training_clip.NUM_FRAMES + rollout_steps
            clips = tf.data.Dataset.zip(
                _encoded_scenes(files, scene, clip_frames, shuffle_buffer, base + number),
                _donors(_donor_files(donor_records, patterns), shuffle_buffer, base + number),
            )
            make = functools.partial(
                scene_clip.make_clip, clip_frames=clip_frames, settings=settings, scenes=scene
            )
        sources.append(clips.map(make, tf.data.AUTOTUNE, deterministic=seed is not None))
    made = tf.data.Dataset.sample_from_datasets(sources, weights, seed=base)
    return _usable(made, settings).batch(batch_size, drop_remainder=True).prefetch(2)


def _encoded_clips(
    files: list[str], settings: ClipSettings, shuffle_buffer: int, seed: int
) -> tf.data.Dataset:
    """Returns an endless, shuffled dataset of `EncodedClip`, one per video and round."""
    videos = _videos(files, seed)
    # What is skipped is said in the first round only.
    first_round = videos.filter(
        lambda video: training_clip.is_long_enough(video, settings, report=True)
    )
    later_rounds = videos.filter(
        lambda video: training_clip.is_long_enough(video, settings)
    ).repeat()
    videos = first_round.concatenate(later_rounds).concatenate(_failing(files, settings))
    return (
        videos.enumerate()
        .map(
            lambda index, video: training_clip.choose_frames(
                video, tf.stack([tf.constant(seed, tf.int64), index]), settings
            )
        )
        .shuffle(shuffle_buffer, seed)
    )


def _videos(files: list[str], seed: int) -> tf.data.Dataset:
    """Returns the parsed records of some files, each once, the files in random order."""
    return (
        tf.data.Dataset.from_tensor_slices(files)
        .shuffle(len(files), seed)
        .interleave(tf.data.TFRecordDataset, cycle_length=min(4, len(files)), block_length=1)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    )


def _encoded_scenes(
    files: list[str], scenes: MovingScenes, clip_frames: int, shuffle_buffer: int, seed: int
) -> tf.data.Dataset:
    """Returns an endless, shuffled dataset of `EncodedClip`, one per record and round."""
    return (
        _videos(files, seed)
        .repeat()
        .enumerate()
        .map(
            lambda index, video: scene_clip.choose_frames(
                video, tf.stack([tf.constant(seed, tf.int64), index]), clip_frames, scenes
            )
        )
        .shuffle(shuffle_buffer, seed)
    )


def _donors(files: list[str], shuffle_buffer: int, seed: int) -> tf.data.Dataset:
    """Returns an endless, shuffled dataset of `Donors`, `moving_scenes.DONORS` pictures each."""
    # Another seed than that of the clips: no picture shall be its own donor all the time.
    seed += _DONOR_SEED
    return (
        _videos(files, seed)
        .repeat()
        .enumerate()
        .map(
            lambda index, video: scene_clip.choose_donor(
                video, tf.stack([tf.constant(seed, tf.int64), index])
            )
        )
        .shuffle(shuffle_buffer, seed)
        .batch(moving_scenes.DONORS)
    )


def _failing(files: list[str], settings: ClipSettings) -> tf.data.Dataset:
    """Returns what stands behind the endless repetition: reached only if that is empty; fails."""
    sentence = (
        f"{tfrecord_files.ERROR_MARK}no video in {files[0]} ... {files[-1]} has the "
        f"{training_clip.frames_needed(settings)} frames that training needs"
    )

    def fail(video: bytes) -> EncodedVideo:
        with tf.control_dependencies([tf.debugging.Assert(False, [sentence])]):
            return EncodedVideo(tf.identity(video), tf.constant([""]), tf.constant([""]))

    return tf.data.Dataset.from_tensors("").map(fail)


def _usable(made: tf.data.Dataset, settings: ClipSettings) -> tf.data.Dataset:
    """Returns the usable clips; fails, instead of searching forever, where there are none."""
    sentence = (
        f"{tfrecord_files.ERROR_MARK}{_MAX_DROPPED_IN_A_ROW} clips in a row were dropped because "
        "the reference showed no object, or one with fewer than "
        f"{settings.min_label_count} pixels at stride {settings.decoder_output_stride} "
        f"(crop_size {settings.crop_size}, min_label_count {settings.min_label_count})"
    )

    def counted(dropped: tf.Tensor, clip: dict[str, tf.Tensor]):
        dropped = tf.where(clip["usable"], 0, dropped + 1)
        with tf.control_dependencies(
            [tf.debugging.Assert(dropped < _MAX_DROPPED_IN_A_ROW, [sentence])]
        ):
            return tf.identity(dropped), clip

    return (
        made.scan(tf.constant(0), counted)
        .filter(lambda clip: clip["usable"])
        .map(lambda clip: {key: clip[key] for key in clip if key != "usable"})
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


def _donor_files(donor_records: str | Sequence[str] | None, patterns: list[str]) -> list[str]:
    """Returns the record files that pasted objects come from: of all data sets by default."""
    chosen = patterns if donor_records is None else tfrecord_files.as_list(donor_records)
    return [file for pattern in chosen for file in tfrecord_files.matching(pattern)]


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

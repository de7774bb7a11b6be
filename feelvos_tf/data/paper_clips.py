"""Training clips as in the paper: a reference, a previous and a current frame of one video.

Source: paper section 3, "Training procedure"; `utils/video_input_generator.py` of the 2019 release.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import CURRENT, PREVIOUS, REFERENCE
from feelvos_tf.data import augmentation, mask_damage, tfrecords

_MIN_FRAMES = 3
"""The 2019 release trains on no shorter video, although two frames would make a clip."""


@settings.configurable
@dataclasses.dataclass(frozen=True)
class ClipSettings:
    """How training clips are made; the defaults are those of the 2019 release.

    `MovingScenes` has settings of its own in place of the scales, the flip, `first_frame_only` and
    `max_frame_gap`.

    Attributes:
      crop_size: (height, width) in pixels.
      min_scale: smallest factor on the size of the frames.
      max_scale: largest.
      flip_probability: of mirroring left to right.
      decoder_output_stride: stride at which objects must be present in the reference.
      min_label_count: pixels at that stride that the background and every object need in the
        reference; a clip with fewer is dropped.
      first_frame_only: all three frames are made from frame 0, each with its own augmentation: for
        fine-tuning on the given mask of a video.
      max_frame_gap: the current frame comes 1 to this many frames after the previous one. More than
        the paper's 1 makes the previous mask less reliable, as the model's own masks are.
      damage_previous_mask: perturbs the previous frame's labels (see `mask_damage.damage_labels`).
      rollout_steps: frames after the current one; needs `MovingScenes` for all data sets.
    """

    crop_size: tuple[settings.PositiveInt, settings.PositiveInt] = (465, 465)
    min_scale: float = 1.0
    max_scale: float = 1.3
    flip_probability: settings.Probability = 0.5
    decoder_output_stride: settings.PositiveInt = 4
    min_label_count: settings.Count = 10
    first_frame_only: bool = False
    max_frame_gap: settings.PositiveInt = 1
    damage_previous_mask: bool = False
    rollout_steps: settings.Count = 0

    def __post_init__(self) -> None:
        settings.check_scales("ClipSettings", self.min_scale, self.max_scale)

    @property
    def num_frames(self) -> int:
        """Number of frames in a clip: reference, previous, current, and those that follow."""
        return 3 + self.rollout_steps

    @property
    def frames_needed(self) -> int:
        """Number of frames that a video needs for a clip as in the paper."""
        return 1 if self.first_frame_only else _MIN_FRAMES


class TrainingClip(NamedTuple):
    """Frames of a video: reference, previous, current; then those that follow, if any.

    Attributes:
      images: float32 [frames, crop height, crop width, 3], RGB 0..255, padding 127.5.
      labels: int32 [frames, crop height, crop width], object indices below `num_objects` (0 is
        background), and 255 for void and padding.
      num_objects: int32 [], background included.
      video_id: string [].
    """

    images: tf.Tensor
    labels: tf.Tensor
    num_objects: tf.Tensor
    video_id: tf.Tensor


class EncodedClip(NamedTuple):
    """The frames of a clip before decoding.

    Attributes:
      video_id: string [].
      images: JPEG files, string [frames].
      masks: PNG files, string [frames].
      seed: int64 [2], for all random choices still to be made.
    """

    video_id: tf.Tensor
    images: tf.Tensor
    masks: tf.Tensor
    seed: tf.Tensor


class _Seeds(NamedTuple):
    """One seed, integer [2], per random choice."""

    frames: tf.Tensor
    augmentations: list[tf.Tensor]
    damage: tf.Tensor


def is_long_enough(
    video: tfrecords.EncodedVideo, clips: ClipSettings, report: tf.Tensor
) -> tf.Tensor:
    """Returns whether clips can be drawn from the video, bool [].

    Args:
      video: parsed record.
      clips: settings.
      report: bool [], whether to name a video that is too short on stderr.
    """
    found = tf.size(video.images)

    def say() -> tf.Operation:
        counts = (found, " frames, training needs ", clips.frames_needed)
        return tf.print(
            "skipped video ", video.video_id, ": ", *counts, sep="", output_stream=sys.stderr
        )

    tf.cond(report & (found < clips.frames_needed), say, tf.no_op)
    return found >= clips.frames_needed


def choose_frames(
    video: tfrecords.EncodedVideo, seed: tf.Tensor, clips: ClipSettings
) -> EncodedClip:
    """Returns three frames of a video. The others are never decoded, which makes this fast."""
    frames = draw_frames(
        tf.size(video.images), _split(seed).frames, clips.first_frame_only, clips.max_frame_gap
    )
    return EncodedClip(
        video.video_id, tf.gather(video.images, frames), tf.gather(video.masks, frames), seed
    )


def draw_frames(
    num_frames: tf.Tensor, seed: tf.Tensor, first_frame_only: bool = False, max_frame_gap: int = 1
) -> tf.Tensor:
    """Returns the indices of (reference, previous, current), int32 [3].

    The reference is any frame, before, between or after the other two; previous and current are
    adjacent in the paper.

    Args:
      num_frames: length of the video, int32 [], at least 2.
      seed: integer [2], the only source of randomness.
      first_frame_only: frame 0 three times, for fine-tuning on the given mask.
      max_frame_gap: the current frame comes 1 to this many frames after the previous one.
    """
    if first_frame_only:
        return tf.zeros([3], tf.int32)
    uniform = tf.random.stateless_uniform([3], seed)
    gap = 1 + _pick(uniform[2], tf.minimum(max_frame_gap, num_frames - 1))
    reference = _pick(uniform[0], num_frames)
    previous = _pick(uniform[1], num_frames - gap)
    return tf.stack([reference, previous, previous + gap])


def make_clip(encoded: EncodedClip, clips: ClipSettings) -> tuple[TrainingClip, tf.Tensor]:
    """Returns the finished clip, and whether it can be trained on, bool []."""
    seeds = _split(encoded.seed)
    images, labels = _augmented(encoded, seeds.augmentations, clips)
    return finish_clip(images, labels, labels[PREVIOUS], encoded.video_id, seeds.damage, clips)


def finish_clip(
    images: tf.Tensor,
    labels: tf.Tensor,
    previous: tf.Tensor,
    video_id: tf.Tensor,
    damage_seed: tf.Tensor,
    clips: ClipSettings,
) -> tuple[TrainingClip, tf.Tensor]:
    """Returns a clip with object indices for ids, and whether it can be trained on, bool [].

    Args:
      images: float32 [frames, *crop_size, 3].
      labels: object ids, uint8 [frames, *crop_size].
      previous: the previous frame's ids as the network will see them, uint8 [*crop_size].
      video_id: string [].
      damage_seed: integer [2], for damaging the previous mask.
      clips: settings.
    """
    ids, counts = augmentation.reference_ids(labels[REFERENCE], clips.decoder_output_stride)
    indices = tf.unstack(augmentation.remap_labels(labels, ids))
    indices[PREVIOUS] = augmentation.remap_labels(previous, ids)
    if clips.damage_previous_mask:
        indices[PREVIOUS] = mask_damage.damage_labels(indices[PREVIOUS], tf.size(ids), damage_seed)
    clip = TrainingClip(images, tf.stack(indices), tf.size(ids), video_id)
    return clip, augmentation.is_usable(ids, counts, clips.min_label_count)


def blank_clip(clips: ClipSettings) -> TrainingClip:
    """Returns a clip of zeros with the shapes and types of a finished one."""
    shape = [clips.num_frames, *clips.crop_size]
    return TrainingClip(
        images=tf.zeros([*shape, 3]),
        labels=tf.zeros(shape, tf.int32),
        num_objects=tf.constant(0),
        video_id=tf.constant(""),
    )


def _split(seed: tf.Tensor) -> _Seeds:
    frames, damage, *augmentations = tf.unstack(
        tf.random.experimental.stateless_split(seed, 5), num=5
    )
    return _Seeds(frames, augmentations, damage)


def _pick(uniform: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns 0..count-1, int32, from a number in [0, 1)."""
    return tf.minimum(tf.cast(uniform * tf.cast(count, tf.float32), tf.int32), count - 1)


def _augmented(
    encoded: EncodedClip, seeds: list[tf.Tensor], clips: ClipSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns images float32 [3, *crop_size, 3] and object ids uint8 [3, *crop_size].

    The reference has its own scale, crop and flip; previous and current share theirs, so that
    what moves between them is the video's motion. Made from the same frame (`first_frame_only`)
    all three have their own scale and crop, or there would be no motion at all; the flip stays
    shared, since no object is mirrored from one frame to the next.
    """
    frames = [tfrecords.decode_frame(encoded.images[i], encoded.masks[i]) for i in range(3)]
    reference, previous, current = _augmentations(seeds, clips)
    if clips.first_frame_only:
        groups = [([REFERENCE], reference), ([PREVIOUS], previous), ([CURRENT], current)]
    else:
        groups = [([REFERENCE], reference), ([PREVIOUS, CURRENT], previous)]
    augmented = [
        augmentation.augment(
            tf.stack([frames[i][0] for i in members]),
            tf.stack([frames[i][1] for i in members]),
            drawn,
            clips.crop_size,
        )
        for members, drawn in groups
    ]
    images, labels = (tf.concat(parts, 0) for parts in zip(*augmented))
    shape = [3, *clips.crop_size]
    return tf.ensure_shape(images, [*shape, 3]), tf.ensure_shape(labels, shape)


def _augmentations(seeds: list[tf.Tensor], clips: ClipSettings) -> list[augmentation.Augmentation]:
    """Returns one augmentation per frame; the current frame's flip is the previous one's."""
    drawn = [
        augmentation.draw_augmentation(
            seed, clips.min_scale, clips.max_scale, clips.flip_probability
        )
        for seed in seeds
    ]
    drawn[CURRENT] = drawn[CURRENT]._replace(flip=drawn[PREVIOUS].flip)
    return drawn

"""Training clips as in the paper: a reference, a previous and a current frame of one video.

Source: paper section 3, "Training procedure"; `utils/video_input_generator.py` of the 2019 release.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import PREVIOUS, REFERENCE
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import augmentation, mask_damage, tfrecords


@settings.configurable
@dataclasses.dataclass(frozen=True)
class ClipSettings:
    """How training clips are made; the defaults are those of the 2019 release.

    For `MovingScenes`, its own settings replace the sizes, scales, flip, `first_frame_only` and
    frame gaps.

    Attributes:
      crop_size: (height, width) in pixels.
      min_scale: smallest factor on the size of the frames.
      max_scale: largest factor.
      scale_step: 0 draws any factor between the two; otherwise factors are about this far apart,
        both ends included.
      min_resize_value: short side in pixels to which frames are resized first; None: no resizing.
      max_resize_value: most pixels that the long side may then have; None: no limit.
      flip_probability: of mirroring left to right.
      decoder_output_stride: stride at which objects must be present in the reference.
      min_label_count: pixels at that stride that the background and every object need in the
        reference; clips with fewer are dropped. 0 drops none.
      first_frame_only: makes all frames from frame 0, each with its own augmentation, for
        fine-tuning on the given mask of a video.
      min_frame_gap: see `max_frame_gap`. 2 for line 3 of table 6, as the release trains it: without
        matching to the previous frame, the previous mask is from two frames before.
      max_frame_gap: the current frame comes `min_frame_gap` to this many frames after the previous
        one. More than the paper's 1 makes the previous mask less reliable, as the model's own are.
      damage_previous_mask: perturbs the previous frame's labels (see `mask_damage.damage_labels`).
      rollout_steps: frames after the current one, each predicted from the mask predicted for the
        frame before it; the release's `train_num_frames_per_video` is 3 more.
    """

    crop_size: tuple[settings.PositiveInt, settings.PositiveInt] = (465, 465)
    min_scale: float = 1.0
    max_scale: float = 1.3
    scale_step: settings.NonNegative = 0.0
    min_resize_value: settings.PositiveInt | None = None
    max_resize_value: settings.PositiveInt | None = None
    flip_probability: settings.Probability = 0.5
    decoder_output_stride: settings.PositiveInt = 4
    min_label_count: settings.Count = 10
    first_frame_only: bool = False
    min_frame_gap: settings.PositiveInt = 1
    max_frame_gap: settings.PositiveInt = 1
    damage_previous_mask: bool = False
    rollout_steps: settings.Count = 0

    def __post_init__(self) -> None:
        settings.check_scales("ClipSettings", self.min_scale, self.max_scale)
        if self.min_frame_gap > self.max_frame_gap:
            raise InputError(
                "ClipSettings: expected min_frame_gap <= max_frame_gap, found "
                f"{self.min_frame_gap} and {self.max_frame_gap}"
            )
        if self.max_resize_value is not None and self.min_resize_value is None:
            raise InputError(
                "ClipSettings.max_resize_value: expected None without a min_resize_value, found "
                f"{self.max_resize_value}"
            )

    @property
    def num_frames(self) -> int:
        """Number of frames in a clip: reference, previous, current, and those that follow."""
        return 3 + self.rollout_steps

    @property
    def frames_needed(self) -> int:
        """Number of frames that a video needs for a clip as in the paper.

        One more than the clip spans, as the video's last frame is used only as a reference: see
        `draw_frames`.
        """
        return 1 if self.first_frame_only else self.min_frame_gap + self.rollout_steps + 2


class TrainingClip(NamedTuple):
    """3 + `ClipSettings.rollout_steps` frames: reference, previous, current, those that follow.

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


def is_long_enough(
    video: tfrecords.EncodedVideo, clips: ClipSettings, report: tf.Tensor
) -> tf.Tensor:
    """Returns whether clips can be drawn from the video, bool [].

    Args:
      video: parsed record.
      clips: settings.
      report: bool [], whether to report a video that is too short on stderr.
    """
    found = tf.size(video.images)

    def print_skipped() -> tf.Operation:
        counts = (found, " frames, training needs ", clips.frames_needed)
        return tf.print(
            "skipped video ", video.video_id, ": ", *counts, sep="", output_stream=sys.stderr
        )

    tf.cond(report & (found < clips.frames_needed), print_skipped, tf.no_op)
    return found >= clips.frames_needed


def make_clip(
    video: tfrecords.EncodedVideo, seed: tf.Tensor, clips: ClipSettings
) -> tuple[TrainingClip, tf.Tensor]:
    """Returns a random clip of a video, and whether it can be trained on (bool []).

    Frames that are not drawn are never decoded, which saves time.

    Args:
      video: parsed record, long enough.
      seed: int64 [2], the only source of randomness.
      clips: settings.
    """
    count = 2 + clips.num_frames
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, count), num=count)
    frames_seed, damage_seed, *own_seeds = seeds
    frames = draw_frames(tf.size(video.images), frames_seed, clips)
    chosen = tf.gather(video.images, frames), tf.gather(video.masks, frames)
    images, labels = _augmented(*chosen, own_seeds, clips)
    return finish_clip(images, labels, labels[PREVIOUS], video.video_id, damage_seed, clips)


def draw_frames(num_frames: tf.Tensor, seed: tf.Tensor, clips: ClipSettings) -> tf.Tensor:
    """Returns the indices of reference, previous, current and following frames, int32 [frames].

    The reference is any frame: before, between or after the others. In the paper, the previous and
    current frame are adjacent; so are those that follow.

    Reproduction trap: none but the reference can be the last frame of the video. Source: the 2019
    release, `utils/video_input_generator.py`, which counts the reference as part of the run of
    frames.

    Args:
      num_frames: length of the video, int32 [], at least `clips.frames_needed`.
      seed: integer [2], the only source of randomness.
      clips: settings.
    """
    if clips.first_frame_only:
        return tf.zeros([clips.num_frames], tf.int32)
    uniform = tf.random.stateless_uniform([3], seed)
    max_gap = tf.minimum(clips.max_frame_gap, num_frames - clips.rollout_steps - 2)
    gap = clips.min_frame_gap + _pick(uniform[2], max_gap - clips.min_frame_gap + 1)
    reference = _pick(uniform[0], num_frames)
    previous = _pick(uniform[1], num_frames - clips.rollout_steps - gap - 1)
    following = previous + gap + tf.range(clips.rollout_steps + 1)
    return tf.concat([[reference, previous], following], 0)


def finish_clip(
    images: tf.Tensor,
    labels: tf.Tensor,
    previous: tf.Tensor,
    video_id: tf.Tensor,
    damage_seed: tf.Tensor,
    clips: ClipSettings,
) -> tuple[TrainingClip, tf.Tensor]:
    """Returns a clip with ids replaced by indices, and whether it can be trained on (bool []).

    Args:
      images: float32 [frames, *crop_size, 3].
      labels: object ids, uint8 [frames, *crop_size].
      previous: the previous frame's ids as fed to the network, uint8 [*crop_size].
      video_id: string [].
      damage_seed: integer [2], for damaging the previous mask.
      clips: settings.
    """
    ids, counts = augmentation.reference_ids(labels[REFERENCE], clips.decoder_output_stride)
    indices = tf.unstack(augmentation.remap_labels(labels, ids))
    indices[PREVIOUS] = augmentation.remap_labels(previous, ids)
    if clips.damage_previous_mask:
        indices[PREVIOUS] = mask_damage.damage_labels(
            indices[PREVIOUS], tf.size(ids), damage_seed, clips.decoder_output_stride
        )
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


def _pick(uniform: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns an int32 in 0..count-1 from a number in [0, 1)."""
    return tf.minimum(tf.cast(uniform * tf.cast(count, tf.float32), tf.int32), count - 1)


def _augmented(
    images: tf.Tensor, masks: tf.Tensor, seeds: list[tf.Tensor], clips: ClipSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns images float32 [frames, *crop_size, 3] and object ids uint8 [frames, *crop_size].

    The reference has its own scale, crop and flip; the other frames share theirs, so that only the
    video's own motion is seen between them. With `first_frame_only` every frame has its own, or
    there would be no motion at all.
    """
    count = clips.num_frames
    frames = [tfrecords.decode_frame(images[i], masks[i]) for i in range(count)]
    own = count if clips.first_frame_only else PREVIOUS
    groups = [frames[i : i + 1] for i in range(own)] + ([frames[own:]] if own < count else [])
    augmented = [
        augmentation.augment(
            *augmentation.resize_to_range(
                tf.stack([image for image, _ in group]),
                tf.stack([ids for _, ids in group]),
                clips.min_resize_value,
                clips.max_resize_value,
            ),
            augmentation.draw_augmentation(
                seed, clips.min_scale, clips.max_scale, clips.flip_probability, clips.scale_step
            ),
            clips.crop_size,
        )
        for group, seed in zip(groups, seeds)
    ]
    images, labels = (tf.concat(parts, 0) for parts in zip(*augmented))
    shape = [count, *clips.crop_size]
    return tf.ensure_shape(images, [*shape, 3]), tf.ensure_shape(labels, shape)

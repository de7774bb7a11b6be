"""Makes a training clip of three frames (reference, previous, current) of one video record."""

from __future__ import annotations

import sys
from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core.constants import CURRENT, PREVIOUS, REFERENCE
from feelvos_tf.data import augmentation, frame_sampling, mask_damage, tfrecords


class ClipSettings(NamedTuple):
    """How clips are made; described at `input_pipeline.training_dataset`."""

    crop_size: tuple[int, int]
    min_scale: float
    max_scale: float
    flip_probability: float
    decoder_output_stride: int
    min_label_count: int
    first_frame_only: bool
    max_frame_gap: int
    damage_previous_mask: bool
    rollout_steps: int = 0

    @property
    def num_frames(self) -> int:
        """Reference, previous, current, and those that follow."""
        return 3 + self.rollout_steps


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


def _split(seed: tf.Tensor) -> _Seeds:
    frames, damage, *augmentations = tf.unstack(
        tf.random.experimental.stateless_split(seed, 5), num=5
    )
    return _Seeds(frames, augmentations, damage)


def frames_needed(settings: ClipSettings) -> int:
    """Returns how many frames a video needs to be trained on."""
    return 1 if settings.first_frame_only else frame_sampling.MIN_FRAMES


def is_long_enough(
    video: tfrecords.EncodedVideo, settings: ClipSettings, report: tf.Tensor
) -> tf.Tensor:
    """Returns whether clips can be drawn from the video, bool []; `report`: says no on stderr."""
    needed = frames_needed(settings)
    found = tf.size(video.images)

    def say() -> tf.Operation:
        counts = (found, " frames, training needs ", needed)
        return tf.print(
            "skipped video ", video.video_id, ": ", *counts, sep="", output_stream=sys.stderr
        )

    tf.cond(report & (found < needed), say, tf.no_op)
    return found >= needed


def choose_frames(
    video: tfrecords.EncodedVideo, seed: tf.Tensor, settings: ClipSettings
) -> EncodedClip:
    """Returns three frames of a video. All others stay undecoded, which is what makes this fast."""
    frames = frame_sampling.draw_frames(
        tf.size(video.images),
        _split(seed).frames,
        settings.first_frame_only,
        settings.max_frame_gap,
    )
    return EncodedClip(
        video.video_id, tf.gather(video.images, frames), tf.gather(video.masks, frames), seed
    )


def decode_frame(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (image uint8 [height, width, 3], object ids uint8 [height, width]).

    Raises (when run):
      tf.errors.InvalidArgumentError: damaged file, palette or color mask, sizes that differ.
    """
    pixels = tf.io.decode_jpeg(image, channels=3)
    # channels=0 keeps what is stored; channels=1 would turn a palette into gray values silently.
    ids = tf.ensure_shape(tf.io.decode_png(mask, channels=0), [None, None, 1])[..., 0]
    sizes_match = tf.debugging.assert_equal(
        tf.shape(pixels)[:2], tf.shape(ids), "image and mask differ in size"
    )
    with tf.control_dependencies([] if tf.executing_eagerly() else [sizes_match]):
        return tf.identity(pixels), ids


def make_clip(encoded: EncodedClip, settings: ClipSettings) -> tuple[TrainingClip, tf.Tensor]:
    """Returns the finished clip, and whether it can be trained on, bool []."""
    seeds = _split(encoded.seed)
    images, labels = _augmented(encoded, seeds.augmentations, settings)
    ids, counts = augmentation.reference_ids(labels[REFERENCE], settings.decoder_output_stride)
    indices = augmentation.remap_labels(labels, ids)
    if settings.damage_previous_mask:
        damaged = mask_damage.damage_labels(indices[PREVIOUS], tf.size(ids), seeds.damage)
        indices = tf.stack([indices[REFERENCE], damaged, indices[CURRENT]])
    clip = TrainingClip(images, indices, tf.size(ids), encoded.video_id)
    return clip, augmentation.is_usable(ids, counts, settings.min_label_count)


def blank_clip(settings: ClipSettings) -> TrainingClip:
    """Returns a clip of zeros, of the shapes and types of a finished one."""
    shape = [settings.num_frames, *settings.crop_size]
    return TrainingClip(
        images=tf.zeros([*shape, 3]),
        labels=tf.zeros(shape, tf.int32),
        num_objects=tf.constant(0),
        video_id=tf.constant(""),
    )


def _augmented(
    encoded: EncodedClip, seeds: list[tf.Tensor], settings: ClipSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns images float32 [3, *crop_size, 3] and object ids uint8 [3, *crop_size].

    The reference has its own scale, crop and flip; previous and current share theirs, so that
    what moves between them is the video's motion. Made from one and the same frame
    (`first_frame_only`) all three have their own scale and crop, or there would be no motion at
    all; the flip stays shared, since no object is mirrored from one frame to the next.
    """
    frames = [decode_frame(encoded.images[i], encoded.masks[i]) for i in range(3)]
    reference, previous, current = _augmentations(seeds, settings)
    if settings.first_frame_only:
        groups = [([REFERENCE], reference), ([PREVIOUS], previous), ([CURRENT], current)]
    else:
        groups = [([REFERENCE], reference), ([PREVIOUS, CURRENT], previous)]
    augmented = [
        augmentation.augment(
            tf.stack([frames[i][0] for i in members]),
            tf.stack([frames[i][1] for i in members]),
            drawn,
            settings.crop_size,
        )
        for members, drawn in groups
    ]
    images, labels = (tf.concat(parts, 0) for parts in zip(*augmented))
    shape = [3, *settings.crop_size]
    return tf.ensure_shape(images, [*shape, 3]), tf.ensure_shape(labels, shape)


def _augmentations(
    seeds: list[tf.Tensor], settings: ClipSettings
) -> list[augmentation.Augmentation]:
    """Returns one augmentation per frame; the current frame's flip is the previous one's."""
    drawn = [
        augmentation.draw_augmentation(
            seed, settings.min_scale, settings.max_scale, settings.flip_probability
        )
        for seed in seeds
    ]
    drawn[CURRENT] = drawn[CURRENT]._replace(flip=drawn[PREVIOUS].flip)
    return drawn

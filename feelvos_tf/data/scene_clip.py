"""Makes a training clip of `scene_composing` of one record, as `training_clip` does without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow as tf

from feelvos_tf.core.constants import PREVIOUS, REFERENCE
from feelvos_tf.data import (
    augmentation,
    mask_damage,
    moving_scenes,
    scene_composing,
    tfrecords,
)
from feelvos_tf.data.moving_scenes import MovingScenes
from feelvos_tf.data.scene_composing import Picture
from feelvos_tf.data.training_clip import ClipSettings, EncodedClip, TrainingClip


class Donors(NamedTuple):
    """Pictures that further objects are taken from, before decoding.

    Attributes:
      images: JPEG files, string [donors].
      masks: PNG files, string [donors].
    """

    images: tf.Tensor
    masks: tf.Tensor


def choose_frames(
    video: tfrecords.EncodedVideo, seed: tf.Tensor, settings: ClipSettings, scenes: MovingScenes
) -> EncodedClip:
    """Returns the frames of a video that a clip is made of; a single one for a still."""

    def draw(count: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        rng = _generator(numbers, 0)
        return moving_scenes.draw_frames(int(count), settings.num_frames, rng, scenes)

    frames = tf.numpy_function(draw, [tf.size(video.images), seed], tf.int32, stateful=False)
    frames = tf.ensure_shape(frames, [None])
    return EncodedClip(
        video.video_id, tf.gather(video.images, frames), tf.gather(video.masks, frames), seed
    )


def choose_donors(videos: Sequence[tfrecords.EncodedVideo], seed: tf.Tensor) -> Donors:
    """Returns one random frame of each video."""
    images, masks = [], []
    for number, video in enumerate(videos):
        own = tf.random.experimental.stateless_fold_in(seed, number)
        count = tf.size(video.images)
        frame = tf.random.stateless_uniform([], own, maxval=count, dtype=tf.int32)
        images.append(video.images[frame])
        masks.append(video.masks[frame])
    return Donors(tf.stack(images), tf.stack(masks))


def make_clip(
    encoded: EncodedClip, donors: Donors, settings: ClipSettings, scenes: MovingScenes
) -> tuple[TrainingClip, tf.Tensor]:
    """Returns the finished clip, and whether it can be trained on, bool []."""

    def make(images, masks, donor_images, donor_masks, seed):
        return scene_composing.make_clip(
            _decode(images, masks),
            _decode(donor_images, donor_masks),
            settings.crop_size,
            settings.num_frames,
            _generator(seed, 1),
            scenes,
        )

    images, labels, previous = tf.numpy_function(
        make, [*encoded[1:3], *donors, encoded.seed], [tf.uint8, tf.uint8, tf.uint8], stateful=False
    )
    shape = [settings.num_frames, *settings.crop_size]
    labels = tf.ensure_shape(labels, shape)
    ids, counts = augmentation.reference_ids(labels[REFERENCE], settings.decoder_output_stride)
    indices = tf.unstack(augmentation.remap_labels(labels, ids))
    indices[PREVIOUS] = augmentation.remap_labels(
        tf.ensure_shape(previous, settings.crop_size), ids
    )
    if settings.damage_previous_mask:
        indices[PREVIOUS] = mask_damage.damage_labels(indices[PREVIOUS], tf.size(ids), encoded.seed)
    clip = TrainingClip(
        tf.cast(tf.ensure_shape(images, [*shape, 3]), tf.float32),
        tf.stack(indices),
        tf.size(ids),
        encoded.video_id,
    )
    return clip, augmentation.is_usable(ids, counts, settings.min_label_count)


def _generator(seed: np.ndarray, purpose: int) -> np.random.Generator:
    """Returns random numbers that depend on a clip's seed, int64 [2], and what they are for."""
    return np.random.default_rng([*(int(number) % 2**63 for number in seed), purpose])


def _decode(images: np.ndarray, masks: np.ndarray) -> list[Picture]:
    return [Picture(*_decode_frame(image, mask)) for image, mask in zip(images, masks)]


def _decode_frame(image: bytes, mask: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Returns (RGB uint8 [height, width, 3], object ids uint8 [height, width]).

    Raises:
      ValueError: a damaged file, a mask of more than one channel, or sizes that differ.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), flags)
    ids = cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or ids is None:
        raise ValueError("an image or a mask cannot be decoded")
    if ids.shape != pixels.shape[:2]:
        raise ValueError(f"image and mask differ in size: {pixels.shape} and {ids.shape}")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), ids

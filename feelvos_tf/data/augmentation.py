"""Scales, pads, crops and flips frames and their labels; maps object ids to indices.

Everything here is a plain function of tensors; random choices are passed in as an `Augmentation`,
so that the previous and the current frame can share one.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.resizing import resize_bilinear, resize_nearest

MEAN_PIXEL = 127.5
"""Value of image padding: becomes 0 in the network, whose input is 2 / 255 * x - 1."""


class Augmentation(NamedTuple):
    """Random choices for one frame, or for several that stay aligned.

    Attributes:
      scale: factor on height and width, float32 [].
      crop_position: position of the crop between its first (0) and last (1, exclusive) possible
        place, float32 [2] (vertical, horizontal).
      flip: whether to mirror left to right, bool [].
    """

    scale: tf.Tensor
    crop_position: tf.Tensor
    flip: tf.Tensor


def draw_augmentation(
    seed: tf.Tensor,
    min_scale: float,
    max_scale: float,
    flip_probability: float,
    scale_step: float = 0.0,
) -> Augmentation:
    """Returns random choices that depend only on `seed` (integer [2]).

    With a `scale_step` the scale is one of int((max_scale - min_scale) / scale_step + 1) equally
    spaced values. Source: `deeplab/core/preprocess_utils.get_random_scale`.
    """
    uniform = tf.random.stateless_uniform([4], seed)
    place = uniform[0]
    if scale_step:
        count = int((max_scale - min_scale) / scale_step + 1)
        place = tf.minimum(tf.floor(place * count), count - 1.0) / max(count - 1, 1)
    return Augmentation(
        scale=min_scale + place * (max_scale - min_scale),
        crop_position=uniform[1:3],
        flip=uniform[3] < flip_probability,
    )


def scale_dimension(dim: int, scale: float) -> int:
    """Returns the size of a dimension after align-corners scaling.

    Corner pixels stay in place, so it is size - 1 that scales: at 1/4, 480 becomes 120, 465 becomes
    117 and 97 becomes 25. Source: `deeplab/core/utils.scale_dimension` of the 2019 release.
    """
    return int((float(dim) - 1.0) * scale + 1.0)


def augment(
    images: tf.Tensor, labels: tf.Tensor, augmentation: Augmentation, crop_size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns frames scaled, padded if too small, cropped and flipped, all in the same way.

    Source: `deeplab/input_preprocess.py` of the 2019 release, in the same order.

    Args:
      images: RGB 0..255, any real dtype [frames, height, width, 3].
      labels: any integer dtype [frames, height, width].
      augmentation: the random choices, shared by all frames.
      crop_size: (height, width).

    Returns:
      images: float32 [frames, *crop_size, 3], padding 127.5.
      labels: [frames, *crop_size], padding 255.
    """
    images, labels = scale(images, labels, augmentation.scale)
    images, labels = pad(images, labels, crop_size)
    images, labels = crop(images, labels, augmentation.crop_position, crop_size)
    return flip(images, labels, augmentation.flip)


def resize_to_range(
    images: tf.Tensor, labels: tf.Tensor, min_size: int | None, max_size: int | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns frames whose short side is `min_size`, or less if the long one is `max_size`.

    Source: `deeplab/core/preprocess_utils.resize_to_range`, without its `resize_factor`.

    Args:
      images: [frames, height, width, 3].
      labels: [frames, height, width].
      min_size: pixels; None leaves the frames as they are.
      max_size: pixels; None for no limit.
    """
    if min_size is None:
        return images, labels
    size = tf.cast(tf.shape(labels)[1:], tf.float32)
    wanted = tf.math.ceil(size * (min_size / tf.reduce_min(size)))
    if max_size is not None:
        longest = tf.math.ceil(size * (max_size / tf.reduce_max(size)))
        wanted = tf.where(tf.reduce_max(wanted) > max_size, longest, wanted)
    wanted = tf.cast(wanted, tf.int32)
    return resize_bilinear(images, wanted), resize_nearest(labels, wanted)


def scale(images: tf.Tensor, labels: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns frames resized to int(factor * size), align-corners; bilinear, labels nearest."""
    size = tf.cast(tf.cast(tf.shape(labels)[1:], tf.float32) * factor, tf.int32)
    return resize_bilinear(images, size), resize_nearest(labels, size)


def pad(
    images: tf.Tensor, labels: tf.Tensor, crop_size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns frames padded below and on the right to at least `crop_size`."""
    missing = tf.maximum(tf.constant(crop_size) - tf.shape(labels)[1:], 0)
    paddings = [[0, 0], [0, missing[0]], [0, missing[1]]]
    images = tf.pad(images, [*paddings, [0, 0]], constant_values=MEAN_PIXEL)
    return images, tf.pad(labels, paddings, constant_values=VOID)


def crop(
    images: tf.Tensor, labels: tf.Tensor, position: tf.Tensor, crop_size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the part of size `crop_size` at `position` (see `Augmentation.crop_position`)."""
    places = tf.shape(labels)[1:] - tf.constant(crop_size) + 1
    # Although position < 1, the float32 product can round up to `places`.
    y, x = tf.unstack(
        tf.minimum(tf.cast(position * tf.cast(places, tf.float32), tf.int32), places - 1)
    )
    height, width = crop_size
    return (
        tf.ensure_shape(images[:, y : y + height, x : x + width], [None, height, width, 3]),
        tf.ensure_shape(labels[:, y : y + height, x : x + width], [None, height, width]),
    )


def flip(images: tf.Tensor, labels: tf.Tensor, do_flip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the frames, mirrored left to right if `do_flip` (bool [])."""
    return tf.cond(
        do_flip,
        lambda: (tf.reverse(images, [2]), tf.reverse(labels, [2])),
        lambda: (images, labels),
    )


def reference_ids(reference: tf.Tensor, output_stride: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the objects of a clip: sorted ids, and the low-resolution pixel count of each.

    Only ids that survive at the decoder's resolution have pixels to match against. Void is not an
    object. (In the 2019 release padding became one; its other ids are the same.)

    Args:
      reference: labels of the reference frame [height, width], values 0..255, static shape.
      output_stride: of the decoder.

    Returns:
      ids: int32 [objects], ascending; includes 0 if there is background.
      counts: int32 [objects].
    """
    size = [scale_dimension(dim, 1.0 / output_stride) for dim in reference.shape]
    downsampled = resize_nearest(reference[None], size)
    counts = tf.math.bincount(tf.cast(downsampled, tf.int32), minlength=VOID + 1)[:VOID]
    ids = tf.where(counts > 0)[:, 0]
    return tf.cast(ids, tf.int32), tf.gather(counts, ids)


def remap_labels(labels: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns the position of each id in `ids` (object index), int32 with the shape of `labels`.

    Ids that are not in `ids` become 0; void stays void. The 2019 release
    (`utils/video_input_generator.py`) leaves the reference frame itself unmapped and turns void
    into background in the other frames; both are fixed here.

    Args:
      labels: object ids, any integer dtype, values 0..255.
      ids: int32 [objects] from `reference_ids`.
    """
    table = tf.tensor_scatter_nd_update(tf.zeros([VOID + 1], tf.int32), [[VOID]], [VOID])
    table = tf.tensor_scatter_nd_update(table, ids[:, None], tf.range(tf.size(ids)))
    return tf.gather(table, tf.cast(labels, tf.int32))


def is_usable(ids: tf.Tensor, counts: tf.Tensor, min_label_count: int) -> tf.Tensor:
    """Returns whether a clip can be trained on, bool [].

    The reference must show background and at least one object, each with `min_label_count` or more
    low-resolution pixels. Source: `utils/video_input_generator.py` (MIN_LABEL_COUNT) of the 2019
    release, which keeps all clips of first frames.

    Args:
      ids: int32 [objects] from `reference_ids`.
      counts: int32 [objects] from `reference_ids`.
      min_label_count: 0 keeps every clip whose reference is not entirely void.
    """
    if min_label_count == 0:
        return tf.size(ids) > 0
    has_background_and_object = tf.logical_and(tf.reduce_any(ids == 0), tf.size(ids) >= 2)
    return tf.logical_and(has_background_and_object, tf.reduce_all(counts >= min_label_count))

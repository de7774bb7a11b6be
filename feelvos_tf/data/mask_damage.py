"""Makes ground-truth masks as wrong as predictions.

Training feeds the previous frame's ground truth where inference feeds a prediction; damage narrows
that gap. `damage_labels`, from the release, moves whole masks a little and is off by default, as it
is there. `draw_error`, our own, imitates the errors of a model that is fed its own masks: objects
that lack a part, leak into the background, include a bystander or are lost. In training, the model
must see such errors to learn to correct them from the reference.
"""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.resizing import resize_nearest
from feelvos_tf.core.settings import Between
from feelvos_tf.data.augmentation import scale_dimension

_KINDS = ("part_lost", "leak", "outline", "bystander", "lost")
_SHARES = (0.3, 0.3, 0.2, 0.12, 0.08)


@settings.configurable
def damage_labels(
    labels: tf.Tensor,
    num_objects: tf.Tensor,
    seed: tf.Tensor,
    output_stride: int,
    max_shift: settings.NonNegative = 0.05,
    max_scale_change: Annotated[float, Between(0.0, 0.9)] = 0.025,
    max_rotation: settings.NonNegative = 3.0,
    dilation_radius: settings.Count = 0,
) -> tf.Tensor:
    """Returns labels in which every object is shifted, scaled and rotated a little.

    This happens at the decoder's resolution; the result is resized by nearest neighbor. Where
    objects come to overlap, a random one wins; what an object uncovers becomes background; void
    stays void. Source: `utils/mask_damaging.py` of the 2019 release, by default without dilation,
    as in its `damage_initial_previous_frame_mask`.

    Args:
      labels: object indices, int32 [height, width], static shape; 0 is background, 255 void.
      num_objects: indices are below this, int32 [].
      seed: integer [2], the only source of randomness.
      output_stride: of the decoder.
      max_shift: in each direction, in units of the object's size (square root of the area of its
        bounding box).
      max_scale_change: largest difference of the scale from 1.
      max_rotation: degrees, in either direction.
      dilation_radius: of the disk by which objects grow, in pixels of the decoder; 5 in the
        release's `damage_masks`.
    """
    size = [scale_dimension(dim, 1.0 / output_stride) for dim in labels.shape]
    small = tf.ensure_shape(resize_nearest(labels, size), size)
    changes = tf.random.stateless_uniform([num_objects, 4], seed, minval=-1.0, maxval=1.0)
    objects = tf.range(1, tf.maximum(num_objects, 1))  # An all-void reference has 0 objects.
    order = tf.random.experimental.stateless_shuffle(objects, seed)

    def add_object(turn: tf.Tensor, damaged: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = order[turn]
        moved = damage_mask(
            small == index,
            shift=changes[index, :2] * max_shift,
            scale=1.0 + changes[index, 2] * max_scale_change,
            rotation=changes[index, 3] * np.deg2rad(max_rotation),
            dilation_radius=dilation_radius,
        )
        return turn + 1, tf.where(moved, index, damaged)

    _, damaged = tf.while_loop(
        lambda turn, _: turn < tf.size(order), add_object, (0, tf.zeros_like(small))
    )
    return tf.where(labels == VOID, VOID, resize_nearest(damaged, labels.shape))


def damage_mask(
    mask: tf.Tensor,
    shift: tf.Tensor,
    scale: tf.Tensor,
    rotation: tf.Tensor,
    dilation_radius: int = 0,
) -> tf.Tensor:
    """Returns the mask shifted, then scaled, rotated and dilated, bool [height, width].

    Reproduction traps: the fixed point of the scaling lies half the extent of the object's box from
    the corner of the image, not of the box; the rotation is about the middle of the image, half a
    pixel off the center of its pixels; the mask is rounded to bool after each step.

    Args:
      mask: bool [height, width]; all False is returned unchanged.
      shift: (down, right) in units of the object's size, float32 [2].
      scale: factor, float32 [].
      rotation: radians, from right toward down, float32 [].
      dilation_radius: of a disk, in pixels.
    """
    offset = shift * tf.sqrt(tf.reduce_prod(_extent(mask)))
    mask = _shifted(mask, offset)
    mask = _warped(mask, _extent(mask) / 2.0, 1.0 / scale, 0.0)
    middle = tf.cast(tf.shape(mask), tf.float32) / 2.0
    mask = _warped(mask, middle, tf.cos(rotation), tf.sin(rotation))
    return _dilated(mask, dilation_radius) if dilation_radius else mask


def draw_error(
    labels: np.ndarray, num_objects: int, bystanders: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns labels with one random error in one of the objects.

    Args:
      labels: object indices, uint8 [height, width]; 0 is background, 255 void.
      num_objects: indices are below this, background included.
      bystanders: pixels that could be mistaken for an object, bool [height, width]; may be all
        False.
      rng: the only source of randomness.
    """
    present = [i for i in range(1, num_objects) if (labels == i).any()]
    if not present:
        return labels
    index = int(rng.choice(present))
    inside = labels == index
    changed = _changed(inside, bystanders, str(rng.choice(_KINDS, p=_SHARES)), rng)
    result = np.where(inside, np.uint8(0), labels)
    return np.where(changed & (inside | (labels == 0)), np.uint8(index), result)


def _extent(mask: tf.Tensor) -> tf.Tensor:
    """Returns the distance between first and last row, and column, with a pixel; float32 [2]."""

    def along(axis: int) -> tf.Tensor:
        held = tf.cast(tf.reduce_any(mask, axis), tf.int32)
        last = tf.size(held) - 1 - tf.argmax(held[::-1], output_type=tf.int32)
        return last - tf.argmax(held, output_type=tf.int32)

    return tf.cast(tf.stack([along(1), along(0)]), tf.float32)


def _shifted(mask: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Returns the mask moved by `offset` (down, right), nearest neighbor."""
    y, x = (tf.cast(tf.range(n), tf.float32) for n in mask.shape)
    return _at(mask, *tf.meshgrid(y - offset[0], x - offset[1], indexing="ij")) > 0.5


def _warped(mask: tf.Tensor, center: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor) -> tf.Tensor:
    """Returns the mask rotated or scaled about `center`, bilinear, thresholded at 0.5."""
    y, x = (tf.cast(tf.range(n), tf.float32) for n in mask.shape)
    down, right = tf.meshgrid(y - center[0], x - center[1], indexing="ij")
    y = center[0] + cosine * down - sine * right
    x = center[1] + sine * down + cosine * right
    top, left = tf.floor(y), tf.floor(x)
    inside = [
        (1.0 - tf.abs(y - top - i)) * (1.0 - tf.abs(x - left - j)) * _at(mask, top + i, left + j)
        for i in (0.0, 1.0)
        for j in (0.0, 1.0)
    ]
    return tf.add_n(inside) > 0.5


def _dilated(mask: tf.Tensor, radius: int) -> tf.Tensor:
    along = np.arange(-radius, radius + 1) ** 2
    disk = tf.constant(along[:, None] + along <= radius**2, tf.float32)
    image = tf.cast(mask, tf.float32)[tf.newaxis, ..., tf.newaxis]
    return tf.nn.conv2d(image, disk[..., tf.newaxis, tf.newaxis], 1, "SAME")[0, ..., 0] > 0.5


def _at(mask: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns the mask's nearest pixels, float32; 0 outside the image."""
    height, width = mask.shape
    exists = (y >= 0.0) & (y <= height - 1.0) & (x >= 0.0) & (x <= width - 1.0)
    row = tf.clip_by_value(tf.cast(tf.floor(y + 0.5), tf.int32), 0, height - 1)
    column = tf.clip_by_value(tf.cast(tf.floor(x + 0.5), tf.int32), 0, width - 1)
    found = tf.gather(tf.reshape(mask, [-1]), row * width + column)
    return tf.cast(exists & found, tf.float32)


def _changed(
    inside: np.ndarray, bystanders: np.ndarray, kind: str, rng: np.random.Generator
) -> np.ndarray:
    """Returns the object's new mask, bool [height, width]; `inside`, the old one, is not empty."""
    size = float(np.sqrt(inside.sum()))
    if kind == "part_lost":
        return inside & ~_blob(inside, size * rng.uniform(0.2, 0.7), rng)
    if kind == "leak":
        return inside | _blob(_border(inside), size * rng.uniform(0.1, 0.4), rng)
    if kind == "outline":
        radius = int(rng.integers(1, max(2, min(8, int(0.12 * size)) + 1)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        change = cv2.dilate if rng.random() < 0.5 else cv2.erode
        return change(inside.astype(np.uint8), kernel).astype(bool)
    if kind == "bystander":
        return inside | bystanders
    return np.zeros_like(inside)


def _border(inside: np.ndarray) -> np.ndarray:
    border = inside & ~cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return border if border.any() else inside


def _blob(where: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Returns an ellipse around a random pixel of `where`, bool [height, width]."""
    rows, columns = np.nonzero(where)
    pick = int(rng.integers(len(rows)))
    axes = tuple(max(1, int(radius * f)) for f in np.exp(rng.uniform(-0.5, 0.5, 2)))
    blob = np.zeros(where.shape, np.uint8)
    center = (int(columns[pick]), int(rows[pick]))
    cv2.ellipse(blob, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
    return blob.astype(bool)

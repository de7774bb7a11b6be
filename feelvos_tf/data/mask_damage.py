"""Makes ground-truth masks as wrong as predictions are.

Training feeds the ground truth of the previous frame where inference feeds a prediction; damage
narrows that gap. `damage_labels`, the release's, moves whole masks a little and is off by default,
as there. `draw_error`, ours, makes the errors of a model that is fed its own masks: objects that
lack a part, have leaked into the background, caught a bystander or are lost altogether. The model
must have seen that the reference corrects them.
"""

from __future__ import annotations

import math
from typing import Annotated

import cv2
import numpy as np
import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.settings import Between

_KINDS = ("part_lost", "leak", "outline", "bystander", "lost")
_SHARES = (0.3, 0.3, 0.2, 0.12, 0.08)


@settings.configurable
def damage_labels(
    labels: tf.Tensor,
    num_objects: tf.Tensor,
    seed: tf.Tensor,
    max_shift: settings.NonNegative = 0.05,
    max_scale_change: Annotated[float, Between(0.0, 0.9)] = 0.025,
    max_rotation: settings.NonNegative = 3.0,
) -> tf.Tensor:
    """Returns labels in which every object is shifted, scaled and rotated a little.

    Where objects come to overlap, the one with the higher index wins; what an object uncovers
    becomes background; void stays void. Source: `utils/mask_damaging.py` of the
    2019 release.

    Args:
      labels: object indices, int32 [height, width]; 0 is background.
      num_objects: indices are below this, int32 [].
      seed: integer [2], the only source of randomness.
      max_shift: in each direction, in units of the object's size, the square root of its bounding
        box's area.
      max_scale_change: the scale is 1 plus or minus up to this.
      max_rotation: degrees, either way.
    """
    changes = tf.random.stateless_uniform([num_objects, 4], seed, minval=-1.0, maxval=1.0)

    def add_object(index: tf.Tensor, damaged: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        moved = move_mask(
            labels == index,
            shift=changes[index, :2] * max_shift,
            scale=1.0 + changes[index, 2] * max_scale_change,
            rotation=changes[index, 3] * math.radians(max_rotation),
        )
        return index + 1, tf.where(moved, index, damaged)

    _, damaged = tf.while_loop(
        lambda index, _: index < num_objects, add_object, (1, tf.zeros_like(labels))
    )
    return tf.where(labels == VOID, VOID, damaged)


def move_mask(
    mask: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor, rotation: tf.Tensor
) -> tf.Tensor:
    """Returns the mask rotated and scaled about its center of mass, then shifted; bool.

    Args:
      mask: bool [height, width]; all False comes back as it is.
      shift: (down, right) in units of the object's size, float32 [2].
      scale: factor, float32 [].
      rotation: radians, from down toward right, float32 [].
    """
    inside = tf.cast(tf.where(mask), tf.float32)
    return tf.cond(
        tf.shape(inside)[0] > 0,
        lambda: _moved(mask, inside, shift, scale, rotation),
        lambda: mask,
    )


def draw_error(
    labels: np.ndarray, num_objects: int, bystanders: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns labels with one random error in one of the objects.

    Args:
      labels: object indices, uint8 [height, width]; 0 is background, 255 void.
      num_objects: indices are below this, background included.
      bystanders: bool [height, width], what could be mistaken for an object; may be empty.
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


def _moved(
    mask: tf.Tensor, inside: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor, rotation: tf.Tensor
) -> tf.Tensor:
    """Looks up for every target pixel whether the pixel it comes from is in the mask."""
    center = tf.reduce_mean(inside, 0)
    extent = tf.reduce_max(inside, 0) - tf.reduce_min(inside, 0) + 1.0
    offset = center + shift * tf.sqrt(tf.reduce_prod(extent))
    height, width = tf.unstack(tf.shape(mask))
    down = (tf.cast(tf.range(height), tf.float32) - offset[0])[:, None]
    right = (tf.cast(tf.range(width), tf.float32) - offset[1])[None, :]
    cosine, sine = tf.cos(rotation) / scale, tf.sin(rotation) / scale
    y = tf.cast(tf.round(center[0] + cosine * down + sine * right), tf.int32)
    x = tf.cast(tf.round(center[1] - sine * down + cosine * right), tf.int32)
    exists = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    index = tf.clip_by_value(y, 0, height - 1) * width + tf.clip_by_value(x, 0, width - 1)
    return exists & tf.gather(tf.reshape(mask, [-1]), index)


def _changed(
    inside: np.ndarray, bystanders: np.ndarray, kind: str, rng: np.random.Generator
) -> np.ndarray:
    """Returns the object's new mask, bool [height, width]; `inside`, its old one, is not empty."""
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
    """Returns an ellipse about a random pixel of `where`, bool of its shape."""
    rows, columns = np.nonzero(where)
    pick = int(rng.integers(len(rows)))
    axes = tuple(max(1, int(radius * f)) for f in np.exp(rng.uniform(-0.5, 0.5, 2)))
    blob = np.zeros(where.shape, np.uint8)
    center = (int(columns[pick]), int(rows[pick]))
    cv2.ellipse(blob, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
    return blob.astype(bool)

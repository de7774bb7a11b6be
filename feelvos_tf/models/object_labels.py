"""Maps object ids of full-size masks to object indices on the stride-4 grid and one-hot masks."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.resizing import resize_nearest

# Index of a pixel that belongs to no object (void, or an id that the reference frame lacks).
NO_OBJECT = -1


def present_ids(mask: tf.Tensor) -> tf.Tensor:
    """Returns the sorted int32 ids in `mask` (background 0 included, void excluded)."""
    ids = tf.sort(tf.unique(tf.reshape(tf.cast(mask, tf.int32), [-1]))[0])
    return tf.boolean_mask(ids, ids != VOID)


def to_indices(mask: tf.Tensor, object_ids: tf.Tensor) -> tf.Tensor:
    """Returns int32 positions in `object_ids`, `NO_OBJECT` where the id is not among them."""
    table = tf.tensor_scatter_nd_update(
        tf.fill([VOID + 1], NO_OBJECT), object_ids[:, tf.newaxis], tf.range(tf.size(object_ids))
    )
    return tf.gather(table, tf.cast(mask, tf.int32))


def downsample(full: tf.Tensor, indices: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns int32 `[h, w]` object indices of a given mask, every object keeping a pixel.

    The release loses an object that falls between the points of the stride-4 grid. Here such an
    object gets the grid point nearest to its center that is not another object's only one.

    Args:
      full: int32 `[height, width]` object indices, `NO_OBJECT` where nothing is given.
      indices: int32 `[objects]`, those that have pixels in `full`.
      size: `[2]` height and width of the grid.
    """

    def keep(position: tf.Tensor, grid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = indices[position]
        grid = tf.cond(
            tf.reduce_any(grid == index), lambda: grid, lambda: _claim(full, grid, index)
        )
        return position + 1, grid

    return tf.while_loop(
        lambda position, _: position < tf.size(indices),
        keep,
        (tf.constant(0), resize_nearest(full, size)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
    )[1]


def _claim(full: tf.Tensor, grid: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns `grid` in which object `index` has the free point nearest to its center."""
    full_size, size = tf.shape(full), tf.shape(grid)
    scale = tf.cast(size - 1, tf.float32) / tf.cast(tf.maximum(full_size - 1, 1), tf.float32)
    center = tf.reduce_mean(tf.cast(tf.where(full == index), tf.float32), 0) * scale
    rows = tf.cast(tf.range(size[0]), tf.float32) - center[0]
    columns = tf.cast(tf.range(size[1]), tf.float32) - center[1]
    distance = tf.reshape(rows[:, tf.newaxis] ** 2 + columns**2, [-1])
    owner = tf.reshape(grid, [-1])
    pixels_of_owner = tf.gather(tf.math.bincount(owner + 1), owner + 1)
    taken = (owner != NO_OBJECT) & (pixels_of_owner == 1)
    point = tf.argmin(tf.where(taken, distance.dtype.max, distance), output_type=tf.int32)
    claimed = tf.tensor_scatter_nd_update(owner, [[point]], [index])
    return tf.reshape(claimed, size)


def one_hot(indices: tf.Tensor, num_objects: tf.Tensor) -> tf.Tensor:
    """Returns float32 `[objects, h, w]` masks; `NO_OBJECT` is in none of them."""
    return tf.one_hot(indices, num_objects, axis=0)

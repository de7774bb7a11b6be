"""Local matching: each pixel's distance to the nearest previous pixel of every object in a window.

Paper section 3, equation 4. Window radius k means offsets -k..k in both directions, in stride-4
pixels; positions outside the frame do not count.

Square tiles of queries are compared with their common neighborhood in one matrix product, for one
row of tiles (or a part of it) at a time. As in global matching the squared norm is folded into the
product, so the nearest pixel has the largest entry; one segmented maximum serves all objects.
"""

from __future__ import annotations

import types
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.global_matching import (
    NO_PIXEL_DISTANCE,
    fold_query,
    fold_reference,
    map_chunks,
)

_TILE = 8
_LOWEST = tf.float32.min
# Floats held at a time: the neighborhoods of some tiles and their products with the queries.
_STEP_FLOATS = 8_000_000


def local_distances(
    query: tf.Tensor,
    previous: tf.Tensor,
    previous_indices: tf.Tensor,
    num_objects: tf.Tensor,
    radius: int,
) -> tf.Tensor:
    """Returns the squared distances to the nearest previous pixel of every object in the window.

    Differentiable: the nearest neighbors are found without a gradient, then the distance to them is
    recomputed from the embeddings.

    Args:
      query: float32 `[h, w, channels]` embeddings of the current frame.
      previous: float32 `[h, w, channels]` embeddings of the previous frame.
      previous_indices: int32 `[h, w]` object indices of the previous frame, negative for none.
      num_objects: int32 scalar.
      radius: window radius in pixels.

    Returns:
      float32 `[objects, h, w]`; `NO_PIXEL_DISTANCE` where no pixel of the object is in the window.
    """
    fixed = tf.stop_gradient(query), tf.stop_gradient(previous)
    position = _over_tiles(
        _nearest_positions, tf.int32, *fixed, previous_indices, num_objects, radius
    )
    return _distances_to(position, query, previous)


def _distances_to(position: tf.Tensor, query: tf.Tensor, previous: tf.Tensor) -> tf.Tensor:
    """Returns `[objects, h, w]` squared distances to the previous pixels at `position`.

    Args:
      position: int32 `[objects, h, w]`, row * w + column; negative for no pixel.
      query: float32 `[h, w, channels]`.
      previous: float32 `[h, w, channels]`.
    """
    pixels = tf.reshape(previous, [-1, previous.shape[-1]])
    neighbors = tf.gather(pixels, tf.maximum(position, 0))
    distance = tf.reduce_sum(tf.square(query - neighbors), -1)
    return tf.where(position >= 0, distance, NO_PIXEL_DISTANCE)


def local_distances_inference(
    query: tf.Tensor,
    previous: tf.Tensor,
    previous_indices: tf.Tensor,
    num_objects: tf.Tensor,
    radius: int,
) -> tf.Tensor:
    """Returns `local_distances` faster, without a gradient."""
    largest = _over_tiles(
        _largest_similarities, tf.float32, query, previous, previous_indices, num_objects, radius
    )
    # No pixel: the lowest float or minus infinity.
    return tf.minimum(tf.reduce_sum(tf.square(query), -1) - largest, NO_PIXEL_DISTANCE)


def local_distances_correlation(
    query: tf.Tensor,
    previous: tf.Tensor,
    previous_indices: tf.Tensor,
    num_objects: tf.Tensor,
    radius: int,
) -> tf.Tensor:
    """Returns `local_distances`, computed by the correlation layer of tensorflow_addons.

    Again, the nearest neighbors are found without a gradient. The layer's own gradient is
    unreliable: on CPUs, the threads that sum the gradient of its second input race, and one result
    in a hundred is wrong.
    """
    layer = import_addons().layers.CorrelationCost(
        kernel_size=1,
        max_displacement=radius,
        stride_1=1,
        stride_2=1,
        pad=radius,
        data_format="channels_last",
    )
    fixed_query, fixed_previous = tf.stop_gradient(query), tf.stop_gradient(previous)
    # The layer returns the mean over channels of the products, zero outside the frame.
    products = layer([fixed_query[tf.newaxis], fixed_previous[tf.newaxis]])[0] * query.shape[-1]
    previous_norms = tf.reduce_sum(tf.square(fixed_previous), -1)
    height, width = tf.shape(query)[0], tf.shape(query)[1]
    own_position = tf.reshape(tf.range(height * width), [height, width])
    side = 2 * radius + 1

    def position_of_nearest(i: tf.Tensor) -> tf.Tensor:
        norms = tf.where(previous_indices == i, previous_norms, np.inf)
        # Without the query's own norm, which is the same for all pixels of the window.
        window = windows(norms, radius, outside=np.inf) - 2.0 * products
        nearest = tf.argmin(window, -1, output_type=tf.int32)
        position = own_position + (nearest // side - radius) * width + nearest % side - radius
        return tf.where(tf.reduce_min(window, -1) < np.inf, position, -1)

    position = map_chunks(position_of_nearest, tf.range(num_objects), tf.int32)
    return _distances_to(position, query, previous)


def import_addons() -> types.ModuleType:
    """Returns tensorflow_addons, which nothing else needs.

    Raises:
      InputError: it is not installed, or does not load in this TensorFlow.
    """
    try:
        import tensorflow_addons
    except (AttributeError, ImportError, tf.errors.OpError) as error:
        raise InputError(
            "Feelvos.local_matching: 'correlation' needs tensorflow-addons 0.23, which works with "
            f"TensorFlow 2.15 only; use 'tiles', which computes the same ({error})"
        ) from error
    return tensorflow_addons


def windows(values: tf.Tensor, radius: int, outside: float) -> tf.Tensor:
    """Returns `[h, w, (2 radius + 1)^2]`: the window of `values` `[h, w]` around every pixel."""
    pad = [[radius, radius], [radius, radius]]
    padded = tf.pad(values, pad, constant_values=outside)[tf.newaxis, :, :, tf.newaxis]
    size = [1, 2 * radius + 1, 2 * radius + 1, 1]
    return tf.image.extract_patches(padded, size, [1, 1, 1, 1], [1, 1, 1, 1], "VALID")[0]


def _largest_similarities(
    similarity: tf.Tensor, segments: tf.Tensor, num_segments: tf.Tensor, positions: tf.Tensor
) -> tf.Tensor:
    """Returns float32 `[tiles * objects, tile * tile]`; for the arguments see `_over_tiles`."""
    del positions
    return tf.math.unsorted_segment_max(similarity, segments, num_segments)


def _nearest_positions(
    similarity: tf.Tensor, segments: tf.Tensor, num_segments: tf.Tensor, positions: tf.Tensor
) -> tf.Tensor:
    """Returns int32 `[tiles * objects, tile * tile]` positions, -1 for none."""
    largest = tf.math.unsorted_segment_max(similarity, segments, num_segments)
    is_nearest = similarity == tf.gather(largest, tf.maximum(segments, 0))
    candidates = tf.where(is_nearest, positions[:, tf.newaxis], -1)
    nearest = tf.math.unsorted_segment_max(candidates, segments, num_segments)
    return tf.where(largest > _LOWEST / 2, nearest, -1)


def _over_tiles(
    function: Callable[..., tf.Tensor],
    dtype: tf.DType,
    query: tf.Tensor,
    previous: tf.Tensor,
    previous_indices: tf.Tensor,
    num_objects: tf.Tensor,
    radius: int,
) -> tf.Tensor:
    """Returns `[objects, h, w]`: `function` of all tiles, joined.

    Args:
      function: compares the queries of some tiles with all pixels around their tile, given
        similarity: float32 `[tiles * pixels, tile * tile]`, |query|^2 minus the squared distance;
          the lowest float, or less, outside a query's window;
        segments: int32 `[tiles * pixels]`, tile * objects + object index, negative for no object;
        num_segments: int32 scalar, tiles * objects;
        positions: int32 `[tiles * pixels]`, row * w + column in the previous frame.
      dtype: of its result `[tiles * objects, tile * tile]`.
      query, previous, previous_indices, num_objects, radius: see `local_distances`.
    """
    height, width = tf.shape(query)[0], tf.shape(query)[1]
    # A window larger than the image covers no more than the image.
    reach = tf.minimum(radius, tf.stack([height, width]) - 1)
    side = _TILE + 2 * reach
    num_tiles = (tf.stack([height, width]) + _TILE - 1) // _TILE
    floats_per_tile = side[0] * side[1] * (query.shape[-1] + _TILE**2)
    group = tf.clip_by_value(_STEP_FLOATS // floats_per_tile, 1, num_tiles[1])
    groups = (num_tiles[1] + group - 1) // group
    padding = tf.stack([num_tiles[0], groups * group]) * _TILE - [height, width]

    queries = _query_tiles(fold_query(query), padding, group)
    neighbors = _columns_first(fold_reference(previous), reach, padding, 0.0)
    labels = _columns_first(previous_indices, reach, padding, -1)
    window = _window_penalty(reach)
    tile_columns = tf.range(group)[:, tf.newaxis] * _TILE + tf.range(side[1])

    def step(index: tf.Tensor) -> tf.Tensor:
        top, left = index // groups * _TILE, index % groups * group * _TILE
        rows = slice(top, top + side[0])
        columns = slice(left, left + (group - 1) * _TILE + side[1])
        near = tf.gather(neighbors[columns, rows], tile_columns)
        near = tf.reshape(near, [group, side[0] * side[1], neighbors.shape[-1]])
        similarity = tf.matmul(near, queries[index], transpose_b=True) + window
        owner = tf.gather(labels[columns, rows], tile_columns)
        first_segment = tf.range(group)[:, tf.newaxis, tf.newaxis] * num_objects
        segments = tf.where(owner >= 0, owner + first_segment, -1)
        near_rows = top - reach[0] + tf.range(side[0])
        near_columns = left - reach[1] + tile_columns
        positions = near_rows * width + near_columns[..., tf.newaxis]
        return function(
            tf.reshape(similarity, [-1, _TILE**2]),
            tf.reshape(segments, [-1]),
            group * num_objects,
            tf.reshape(positions, [-1]),
        )

    steps = tf.range(num_tiles[0] * groups)
    results = map_chunks(step, steps, dtype)
    results = tf.reshape(results, [num_tiles[0], groups * group, num_objects, _TILE, _TILE])
    results = tf.transpose(results, [2, 0, 3, 1, 4])
    shape = [num_objects, num_tiles[0] * _TILE, groups * group * _TILE]
    return tf.reshape(results, shape)[:, :height, :width]


def _query_tiles(query: tf.Tensor, padding: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """Returns `[steps, group, tile * tile, channels]`: the queries cut into tiles, row by row."""
    channels = query.shape[-1]
    query = tf.pad(query, [[0, padding[0]], [0, padding[1]], [0, 0]])
    columns = tf.shape(query)[1] // _TILE
    tiles = tf.reshape(query, [-1, _TILE, columns, _TILE, channels])
    tiles = tf.transpose(tiles, [0, 2, 1, 3, 4])
    return tf.reshape(tiles, [-1, group, _TILE**2, channels])


def _columns_first(
    values: tf.Tensor, reach: tf.Tensor, padding: tf.Tensor, outside: float
) -> tf.Tensor:
    """Returns `values` `[h, w, ...]` as `[w, h, ...]` with a margin for the tiles at the border.

    A tile's neighborhood is then a run of whole rows of a strip, which is quick to copy.
    """
    margin = [[reach[1], padding[1] + reach[1]], [reach[0], padding[0] + reach[0]]]
    others = range(2, len(values.shape))
    transposed = tf.transpose(values, [1, 0, *others])
    return tf.pad(transposed, margin + [[0, 0] for _ in others], constant_values=outside)


def _window_penalty(reach: tf.Tensor) -> tf.Tensor:
    """Returns `[pixels, tile * tile]`: 0 inside a query's window, the lowest float outside."""

    def near(radius: tf.Tensor) -> tf.Tensor:
        offset = tf.range(_TILE + 2 * radius)[:, tf.newaxis] - tf.range(_TILE)
        return (offset >= 0) & (offset <= 2 * radius)

    inside = near(reach[1])[:, tf.newaxis, tf.newaxis] & near(reach[0])[:, :, tf.newaxis]
    return tf.reshape(tf.where(inside, 0.0, _LOWEST), [-1, _TILE**2])


LOCAL_MATCHINGS = {"tiles": local_distances, "correlation": local_distances_correlation}
# Without a gradient, only the distance matters, not which pixel is nearest.
LOCAL_MATCHINGS_INFERENCE = {**LOCAL_MATCHINGS, "tiles": local_distances_inference}

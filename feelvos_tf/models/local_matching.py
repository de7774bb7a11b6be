"""Local matching: the distance of each current pixel to the nearest previous pixel of every object
within a square window.

Paper section 3, equation 4. Window radius k means offsets -k..k in both directions, in stride-4
pixels; positions outside the frame and pixels of other objects do not count.
"""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.global_matching import NO_PIXEL_DISTANCE

_TILE = 8
_LOWEST = tf.float32.min


def local_distances(
    query: tf.Tensor,
    previous: tf.Tensor,
    previous_indices: tf.Tensor,
    num_objects: tf.Tensor,
    radius: int,
) -> tf.Tensor:
    """Returns the squared distances to the nearest previous pixel of every object in the window.

    Square tiles of queries are compared with their common neighbourhood in one matrix product.
    Differentiable: the nearest neighbours are looked up without a gradient, the distance to them
    is computed again from the embeddings.

    Args:
      query: float32 `[h, w, channels]` embeddings of the current frame.
      previous: float32 `[h, w, channels]` embeddings of the previous frame.
      previous_indices: int32 `[h, w]` object indices of the previous frame, negative for none.
      num_objects: int32 scalar.
      radius: window radius in pixels.

    Returns:
      float32 `[objects, h, w]`; `NO_PIXEL_DISTANCE` where no pixel of the object is in the window.
    """
    position = _nearest_positions(query, previous, previous_indices, num_objects, radius)
    found = position >= 0
    pixels = tf.reshape(previous, [-1, previous.shape[-1]])
    neighbours = tf.gather(pixels, tf.maximum(position, 0))
    distance = tf.reduce_sum(tf.square(query - neighbours), -1)
    return tf.where(found, distance, NO_PIXEL_DISTANCE)


def local_distances_correlation(
    query: tf.Tensor,
    previous: tf.Tensor,
    previous_indices: tf.Tensor,
    num_objects: tf.Tensor,
    radius: int,
) -> tf.Tensor:
    """Returns what `local_distances` returns, by the correlation layer of tensorflow_addons."""
    import tensorflow_addons as tfa  # Optional: everything else works without it.

    layer = tfa.layers.CorrelationCost(
        kernel_size=1,
        max_displacement=radius,
        stride_1=1,
        stride_2=1,
        pad=radius,
        data_format="channels_last",
    )
    # The layer returns the mean over channels of the products, zero outside the frame.
    products = layer([query[tf.newaxis], previous[tf.newaxis]])[0] * query.shape[-1]
    query_norms = tf.reduce_sum(tf.square(query), -1, keepdims=True)
    previous_norms = tf.reduce_sum(tf.square(previous), -1)

    def of_object(i: tf.Tensor) -> tf.Tensor:
        norms = tf.where(previous_indices == i, previous_norms, NO_PIXEL_DISTANCE)
        window = _windows(norms, radius, outside=NO_PIXEL_DISTANCE)
        nearest = tf.reduce_min(query_norms + window - 2.0 * products, -1)
        return tf.minimum(nearest, NO_PIXEL_DISTANCE)

    return tf.map_fn(
        of_object, tf.range(num_objects), fn_output_signature=tf.float32, parallel_iterations=1
    )


def _windows(values: tf.Tensor, radius: int, outside: float) -> tf.Tensor:
    """Returns `[h, w, (2 radius + 1)^2]`: the window of `values` `[h, w]` around every pixel."""
    pad = [[radius, radius], [radius, radius]]
    padded = tf.pad(values, pad, constant_values=outside)[tf.newaxis, :, :, tf.newaxis]
    size = [1, 2 * radius + 1, 2 * radius + 1, 1]
    return tf.image.extract_patches(padded, size, [1, 1, 1, 1], [1, 1, 1, 1], "VALID")[0]


def _nearest_positions(
    query: tf.Tensor,
    previous: tf.Tensor,
    previous_indices: tf.Tensor,
    num_objects: tf.Tensor,
    radius: int,
) -> tf.Tensor:
    """Returns int32 `[objects, h, w]`: row * w + column of the nearest pixel, or -1."""
    query, previous = tf.stop_gradient(query), tf.stop_gradient(previous)
    channels = query.shape[-1]
    height, width = tf.shape(query)[0], tf.shape(query)[1]
    rows, columns = (height + _TILE - 1) // _TILE, (width + _TILE - 1) // _TILE
    bottom, right = rows * _TILE - height, columns * _TILE - width
    query = tf.pad(query, [[0, bottom], [0, right], [0, 0]])
    margin = [[radius, bottom + radius], [radius, right + radius]]
    previous = tf.pad(previous, [*margin, [0, 0]])
    labels = tf.pad(previous_indices, margin, constant_values=-1)

    side = _TILE + 2 * radius
    in_window = _window_penalty(radius)

    def tile_row(row: tf.Tensor) -> tf.Tensor:
        top = row * _TILE
        queries = tf.reshape(query[top : top + _TILE], [_TILE, columns, _TILE, channels])
        queries = tf.reshape(tf.transpose(queries, [1, 0, 2, 3]), [columns, _TILE**2, channels])
        neighbours = _tiles(previous[top : top + side], columns, side)
        neighbour_labels = _tiles(labels[top : top + side, :, tf.newaxis], columns, side)[..., 0]
        norms = tf.reduce_sum(tf.square(neighbours), -1)
        similarity = 2.0 * tf.matmul(queries, neighbours, transpose_b=True) - norms[:, tf.newaxis]
        similarity += in_window

        def of_object(i: tf.Tensor) -> tf.Tensor:
            own = tf.where(neighbour_labels == i, 0.0, _LOWEST)[:, tf.newaxis]
            # Two penalties add up to minus infinity, one leaves the lowest range of floats.
            best = similarity + own
            place = tf.argmax(best, -1, output_type=tf.int32)
            found = tf.reduce_max(best, -1) > _LOWEST / 2
            return tf.where(found, place, -1)

        return tf.map_fn(
            of_object, tf.range(num_objects), fn_output_signature=tf.int32, parallel_iterations=1
        )

    places = tf.map_fn(
        tile_row, tf.range(rows), fn_output_signature=tf.int32, parallel_iterations=1
    )
    # [rows, objects, columns, tile * tile] -> [objects, height, width]
    places = tf.reshape(places, [rows, num_objects, columns, _TILE, _TILE])
    places = tf.transpose(places, [1, 0, 3, 2, 4])
    places = tf.reshape(places, [num_objects, rows * _TILE, columns * _TILE])[:, :height, :width]
    tile_top = (tf.range(height) // _TILE * _TILE - radius)[:, tf.newaxis]
    tile_left = tf.range(width) // _TILE * _TILE - radius
    position = (tile_top + places // side) * width + tile_left + places % side
    return tf.where(places >= 0, position, -1)


def _tiles(strip: tf.Tensor, columns: tf.Tensor, side: int) -> tf.Tensor:
    """Returns `[columns, side * side, channels]`: the neighbourhoods of a row of tiles."""
    starts = tf.range(columns) * _TILE
    gathered = tf.gather(strip, starts[:, tf.newaxis] + tf.range(side), axis=1)
    return tf.reshape(tf.transpose(gathered, [1, 0, 2, 3]), [columns, side * side, strip.shape[-1]])


def _window_penalty(radius: int) -> tf.Tensor:
    """Returns `[tile * tile, side * side]`: 0 inside a query's window, the lowest float outside."""
    offset = tf.range(_TILE + 2 * radius) - tf.range(_TILE)[:, tf.newaxis]
    near = (offset >= 0) & (offset <= 2 * radius)
    inside = near[:, tf.newaxis, :, tf.newaxis] & near[tf.newaxis, :, tf.newaxis, :]
    return tf.reshape(tf.where(inside, 0.0, _LOWEST), [_TILE**2, -1])


def _local_distances_auto(query: tf.Tensor, *args) -> tf.Tensor:
    """Returns the local distances by whichever way is fastest where it was measured: tiles."""
    return local_distances(query, *args)


LOCAL_MATCHINGS = {
    "tiles": local_distances,
    "correlation": local_distances_correlation,
    "auto": _local_distances_auto,
}

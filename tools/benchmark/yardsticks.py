"""Yardsticks for the fast paths: the same math, implemented plainly."""

from __future__ import annotations

import importlib.util

import tensorflow as tf

# Cases that need CorrelationCost are skipped if the add-ons are not installed.
HAS_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None
# Squared distance if the object has no pixel.
FAR = 1e20
# The 2019 release splits the query pixels of a frame into this many pieces.
RELEASE_CHUNKS = 500


def bare_product(query: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Returns the product `[queries, pixels]`, computed at once."""
    return tf.matmul(query, reference, transpose_b=True)


def chunked_product(query: tf.Tensor, reference: tf.Tensor, chunk: int = 512) -> tf.Tensor:
    """Returns one entry of the product per chunk of queries: its FLOPs without its memory."""
    transposed = tf.transpose(reference)
    pieces = _pieces(query, -(-query.shape[0] // chunk))
    return _map(lambda piece: tf.matmul(piece, transposed)[0, 0], pieces)


def release_global(
    query: tf.Tensor, reference: tf.Tensor, labels: tf.Tensor, num_objects: int
) -> tf.Tensor:
    """Returns `[objects, queries]` squared distances by the 2019 release's formula.

    It computes all distances of a piece of the queries, then a mask and a minimum per object.

    Args:
      query: `[queries, channels]`.
      reference: `[pixels, channels]`.
      labels: `[pixels]` object indices.
      num_objects: background included.
    """
    reference_norms = tf.reduce_sum(reference**2, -1)

    def piece_distances(piece: tf.Tensor) -> tf.Tensor:
        norms = tf.reduce_sum(piece**2, -1, keepdims=True)
        distances = norms + reference_norms - 2.0 * tf.matmul(piece, reference, transpose_b=True)
        masked = [tf.where(labels == i, distances, FAR) for i in range(num_objects)]
        return tf.stack([tf.reduce_min(own, -1) for own in masked])

    pieces = _map(piece_distances, _pieces(query, RELEASE_CHUNKS))
    joined = tf.reshape(tf.transpose(pieces, [1, 0, 2]), [num_objects, -1])
    return joined[:, : query.shape[0]]


def naive_global(
    query: tf.Tensor, reference: tf.Tensor, labels: tf.Tensor, num_objects: int
) -> tf.Tensor:
    """Returns the result of `release_global`, with all distances in memory at once."""
    products = tf.matmul(query, reference, transpose_b=True)
    distances = tf.reduce_sum(query**2, -1, keepdims=True) - 2.0 * products
    distances += tf.reduce_sum(reference**2, -1)
    masked = [tf.where(labels == i, distances, FAR) for i in range(num_objects)]
    return tf.stack([tf.reduce_min(own, -1) for own in masked])


def correlation_local(
    query: tf.Tensor, previous: tf.Tensor, labels: tf.Tensor, num_objects: int, radius: int
) -> tf.Tensor:
    """Returns `[objects, h, w]` by tensorflow_addons' correlation, masks and a minimum.

    Args:
      query: `[h, w, channels]`.
      previous: `[h, w, channels]`.
      labels: `[h, w]` object indices of the previous frame.
      num_objects: background included.
      radius: of the window.
    """
    import tensorflow_addons as tfa

    layer = tfa.layers.CorrelationCost(1, radius, 1, 1, radius, "channels_last")
    products = layer([query[tf.newaxis], previous[tf.newaxis]])[0] * query.shape[-1]
    norms = _window_patches(tf.reduce_sum(previous**2, -1), radius)
    # Labels are shifted by one, since the margin is filled with 0.
    owners = _window_patches(tf.cast(labels + 1, tf.float32), radius)
    distances = tf.reduce_sum(query**2, -1, keepdims=True) + norms - 2.0 * products
    masked = [tf.where(owners == i + 1.0, distances, FAR) for i in range(num_objects)]
    return tf.stack([tf.reduce_min(own, -1) for own in masked])


def shifted_local(
    query: tf.Tensor, previous: tf.Tensor, labels: tf.Tensor, num_objects: int, radius: int
) -> tf.Tensor:
    """Returns the result of `correlation_local`, by a running minimum over all shifts."""
    margin = [[radius, radius], [radius, radius]]
    previous = tf.pad(previous, [*margin, [0, 0]])
    owners = tf.pad(labels, margin, constant_values=-1)
    height, width = query.shape[:2]
    side = 2 * radius + 1

    def shift(index: tf.Tensor, nearest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y, x = index // side, index % side
        moved = previous[y : y + height, x : x + width]
        owner = owners[y : y + height, x : x + width]
        distance = tf.reduce_sum((query - moved) ** 2, -1)
        own = tf.stack([tf.where(owner == i, distance, FAR) for i in range(num_objects)])
        return index + 1, tf.minimum(nearest, own)

    start = (tf.constant(0), tf.fill([num_objects, height, width], FAR))
    return tf.while_loop(lambda i, _: i < side**2, shift, start, parallel_iterations=1)[1]


def _window_patches(values: tf.Tensor, radius: int) -> tf.Tensor:
    """Returns the windows `[h, w, (2 radius + 1)^2]` of a map, zero outside the frame."""
    margin = [[0, 0], [radius, radius], [radius, radius], [0, 0]]
    padded = tf.pad(values[tf.newaxis, :, :, tf.newaxis], margin)
    size = [1, 2 * radius + 1, 2 * radius + 1, 1]
    return tf.image.extract_patches(padded, size, [1] * 4, [1] * 4, "VALID")[0]


def _pieces(query: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the queries in pieces, `[count, queries of a piece, channels]`, zero-padded."""
    size = -(-query.shape[0] // count)
    missing = count * size - query.shape[0]
    return tf.reshape(tf.pad(query, [[0, missing], [0, 0]]), [count, size, query.shape[1]])


def _map(function, pieces: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(function, pieces, fn_output_signature=tf.float32, parallel_iterations=1)

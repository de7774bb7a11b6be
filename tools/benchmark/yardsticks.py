"""Yardsticks for the fast paths: the same math, implemented plainly."""

from __future__ import annotations

import importlib.util

import tensorflow as tf

from feelvos_tf.models.global_matching import (
    NO_PIXEL_DISTANCE,
    join_queries,
    map_chunks,
    split_queries,
)
from feelvos_tf.models.local_matching import import_addons, windows

# Cases that need CorrelationCost are skipped if the add-ons are not installed.
HAS_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None
# The 2019 release splits the query pixels of a frame into this many pieces.
RELEASE_CHUNKS = 500


def bare_product(query: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Returns the product `[queries, pixels]`, computed at once."""
    return tf.matmul(query, reference, transpose_b=True)


def chunked_product(query: tf.Tensor, reference: tf.Tensor, chunk: int = 512) -> tf.Tensor:
    """Returns one entry of the product per chunk of queries: its FLOPs without its memory."""
    transposed = tf.transpose(reference)
    pieces, _ = split_queries(query, chunk)
    return map_chunks(lambda piece: tf.matmul(piece, transposed)[0, 0], pieces)


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
    norms = tf.reduce_sum(reference**2, -1)
    pieces, count = split_queries(query, -(-query.shape[0] // RELEASE_CHUNKS))

    def of_piece(piece: tf.Tensor) -> tf.Tensor:
        products = tf.matmul(piece, reference, transpose_b=True)
        return _nearest(piece, norms, products, labels, num_objects)

    return join_queries(map_chunks(of_piece, pieces), count)


def naive_global(
    query: tf.Tensor, reference: tf.Tensor, labels: tf.Tensor, num_objects: int
) -> tf.Tensor:
    """Returns the result of `release_global`, with all distances in memory at once."""
    norms = tf.reduce_sum(reference**2, -1)
    products = tf.matmul(query, reference, transpose_b=True)
    return _nearest(query, norms, products, labels, num_objects)


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
    layer = import_addons().layers.CorrelationCost(1, radius, 1, 1, radius, "channels_last")
    products = layer([query[tf.newaxis], previous[tf.newaxis]])[0] * query.shape[-1]
    norms = windows(tf.reduce_sum(previous**2, -1), radius, 0.0)
    return _nearest(query, norms, products, windows(labels, radius, -1), num_objects)


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
        own = tf.stack(
            [tf.where(owner == i, distance, NO_PIXEL_DISTANCE) for i in range(num_objects)]
        )
        return index + 1, tf.minimum(nearest, own)

    start = (tf.constant(0), tf.fill([num_objects, height, width], NO_PIXEL_DISTANCE))
    return tf.while_loop(lambda i, _: i < side**2, shift, start, parallel_iterations=1)[1]


def _nearest(
    query: tf.Tensor, norms: tf.Tensor, products: tf.Tensor, owners: tf.Tensor, num_objects: int
) -> tf.Tensor:
    """Returns `[objects, ...]` squared distances to the nearest of the other pixels.

    Args:
      query: `[..., channels]`.
      norms: `[..., pixels]` squared norms of the other pixels.
      products: `[..., pixels]` of every query with the other pixels.
      owners: `[..., pixels]` object indices.
      num_objects: background included.
    """
    distances = tf.reduce_sum(query**2, -1, keepdims=True) + norms - 2.0 * products
    masked = [tf.where(owners == i, distances, NO_PIXEL_DISTANCE) for i in range(num_objects)]
    return tf.stack([tf.reduce_min(own, -1) for own in masked])

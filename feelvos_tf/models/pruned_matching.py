"""Exact nearest neighbors without comparing what cannot win.

The reference pixels of an object lie in blocks of 32 whose pixels have similar embeddings
(`sort_into_blocks`, once per video). A query needs a block only if the block's nearest possible
pixel (distance to the center minus the radius, by the triangle inequality) is nearer than the best
pixel known so far (one sample pixel of each block). Only what is needed is compared, and the result
is the same.

On embeddings of a trained network a few percent of the pairs of query and block are left. Where too
many are, as with random embeddings, the caller compares everything instead.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

BLOCK = 32
# Above this squared distance the normalized one (paper equation 1) is 1 in float32 whatever it is.
SATURATED_DISTANCE = 17.4
# What rounding may do to a squared distance, relative to the squared norms it is the difference of.
_ROUNDING = 1e-5
# Products of some blocks run beside each other, since one alone is too small for all cores.
_BLOCKS_AT_ONCE = 4
# Queries that are bounded at a time: the distances to all blocks stay in the cache.
_QUERIES_PER_CHUNK = 2048


class Blocks(NamedTuple):
    """Reference pixels in blocks of one object each.

    Attributes:
      owners: int32 `[blocks]`, ascending, the object of each block.
      pixels: float32 `[blocks, BLOCK, channels]`; a block that is not full repeats a pixel.
      centers: float32 `[blocks, channels]`, their means.
      radii: float32 `[blocks]`, the distance from the center to the farthest pixel.
      samples: float32 `[blocks, channels]`, the pixel nearest to the center.
    """

    owners: tf.Tensor
    pixels: tf.Tensor
    centers: tf.Tensor
    radii: tf.Tensor
    samples: tf.Tensor


def sort_into_blocks(embeddings: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Returns the order of the pixels in which any 32 that follow each other are alike.

    A k-d tree: the pixels of an object are split at the median along the axis of their largest
    variance, and so on, at multiples of 32: no block but an object's last one is partly full.

    Args:
      embeddings: float32 `[pixels, channels]`, sorted by object.
      offsets: int32 `[objects + 1]`; object i owns the pixels `offsets[i]` to `offsets[i + 1] - 1`.

    Returns:
      int32 `[pixels]`, a permutation that keeps every object's pixels within its own range.
    """
    sizes = offsets[1:] - offsets[:-1]
    order = tf.range(tf.shape(embeddings)[0])
    nodes = tf.repeat(tf.range(tf.size(sizes)), sizes)
    vector = tf.TensorShape([None])
    order, _ = tf.while_loop(
        lambda order, nodes: _largest(nodes) > BLOCK,
        lambda order, nodes: _split_nodes(embeddings, order, nodes),
        (order, nodes),
        shape_invariants=(vector, vector),
    )
    return order


def _largest(nodes: tf.Tensor) -> tf.Tensor:
    """Returns the number of pixels in the largest node, 0 if there is none."""
    return tf.reduce_max(tf.concat([[0], tf.math.bincount(nodes)], 0))


def _split_nodes(
    embeddings: tf.Tensor, order: tf.Tensor, nodes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns order and nodes after one more level of the tree; nodes count up along the order."""
    pixels = tf.gather(embeddings, order)
    counts = tf.math.bincount(nodes)
    mean = tf.math.segment_mean(pixels, nodes)
    variance = tf.math.segment_mean(tf.square(pixels), nodes) - tf.square(mean)
    axes = tf.gather(tf.argmax(variance, -1, output_type=tf.int32), nodes)
    values = tf.gather(pixels, axes, batch_dims=1)
    by_value = tf.argsort(values)
    by_node = tf.gather(by_value, tf.argsort(tf.gather(nodes, by_value), stable=True))
    rank = tf.range(tf.size(order)) - tf.gather(tf.cumsum(counts, exclusive=True), nodes)
    left_size = (-(-counts // BLOCK) + 1) // 2 * BLOCK
    is_right = tf.cast(rank >= tf.gather(left_size, nodes), tf.int32)
    return tf.gather(order, by_node), tf.unique(2 * nodes + is_right).idx


def make_blocks(embeddings: tf.Tensor, offsets: tf.Tensor) -> Blocks:
    """Returns the blocks of at least one reference pixel, ordered by `sort_into_blocks`.

    Args:
      embeddings: float32 `[pixels, channels]`.
      offsets: int32 `[objects + 1]`.
    """
    first, end = offsets[:-1], offsets[1:]
    counts = -((first - end) // BLOCK)
    owners = tf.repeat(tf.range(tf.size(counts)), counts)
    position = tf.range(tf.size(owners)) - tf.gather(tf.cumsum(counts, exclusive=True), owners)
    rows = (tf.gather(first, owners) + position * BLOCK)[:, tf.newaxis] + tf.range(BLOCK)
    rows = tf.minimum(rows, tf.gather(end, owners)[:, tf.newaxis] - 1)
    pixels = tf.gather(embeddings, rows)
    centers = tf.reduce_mean(pixels, 1)
    distances = tf.reduce_sum(tf.square(pixels - centers[:, tf.newaxis]), -1)
    samples = tf.gather(pixels, tf.argmin(distances, -1), batch_dims=1)
    return Blocks(owners, pixels, centers, tf.sqrt(tf.reduce_max(distances, -1)), samples)


class Bounds(NamedTuple):
    """What is known of the nearest pixels before any block is looked at.

    Attributes:
      upper: float32 `[objects, queries]`, the squared distance of the nearest sample pixel; the
        largest float for an object without pixels.
      needed: bool `[blocks, queries]`, whether the block may hold a nearer pixel.
    """

    upper: tf.Tensor
    needed: tf.Tensor


def bound(queries: tf.Tensor, blocks: Blocks, num_objects: tf.Tensor) -> Bounds:
    """Returns which blocks each query must be compared with.

    A block is not needed if the normalized distance of all its pixels is 1 in any case.

    Args:
      queries: float32 `[queries, channels]`.
      blocks: from `make_blocks`.
      num_objects: int32 scalar.
    """
    count = tf.shape(queries)[0]
    chunks = -(-count // _QUERIES_PER_CHUNK)
    uppers, needs = (tf.TensorArray(dtype, chunks) for dtype in (tf.float32, tf.bool))
    queries = tf.pad(queries, [[0, chunks * _QUERIES_PER_CHUNK - count], [0, 0]])
    for chunk in tf.range(chunks):
        first = chunk * _QUERIES_PER_CHUNK
        own = queries[first : first + _QUERIES_PER_CHUNK]
        upper, needed = _bound_chunk(own, blocks, num_objects)
        uppers, needs = uppers.write(chunk, upper), needs.write(chunk, needed)
    return Bounds(_side_by_side(uppers.stack())[:, :count], _side_by_side(needs.stack())[:, :count])


def _bound_chunk(queries: tf.Tensor, blocks: Blocks, num_objects: tf.Tensor) -> Bounds:
    norms = tf.reduce_sum(tf.square(queries), -1)
    to_samples = _squared_distances(blocks.samples, queries, norms)
    upper = tf.math.unsorted_segment_min(to_samples, blocks.owners, num_objects)
    slack = _ROUNDING * (norms + tf.reduce_max(tf.reduce_sum(tf.square(blocks.centers), -1)))
    reach = tf.sqrt(tf.minimum(upper, SATURATED_DISTANCE) + slack)
    reach = tf.gather(reach, blocks.owners) + blocks.radii[:, tf.newaxis]
    to_centers = _squared_distances(blocks.centers, queries, norms)
    return Bounds(upper, to_centers - slack < tf.square(reach))


def _squared_distances(pixels: tf.Tensor, queries: tf.Tensor, norms: tf.Tensor) -> tf.Tensor:
    """Returns float32 `[pixels, queries]`, not below 0; `norms` are the queries' squared ones."""
    own = tf.reduce_sum(tf.square(pixels), -1, keepdims=True)
    product = tf.matmul(pixels, queries, transpose_b=True)
    return tf.maximum(own + norms - 2.0 * product, 0.0)


def _side_by_side(chunks: tf.Tensor) -> tf.Tensor:
    """Returns `[rows, chunks * columns]` from `[chunks, rows, columns]`."""
    rows = tf.shape(chunks)[1]
    return tf.reshape(tf.transpose(chunks, [1, 0, 2]), [rows, -1])


def largest_products(
    queries: tf.Tensor,
    blocks: tf.Tensor,
    owners: tf.Tensor,
    needed: tf.Tensor,
    num_objects: tf.Tensor,
) -> tf.Tensor:
    """Returns the largest product of each query with the needed pixels of each object.

    One matrix product per block, of just the queries that need it.

    Args:
      queries: float32 `[queries, channels]`.
      blocks: float32 `[blocks, BLOCK, channels]`.
      owners: int32 `[blocks]`, the object of each block.
      needed: bool `[blocks, queries]`.
      num_objects: int32 scalar.

    Returns:
      float32 `[objects, queries]`; the lowest float where nothing is needed.
    """
    pairs = tf.cast(tf.where(needed), tf.int32)
    counts = tf.math.count_nonzero(needed, 1, dtype=tf.int32)
    ends = tf.cumsum(counts)

    def of_block(block: tf.Tensor) -> tf.Tensor:
        own = pairs[ends[block] - counts[block] : ends[block], 1]
        products = tf.matmul(tf.gather(queries, own), blocks[block], transpose_b=True)
        return tf.reduce_max(products, -1)

    num_blocks = tf.size(counts)
    found = tf.TensorArray(tf.float32, num_blocks, infer_shape=False, element_shape=[None])
    _, found = tf.while_loop(
        lambda block, _: block < num_blocks,
        lambda block, found: (block + 1, found.write(block, of_block(block))),
        (0, found),
        parallel_iterations=_BLOCKS_AT_ONCE,
    )
    count = tf.shape(queries)[0]
    cells = tf.gather(owners, pairs[:, 0]) * count + pairs[:, 1]
    largest = tf.math.unsorted_segment_max(found.concat(), cells, num_objects * count)
    return tf.reshape(largest, [num_objects, count])

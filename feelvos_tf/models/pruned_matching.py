"""Exact nearest neighbors without comparing what cannot win.

The reference pixels of an object lie in blocks of 64 whose pixels have similar embeddings
(`sort_into_blocks`, once per video). A query needs a block only if the block's nearest possible
pixel (distance to the center minus the radius, by the triangle inequality) is nearer than the best
pixel of the block whose center is nearest. Only what is needed is compared, and the result is the
same.

On embeddings of a trained network a few percent of the pairs of query and block are left. Where too
many are, as with random embeddings, the caller compares everything instead.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import tensorflow as tf

BLOCK = 64
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
    """

    owners: tf.Tensor
    pixels: tf.Tensor
    centers: tf.Tensor
    radii: tf.Tensor


def sort_into_blocks(embeddings: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Returns the order of the pixels in which any 64 that follow each other are alike.

    A k-d tree: the pixels of an object are split at the median along the axis of their largest
    variance, and so on, at multiples of 64: no block but an object's last one is partly full.

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


def block_rows(offsets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns how reference pixels go into blocks of one object each.

    An object whose pixels do not fill its last block repeats one of them.

    Args:
      offsets: int32 `[objects + 1]`.

    Returns:
      owners: int32 `[blocks]`, ascending, the object of each block.
      rows: int32 `[blocks, BLOCK]`, the pixels in the blocks.
    """
    first, end = offsets[:-1], offsets[1:]
    counts = -((first - end) // BLOCK)
    owners = tf.repeat(tf.range(tf.size(counts)), counts)
    position = tf.range(tf.size(owners)) - tf.gather(tf.cumsum(counts, exclusive=True), owners)
    rows = (tf.gather(first, owners) + position * BLOCK)[:, tf.newaxis] + tf.range(BLOCK)
    rows = tf.minimum(rows, tf.gather(end, owners)[:, tf.newaxis] - 1)
    return owners, rows


def make_blocks(embeddings: tf.Tensor, offsets: tf.Tensor) -> Blocks:
    """Returns the blocks of at least one reference pixel, ordered by `sort_into_blocks`.

    Args:
      embeddings: float32 `[pixels, channels]`.
      offsets: int32 `[objects + 1]`.
    """
    owners, rows = block_rows(offsets)
    pixels = tf.gather(embeddings, rows)
    centers = tf.reduce_mean(pixels, 1)
    distances = tf.reduce_sum(tf.square(pixels - centers[:, tf.newaxis]), -1)
    return Blocks(owners, pixels, centers, tf.sqrt(tf.reduce_max(distances, -1)))


def nearest_blocks(queries: tf.Tensor, blocks: Blocks, num_objects: tf.Tensor) -> tf.Tensor:
    """Returns which block of each object has its center nearest to a query.

    Args:
      queries: float32 `[queries, channels]`.
      blocks: from `make_blocks`.
      num_objects: int32 scalar.

    Returns:
      bool `[blocks, queries]`, one or (at equal distances) some blocks of each object that has any.
    """

    def of_chunk(queries: tf.Tensor, norms: tf.Tensor) -> tf.Tensor:
        distances = _squared_distances(blocks.centers, queries, norms)
        nearest = tf.math.unsorted_segment_min(distances, blocks.owners, num_objects)
        return distances <= tf.gather(nearest, blocks.owners)

    return _in_chunks(of_chunk, queries)


def needed_blocks(queries: tf.Tensor, blocks: Blocks, known: tf.Tensor) -> tf.Tensor:
    """Returns which blocks may hold a pixel that is nearer to a query than what is known.

    A block is not needed if the normalized distance of all its pixels is 1 in any case.

    Args:
      queries: float32 `[queries, channels]`.
      blocks: from `make_blocks`.
      known: float32 `[objects, queries]`, the squared distance to some pixel of the object.

    Returns:
      bool `[blocks, queries]`.
    """
    largest_norm = tf.reduce_max(tf.reduce_sum(tf.square(blocks.centers), -1))

    def of_chunk(queries: tf.Tensor, norms: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        slack = _ROUNDING * (norms + largest_norm)
        reach = tf.sqrt(tf.clip_by_value(tf.transpose(known), 0.0, SATURATED_DISTANCE) + slack)
        reach = tf.gather(reach, blocks.owners) + blocks.radii[:, tf.newaxis]
        distances = _squared_distances(blocks.centers, queries, norms)
        return distances - slack < tf.square(reach)

    return _in_chunks(of_chunk, queries, tf.transpose(known))


def _in_chunks(
    of_chunk: Callable[..., tf.Tensor], queries: tf.Tensor, *more: tf.Tensor
) -> tf.Tensor:
    """Returns bool `[blocks, queries]` of `of_chunk(queries, squared norms, *more)`.

    Args:
      of_chunk: some queries -> bool `[blocks, some]`.
      queries: float32 `[queries, channels]`.
      *more: `[queries, ...]` each.
    """
    count = tf.shape(queries)[0]
    chunks = -(-count // _QUERIES_PER_CHUNK)
    arrays = [queries, tf.reduce_sum(tf.square(queries), -1), *more]
    found = tf.TensorArray(tf.bool, chunks, infer_shape=False, element_shape=[None, None])

    def body(chunk: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        own = slice(chunk * _QUERIES_PER_CHUNK, tf.minimum((chunk + 1) * _QUERIES_PER_CHUNK, count))
        return chunk + 1, found.write(chunk, tf.transpose(of_chunk(*(a[own] for a in arrays))))

    _, found = tf.while_loop(lambda chunk, _: chunk < chunks, body, (0, found))
    return tf.transpose(found.concat())


def _squared_distances(pixels: tf.Tensor, queries: tf.Tensor, norms: tf.Tensor) -> tf.Tensor:
    """Returns float32 `[pixels, queries]`, not below 0; `norms` are the queries' squared ones."""
    own = tf.reduce_sum(tf.square(pixels), -1, keepdims=True)
    product = tf.matmul(pixels, queries, transpose_b=True)
    return tf.maximum(own + norms - 2.0 * product, 0.0)


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

"""Reference pixels in blocks of 64 of one object each, so that matching is a few large products.

A block is what one maximum is taken over, and what can be left out as a whole
(pruned_matching.py). A k-d tree puts pixels of similar embeddings into a block.
"""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

BLOCK = 64
# Blocks whose product with some queries is taken at a time: it stays in the processor's cache.
_BLOCKS_PER_STEP = 32


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


def in_steps(blocks: tf.Tensor, fill: float = 0) -> tf.Tensor:
    """Returns `[steps, blocks per step, ...]` for `[blocks, ...]`, with `fill` at the end.

    There is a step even where there is no block.
    """
    total = tf.shape(blocks)[0]
    steps = tf.maximum(-(-total // _BLOCKS_PER_STEP), 1)
    per_step = tf.maximum(-(-total // steps), 1)
    missing = [[0, steps * per_step - total], *[[0, 0]] * (blocks.shape.rank - 1)]
    filled = tf.pad(blocks, missing, constant_values=fill)
    filled = tf.reshape(filled, tf.concat([[steps, per_step], tf.shape(blocks)[1:]], 0))
    return tf.ensure_shape(filled, [None, None, *blocks.shape[1:]])


def largest_of_steps(
    steps: tf.Tensor, queries: tf.Tensor, of_step: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Returns what `of_step` makes of the largest product of every block with every query.

    Max pooling takes the maxima because it uses all cores.

    Args:
      steps: float32 `[steps, blocks, BLOCK, channels]`, from `in_steps`.
      queries: float32 `[queries, channels]`, so few that a step's product stays in the cache.
      of_step: step, float32 `[blocks, queries]` -> float32 of any shape.

    Returns:
      float32 `[steps, ...]`.
    """
    columns = tf.transpose(queries)

    def products(step: tf.Tensor) -> tf.Tensor:
        pixels = tf.reshape(steps[step], [-1, steps.shape[-1]])
        similarity = tf.matmul(pixels, columns)[tf.newaxis, :, tf.newaxis]
        largest = tf.nn.max_pool2d(similarity, [BLOCK, 1], [BLOCK, 1], "VALID")
        return of_step(step, largest[0, :, 0])

    return tf.map_fn(
        products,
        tf.range(tf.shape(steps)[0]),
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )

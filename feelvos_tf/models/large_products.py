"""Squared distances of many pixels to many others as a few large matrix products.

The squared norm is an extra channel of the product, so that the nearest pixel has the largest
entry. Queries are processed in chunks, so that only some of the distances exist at a time.
Reference pixels are grouped into blocks of 64, each of a single object; a maximum is taken over
each block.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

BLOCK = 64
# Queries per chunk: their product with a step's blocks stays in the processor's cache.
IN_CACHE = 512
_BLOCKS_PER_STEP = 32


def fold_query(pixels: tf.Tensor) -> tf.Tensor:
    """Returns `[p, 1]` for pixels `[..., channels]`: see `fold_reference`."""
    return tf.concat([pixels, tf.ones_like(pixels[..., :1])], -1)


def fold_reference(pixels: tf.Tensor) -> tf.Tensor:
    """Returns `[2 q, -|q|^2]` for pixels `[..., channels]`.

    Its product with `[p, 1]` is the similarity 2 p.q - |q|^2, which is |p|^2 - |p - q|^2: largest
    for the nearest pixel, in a single matrix product.
    """
    norms = tf.reduce_sum(tf.square(pixels), -1, keepdims=True)
    return tf.concat([2.0 * pixels, -norms], -1)


def map_chunks(
    function: Callable, elements: tf.Tensor, dtype: tf.DType = tf.float32, at_once: int = 1
) -> tf.Tensor:
    """Returns the stacked results of `function` for the elements, some computed in parallel."""
    return tf.map_fn(function, elements, fn_output_signature=dtype, parallel_iterations=at_once)


def split_queries(pixels: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `[chunks, size or less, channels]`, zeros at the end, and the number of pixels."""
    count = tf.shape(pixels)[0]
    size = tf.clip_by_value(count, 1, size)
    chunks = tf.maximum((count + size - 1) // size, 1)
    padded = tf.pad(pixels, [[0, chunks * size - count], [0, 0]])
    return tf.reshape(padded, [chunks, size, pixels.shape[-1]]), count


def join_queries(chunks: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns `[objects, queries, ...]` from `[chunks, objects, size, ...]`."""
    joined = tf.experimental.numpy.swapaxes(chunks, 0, 1)
    shape = tf.shape(joined)
    flat = tf.concat([shape[:1], [shape[1] * shape[2]], shape[3:]], 0)
    return tf.reshape(joined, flat)[:, :count]


def block_rows(offsets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Assigns the reference pixels to blocks.

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
    """Returns `[steps, blocks per step, ...]` for `[blocks, ...]`, padded at the end with `fill`.

    There is at least one step, even without blocks.
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
    """Returns `of_step` of the largest product of every block with every query.

    Max pooling computes the maxima because it uses all cores.

    Args:
      steps: float32 `[steps, blocks, BLOCK, channels]`, from `in_steps`.
      queries: float32 `[queries, channels]`, few enough for a step's product to stay in the cache.
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

    return map_chunks(products, tf.range(tf.shape(steps)[0]))

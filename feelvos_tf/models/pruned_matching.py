"""Exact nearest neighbors without comparing what cannot win.

A pixel's projection consists of its coordinates on the 16 principal axes of the reference (of some
100 dimensions) and the length of what they leave out. The distance between two projections takes a
sixth of the arithmetic. It is never larger than that between the two pixels, and close to it: the
axes hold nine tenths of the variance of a trained network's embeddings. A query needs a block of 64
reference pixels (see large_products.py) only if the nearest projection in the block is nearer than
the best pixel of the block whose projection is nearest of all. Only needed blocks are compared, and
the result is the same.

For embeddings of a trained network a twentieth of the pairs of query and block is left. If too many
are left, as with random embeddings, the caller compares everything instead.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.models import large_products
from feelvos_tf.models.large_products import (
    block_rows,
    fold_query,
    fold_reference,
    in_steps,
    join_queries,
    largest_of_steps,
    map_chunks,
    split_queries,
)

# From this squared distance on, the normalized one (paper equation 1) is 1 in float32.
SATURATED_DISTANCE = 17.4
# Rounding error of a squared distance, relative to the squared norms that it is a difference of.
_ROUNDING = 1e-5
_AXES = 16
# Products of several blocks run in parallel, since one alone is too small for all cores.
_BLOCKS_AT_ONCE = 4


class Axes(NamedTuple):
    """The axes of projections: `mean` float32 `[channels]`, `directions` `[channels, axes]`."""

    mean: tf.Tensor
    directions: tf.Tensor


class Blocks(NamedTuple):
    """Reference pixels in blocks of one object each.

    Attributes:
      owners: int32 `[blocks]`, ascending, the object of each block.
      pixels: float32 `[blocks, BLOCK, channels]`; a block that is not full repeats a pixel.
      projections: float32 `[blocks, BLOCK, axes + 1]` of the pixels.
      axes: of the projections.
    """

    owners: tf.Tensor
    pixels: tf.Tensor
    projections: tf.Tensor
    axes: Axes


def principal_axes(embeddings: tf.Tensor) -> Axes:
    """Returns the axes of the largest variance of one or more pixels `[pixels, channels]`."""
    mean = tf.reduce_mean(embeddings, 0)
    centered = embeddings - mean
    _, directions = tf.linalg.eigh(tf.matmul(centered, centered, transpose_a=True))
    return Axes(mean, directions[:, max(embeddings.shape[-1] - _AXES, 0) :])


def projections(pixels: tf.Tensor, axes: Axes) -> tf.Tensor:
    """Returns float32 `[pixels, axes + 1]` of `[pixels, channels]`.

    The rest is computed as a vector: if it is short, a difference of squares would give its length
    with more than a rounding error.
    """
    centered = pixels - axes.mean
    on_axes = tf.matmul(centered, axes.directions)
    rest = centered - tf.matmul(on_axes, axes.directions, transpose_b=True)
    return tf.concat([on_axes, tf.norm(rest, axis=-1, keepdims=True)], -1)


def make_blocks(embeddings: tf.Tensor, offsets: tf.Tensor) -> Blocks:
    """Returns the blocks of at least one reference pixel, ordered by `sort_into_blocks`.

    Args:
      embeddings: float32 `[pixels, channels]`.
      offsets: int32 `[objects + 1]`.
    """
    owners, rows = block_rows(offsets)
    axes = principal_axes(embeddings)
    projected = projections(embeddings, axes)
    return Blocks(owners, tf.gather(embeddings, rows), tf.gather(projected, rows), axes)


def least_distances(queries: tf.Tensor, blocks: Blocks) -> tf.Tensor:
    """Returns a lower bound of the squared distance of each query to any pixel of each block.

    Args:
      queries: float32 `[queries, channels]`.
      blocks: from `make_blocks`.

    Returns:
      float32 `[blocks, queries]`, exact to rounding: see `needed_blocks`.
    """
    own = projections(queries, blocks.axes)
    chunks, count = split_queries(fold_query(own), large_products.IN_CACHE)
    steps = in_steps(fold_reference(blocks.projections))

    def of_chunk(chunk: tf.Tensor) -> tf.Tensor:
        largest = largest_of_steps(steps, chunk, lambda _, largest: largest)
        return tf.reshape(largest, [-1, tf.shape(chunk)[0]])

    similarity = join_queries(map_chunks(of_chunk, chunks, at_once=2), count)
    return tf.reduce_sum(tf.square(own), -1) - similarity[: tf.size(blocks.owners)]


def nearest_blocks(least: tf.Tensor, owners: tf.Tensor, num_objects: tf.Tensor) -> tf.Tensor:
    """Returns which block of each object holds the projection nearest to a query.

    Args:
      least: float32 `[blocks, queries]` of `least_distances`.
      owners: int32 `[blocks]`, the object of each block.
      num_objects: int32 scalar.

    Returns:
      bool `[blocks, queries]`, one or (at equal distances) some blocks of each object that has any.
    """
    nearest = tf.math.unsorted_segment_min(least, owners, num_objects)
    return least <= tf.gather(nearest, owners)


def needed_blocks(
    queries: tf.Tensor, blocks: Blocks, least: tf.Tensor, known: tf.Tensor
) -> tf.Tensor:
    """Returns which blocks may hold a pixel nearer to a query than the one already known.

    A block is not needed either if the normalized distance of all its pixels is 1.

    Args:
      queries: float32 `[queries, channels]`.
      blocks: from `make_blocks`.
      least: float32 `[blocks, queries]` of `least_distances`.
      known: float32 `[objects, queries]`, the squared distance to some pixel of the object.

    Returns:
      bool `[blocks, queries]`.
    """
    largest_norm = tf.reduce_max(tf.reduce_sum(tf.square(blocks.pixels), -1))
    slack = _ROUNDING * (tf.reduce_sum(tf.square(queries), -1) + largest_norm)
    return least < tf.gather(tf.minimum(known, SATURATED_DISTANCE) + slack, blocks.owners)


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

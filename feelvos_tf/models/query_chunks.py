"""Queries in chunks of equal size, so that distances exist for some of them at a time only."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

# Queries whose products with a step of reference blocks stay in the processor's cache.
IN_CACHE = 512


def map_chunks(
    function: Callable, elements: tf.Tensor, dtype: tf.DType = tf.float32, at_once: int = 1
) -> tf.Tensor:
    """Returns what `function` makes of each element, some of them at once, stacked."""
    return tf.map_fn(function, elements, fn_output_signature=dtype, parallel_iterations=at_once)


def split(pixels: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `[chunks, size or less, channels]`, zeros at the end, and the number of pixels."""
    count = tf.shape(pixels)[0]
    size = tf.clip_by_value(count, 1, size)
    chunks = tf.maximum((count + size - 1) // size, 1)
    padded = tf.pad(pixels, [[0, chunks * size - count], [0, 0]])
    return tf.reshape(padded, [chunks, size, pixels.shape[-1]]), count


def join(chunks: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns `[objects, queries, ...]` from `[chunks, objects, size, ...]`."""
    joined = tf.experimental.numpy.swapaxes(chunks, 0, 1)
    shape = tf.shape(joined)
    flat = tf.concat([shape[:1], [shape[1] * shape[2]], shape[3:]], 0)
    return tf.reshape(joined, flat)[:, :count]

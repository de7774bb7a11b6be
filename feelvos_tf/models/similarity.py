"""Squared distances of many pixels to many others as a single matrix product."""

from __future__ import annotations

import tensorflow as tf


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

"""Runs consecutive atrous layers as ordinary convolutions, with one space-to-batch around them."""

from __future__ import annotations

import tensorflow as tf


class SpaceToBatch:
    """Every n-th pixel of an image as an image of its own, n being the atrous rate.

    An atrous convolution lets a pixel meet only pixels of its own image, and is an ordinary
    convolution there. TensorFlow takes the image apart and joins it again around every atrous
    layer; for a run of layers of one atrous rate once is enough, since 1x1 convolutions,
    activations and sums do not care where a pixel stands. Values stay the same to the last bit.

    Where the atrous rate does not divide the size, pixels beyond the border fill up some images.
    They must be zero whenever a kernel looks at them: `blank` sees to it. Whatever averages over an
    image may not be part of a run.

    Args:
      x: float32 `[n, h, w, channels]`, of the size of all images to be taken apart.
      atrous_rate: more than 1.
    """

    def __init__(self, x: tf.Tensor, atrous_rate: int):
        height, width = tf.shape(x)[1], tf.shape(x)[2]
        self._block_shape = [atrous_rate, atrous_rate]
        self._missing = [[0, -height % atrous_rate], [0, -width % atrous_rate]]
        self._inside = self.split(tf.ones_like(x[..., :1]))

    def split(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[rate * rate * n, ceil(h / rate), ceil(w / rate), channels]`."""
        return tf.space_to_batch(x, self._block_shape, self._missing)

    def blank(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what `split` returned with zeros beyond the border."""
        return x * self._inside

    def join(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[n, h, w, channels]` from what `split` returned."""
        return tf.batch_to_space(x, self._block_shape, self._missing)

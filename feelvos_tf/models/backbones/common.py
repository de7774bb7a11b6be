"""What backbones share: building and running them, and the atrous schedule."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from feelvos_tf.models.layers import ConvNormActivation, maps

OutputStride = Literal[8, 16]
_ROOT_STRIDE = 2


def normalize_image(images: tf.Tensor) -> tf.Tensor:
    """Returns RGB 0..255 mapped to -1..1 (all backbones; 2019 release, feature_extractor)."""
    return (2.0 / 255.0) * tf.cast(images, tf.float32) - 1.0


class AtrousSchedule:
    """Turns strides into atrous rates once the output stride is reached."""

    def __init__(self, output_stride: OutputStride):
        self.output_stride = output_stride
        self.stride = _ROOT_STRIDE
        self.atrous_rate = 1

    def next(self, stride: int) -> tuple[int, int]:
        """Returns the stride and the atrous rate of a layer that asks for `stride`."""
        if self.stride < self.output_stride:
            self.stride *= stride
            return stride, self.atrous_rate
        atrous_rate = self.atrous_rate
        self.atrous_rate *= stride
        return 1, atrous_rate


class SpaceToBatch:
    """Splits images into smaller ones of every n-th pixel, n being the atrous rate.

    In these, an atrous convolution is an ordinary one. TensorFlow splits and joins around every
    atrous layer; for consecutive layers of the same atrous rate, once is enough, since 1x1
    convolutions, activations and sums act on each pixel alone. Values stay the same to the last
    bit.

    If the atrous rate does not divide the size, pixels beyond the border fill up some images. They
    must be zero whenever a kernel reads them, which `blank` ensures. Nothing that averages over an
    image may run between `split` and `join`.

    Args:
      x: float32 `[n, h, w, channels]`, with the size of all images to split.
      atrous_rate: more than 1.
    """

    def __init__(self, x: tf.Tensor, atrous_rate: int):
        height, width = tf.shape(x)[1], tf.shape(x)[2]
        self._block_shape = [atrous_rate, atrous_rate]
        self._missing = [[0, -height % atrous_rate], [0, -width % atrous_rate]]
        self._inside = self.split(tf.ones_like(x[..., :1]))

    def split(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[r * r * n, ceil(h / r), ceil(w / r), channels]` for the atrous rate r."""
        return tf.space_to_batch(x, self._block_shape, self._missing)

    def blank(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what `split` returned, with zeros beyond the border."""
        return x * self._inside

    def join(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[n, h, w, channels]` from what `split` returned."""
        return tf.batch_to_space(x, self._block_shape, self._missing)


class Backbone(tf.keras.layers.Layer):
    """A root of a few convolutions, followed by blocks; a subclass creates both.

    Attributes:
      root: convolutions with a batch norm.
      blocks: layers that `run_blocks` can call; their `filters` is the number of output channels.
      low_level_index: the block whose second output is the decoder's low-level feature.
      low_level_channels: of that feature.
      channels: of the deep features.
    """

    root: Sequence[ConvNormActivation]
    blocks: Sequence[tf.keras.layers.Layer]
    low_level_index: int
    low_level_channels: int
    channels: int

    def build(self, input_shape: tf.TensorShape) -> None:
        for layer in (*self.root, *self.blocks):
            layer.build(input_shape)
            input_shape = maps(layer.filters)
        self.built = True

    def after_root(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the input of the first block; a subclass may pool here."""
        return x

    def call(
        self, images: tf.Tensor, batch_statistics: bool = False, recompute: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns low-level features `[n, h/4, w/4, low_level_channels]` and deep features.

        The deep ones are `[n, h/stride, w/stride, channels]`.

        Args:
          images: `[n, h, w, 3]`, RGB 0..255.
          batch_statistics: normalize by the statistics of `images` and update the running averages.
          recompute: keep only the blocks' outputs for the gradient.
        """
        x = normalize_image(images)
        for layer in self.root:
            x = layer(x, batch_statistics=batch_statistics)
        x = self.after_root(x)
        return run_blocks(self.blocks, x, self.low_level_index, batch_statistics, recompute)


def run_blocks(
    blocks: Sequence[tf.keras.layers.Layer],
    x: tf.Tensor,
    low_level_index: int,
    batch_statistics: bool,
    recompute: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the second output of the block at `low_level_index` and the first of the last block.

    Consecutive blocks of one atrous rate above 1 share a space-to-batch, unless they use batch
    statistics. With `recompute`, only the blocks' outputs are kept for the gradient.
    """
    low_level = None
    by_atrous_rate = itertools.groupby(enumerate(blocks), lambda block: block[1].atrous_rate)
    for atrous_rate, run in by_atrous_rate:
        apart = None if atrous_rate == 1 or batch_statistics else SpaceToBatch(x, atrous_rate)
        x = apart.split(x) if apart else x
        for i, block in run:
            call = functools.partial(block, batch_statistics=batch_statistics, space_to_batch=apart)
            x, second = (tf.recompute_grad(call) if recompute else call)(x)
            if i == low_level_index:
                low_level = second
        x = apart.join(x) if apart else x
    return low_level, x


def atrous_convolution(
    layer: ConvNormActivation,
    x: tf.Tensor,
    batch_statistics: bool,
    space_to_batch: SpaceToBatch | None,
) -> tf.Tensor:
    """Returns `layer(x)`, also if `space_to_batch` has split `x`."""
    if space_to_batch is None:
        return layer(x, batch_statistics=batch_statistics)
    return layer(space_to_batch.blank(x), atrous_rate=1)

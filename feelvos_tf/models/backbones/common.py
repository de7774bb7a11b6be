"""What backbones share: building and running them, and the atrous schedule."""

from __future__ import annotations

import functools
import itertools
from typing import Literal

import tensorflow as tf

from feelvos_tf.models.layers import SpaceToBatch, build_in_turn

OutputStride = Literal[8, 16]


def normalize_image(images: tf.Tensor) -> tf.Tensor:
    """Returns RGB 0..255 mapped to -1..1 (all backbones; 2019 release, feature_extractor)."""
    return (2.0 / 255.0) * tf.cast(images, tf.float32) - 1.0


class AtrousSchedule:
    """Turns strides into atrous rates once the output stride is reached."""

    def __init__(self, output_stride: OutputStride):
        self.output_stride = output_stride
        self.stride = 2  # Of the root.
        self.atrous_rate = 1

    def next(self, stride: int) -> tuple[int, int]:
        """Returns the stride and the atrous rate of a layer that asks for `stride`."""
        if self.stride < self.output_stride:
            self.stride *= stride
            return stride, self.atrous_rate
        atrous_rate = self.atrous_rate
        self.atrous_rate *= stride
        return 1, atrous_rate


class Backbone(tf.keras.layers.Layer):
    """A root of a few convolutions, followed by blocks; a subclass creates both.

    Attributes:
      root: convolutions with a batch norm.
      blocks: layers that return their output and what the decoder could use of them; their
        `filters` is the number of output channels.
      low_level_index: the block whose second output is the decoder's low-level feature.
      low_level_channels: of that feature: 256; MobileNetV2's 144, times the depth multiplier.
      channels: of the deep features: 2048; MobileNetV2's 320, times the depth multiplier.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_turn([*self.root, *self.blocks], input_shape[-1])
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
        x, low_level = self.after_root(x), None
        by_atrous_rate = itertools.groupby(enumerate(self.blocks), lambda pair: pair[1].atrous_rate)
        for atrous_rate, run in by_atrous_rate:
            # Consecutive blocks of one atrous rate above 1 share a space-to-batch.
            apart = None if atrous_rate == 1 or batch_statistics else SpaceToBatch(x, atrous_rate)
            x = apart.split(x) if apart else x
            for i, block in run:
                call = functools.partial(
                    block, batch_statistics=batch_statistics, space_to_batch=apart
                )
                x, second = (tf.recompute_grad(call) if recompute else call)(x)
                if i == self.low_level_index:
                    low_level = second
            x = apart.join(x) if apart else x
        return low_level, x

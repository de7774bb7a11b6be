"""What backbones share: input normalization, the atrous schedule, and how their blocks are run."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.layers.convolution import DepthwiseConvolution
from feelvos_tf.models.layers.space_to_batch import SpaceToBatch

OUTPUT_STRIDES = (8, 16)
_ROOT_STRIDE = 2


def normalize_image(images: tf.Tensor) -> tf.Tensor:
    """Returns RGB 0..255 mapped to -1..1 (both backbones; 2019 release, feature_extractor)."""
    return (2.0 / 255.0) * tf.cast(images, tf.float32) - 1.0


class AtrousSchedule:
    """Turns strides into atrous rates once the output stride is reached."""

    def __init__(self, output_stride: int):
        if output_stride not in OUTPUT_STRIDES:
            raise InputError(
                f"output_stride of the backbone: expected one of {OUTPUT_STRIDES}, found "
                f"{output_stride}"
            )
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


def run_blocks(
    blocks: Sequence[tf.keras.layers.Layer],
    x: tf.Tensor,
    low_level_index: int,
    batch_statistics: bool,
    recompute: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the second output of the block at `low_level_index` and the first of the last block.

    Blocks of one atrous rate above 1 share a space-to-batch, unless statistics are taken of what
    they compute. `recompute` keeps nothing but the blocks' outputs for the gradient.
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


def atrous_depthwise(
    layer: DepthwiseConvolution,
    x: tf.Tensor,
    batch_statistics: bool,
    space_to_batch: SpaceToBatch | None,
) -> tf.Tensor:
    """Returns `layer(x)`, also where `space_to_batch` has taken `x` apart."""
    if space_to_batch is None:
        return layer(x, batch_statistics=batch_statistics)
    return layer(space_to_batch.blank(x), atrous_rate=1)

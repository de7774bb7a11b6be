"""What backbones share: strides turned into atrous rates, and blocks run one after the other."""

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
    """Turns strides into rates once the output stride is reached (atrous convolution)."""

    def __init__(self, output_stride: int):
        if output_stride not in OUTPUT_STRIDES:
            raise InputError(
                f"output_stride of the backbone: expected one of {OUTPUT_STRIDES}, found "
                f"{output_stride}"
            )
        self.output_stride = output_stride
        self.stride = _ROOT_STRIDE
        self.rate = 1

    def next(self, stride: int) -> tuple[int, int]:
        """Returns the stride and the rate of a layer that asks for `stride`."""
        if self.stride < self.output_stride:
            self.stride *= stride
            return stride, self.rate
        rate = self.rate
        self.rate *= stride
        return 1, rate


def run_blocks(
    blocks: Sequence[tf.keras.layers.Layer],
    x: tf.Tensor,
    low_level_index: int,
    batch_statistics: bool,
    recompute: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the second output of the block at `low_level_index` and the first of the last block.

    Blocks of one rate above 1 run on phases, unless statistics are taken of what they compute.
    `recompute` keeps nothing but the blocks' outputs for the gradient.
    """
    low_level = None
    for rate, run in itertools.groupby(enumerate(blocks), lambda block: block[1].rate):
        phases = None if rate == 1 or batch_statistics else SpaceToBatch(x, rate)
        x = phases.split(x) if phases else x
        for i, block in run:
            call = functools.partial(block, batch_statistics=batch_statistics, phases=phases)
            x, second = (tf.recompute_grad(call) if recompute else call)(x)
            if i == low_level_index:
                low_level = second
        x = phases.join(x) if phases else x
    return low_level, x


def atrous_depthwise(
    layer: DepthwiseConvolution, x: tf.Tensor, batch_statistics: bool, phases: SpaceToBatch | None
) -> tf.Tensor:
    """Returns `layer(x)`, also where `x` is split into the phases of the layer's rate."""
    if phases is None:
        return layer(x, batch_statistics=batch_statistics)
    return layer(phases.blank(x), rate=1)

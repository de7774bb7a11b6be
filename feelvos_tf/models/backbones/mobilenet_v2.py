"""The MobileNetV2 backbone: inverted residual blocks."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.models.backbones.common import AtrousSchedule, Backbone, OutputStride
from feelvos_tf.models.layers import (
    BatchNorm,
    Convolution,
    DepthwiseConvolution,
    SpaceToBatch,
    build_in_turn,
    layer_name,
    relu6,
)


@settings.configurable
def mobilenet_v2_batch_norm(
    epsilon: settings.NonNegative = 1e-3, decay: settings.Decay = 0.997
) -> BatchNorm:
    """Returns a batch norm for the backbone, by default the release's: see `BatchNorm`."""
    return BatchNorm(epsilon, decay)


def _round_channels(channels: float, divisor: int = 8) -> int:
    """Returns `channels`, at least 8, as a multiple of `divisor`, never more than 10% below."""
    rounded = max(8, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class _InvertedResidual(tf.keras.layers.Layer):
    """1x1 expansion (ReLU6), 3x3 depthwise (ReLU6), linear 1x1 projection, residual if it fits."""

    def __init__(
        self, scope: str, channels: int, filters: int, expansion: int, stride: int, atrous_rate: int
    ):
        super().__init__(name=layer_name(scope))
        self.scope = scope
        self.filters, self.atrous_rate = filters, atrous_rate
        self.expanded_channels = channels
        self.expand = None
        if expansion > 1:
            self.expanded_channels = _round_channels(channels * expansion)
            self.expand = Convolution(
                f"{scope}/expand",
                self.expanded_channels,
                norm=mobilenet_v2_batch_norm(),
                activation=relu6,
            )
        self.depthwise = DepthwiseConvolution(
            f"{scope}/depthwise",
            3,
            stride=stride,
            atrous_rate=atrous_rate,
            norm=mobilenet_v2_batch_norm(),
            activation=relu6,
        )
        self.project = Convolution(f"{scope}/project", filters, norm=mobilenet_v2_batch_norm())
        self.has_shortcut = stride == 1 and channels == filters

    def build(self, input_shape: tf.TensorShape) -> None:
        expand = [] if self.expand is None else [self.expand]
        build_in_turn([*expand, self.depthwise, self.project], input_shape[-1])
        self.built = True

    def call(
        self, x: tf.Tensor, batch_statistics: bool, space_to_batch: SpaceToBatch | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the block's output and its depthwise output."""
        expanded = x
        if self.expand is not None:
            expanded = self.expand(x, batch_statistics=batch_statistics)
        depthwise = self.depthwise(
            expanded, batch_statistics=batch_statistics, space_to_batch=space_to_batch
        )
        y = self.project(depthwise, batch_statistics=batch_statistics)
        return (x + y if self.has_shortcut else y), depthwise


@settings.register
class MobileNetV2(Backbone):
    """MobileNetV2 without its last 1x1 convolution (2019 release, slim mobilenet_v2).

    Args:
      depth_multiplier: factor on the channel counts between blocks (at least 8 remain).
      output_stride: input size divided by the size of the deep features, 8 or 16.

    Raises:
      InputError: a setting is out of range.
    """

    # (expansion, filters, repeats, stride of the first)
    _BLOCKS = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    # The decoder's low-level feature is this block's depthwise output: "layer_4" of the release.
    low_level_index = 2

    def __init__(self, depth_multiplier: float = 1.0, output_stride: OutputStride = 8):
        if depth_multiplier <= 0:
            raise InputError(
                f"MobileNetV2.depth_multiplier: expected more than 0, found {depth_multiplier}"
            )
        super().__init__(name="MobilenetV2")
        schedule = AtrousSchedule(output_stride)
        # DeepLab's checkpoints of other widths round the product to the nearest integer.
        divisor = 8 if depth_multiplier == 1.0 else 1
        channels = _round_channels(32 * depth_multiplier, divisor)
        self.root = [
            Convolution(
                f"{self.name}/Conv",
                channels,
                3,
                stride=2,
                norm=mobilenet_v2_batch_norm(),
                activation=relu6,
            )
        ]
        blocks = []
        for expansion, filters, repeats, first_stride in self._BLOCKS:
            filters = _round_channels(filters * depth_multiplier, divisor)
            for i in range(repeats):
                stride, atrous_rate = schedule.next(first_stride if i == 0 else 1)
                scope = f"{self.name}/expanded_conv" + (f"_{len(blocks)}" if blocks else "")
                blocks.append(
                    _InvertedResidual(scope, channels, filters, expansion, stride, atrous_rate)
                )
                channels = filters
        self.blocks = blocks
        self.low_level_channels = blocks[self.low_level_index].expanded_channels
        self.channels = channels

"""MobileNetV2: inverted residual blocks."""

from __future__ import annotations

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.backbones.common import AtrousSchedule, atrous_depthwise, run_blocks
from feelvos_tf.models.layers.batch_norm import BatchNorm
from feelvos_tf.models.layers.convolution import Convolution, DepthwiseConvolution
from feelvos_tf.models.layers.space_to_batch import SpaceToBatch


def _mobilenet_norm() -> BatchNorm:
    return BatchNorm(epsilon=1e-3, decay=0.997)


def _round_channels(channels: float, divisor: int = 8) -> int:
    """Returns `channels`, at least 8, as a multiple of `divisor`, never more than 10% below."""
    rounded = max(8, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class _InvertedResidual(tf.keras.layers.Layer):
    """1x1 expansion (ReLU6), 3x3 depthwise (ReLU6), linear 1x1 projection, residual if it fits."""

    def __init__(self, name: str, filters: int, expansion: int, stride: int, rate: int):
        super().__init__(name=name)
        self.filters, self.expansion, self.stride, self.rate = filters, expansion, stride, rate

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = input_shape[-1]
        self.expand = None
        if self.expansion > 1:
            self.expand = Convolution(
                f"{self.name}/expand",
                _round_channels(channels * self.expansion),
                norm=_mobilenet_norm(),
                activation=tf.nn.relu6,
            )
        self.depthwise = DepthwiseConvolution(
            f"{self.name}/depthwise",
            3,
            stride=self.stride,
            rate=self.rate,
            norm=_mobilenet_norm(),
            activation=tf.nn.relu6,
        )
        self.project = Convolution(f"{self.name}/project", self.filters, norm=_mobilenet_norm())
        self.residual = self.stride == 1 and channels == self.filters
        self.built = True

    def call(
        self, x: tf.Tensor, batch_statistics: bool, phases: SpaceToBatch | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the block's output and its depthwise output."""
        expanded = x
        if self.expand is not None:
            expanded = self.expand(x, batch_statistics=batch_statistics)
        depthwise = atrous_depthwise(self.depthwise, expanded, batch_statistics, phases)
        y = self.project(depthwise, batch_statistics=batch_statistics)
        return (x + y if self.residual else y), depthwise


@gin.register
class MobileNetV2(tf.keras.layers.Layer):
    """MobileNetV2 without its last 1x1 convolution (2019 release, slim mobilenet_v2).

    Args:
      depth_multiplier: factor on the channel counts between blocks (at least 8 remain).
      output_stride: input size divided by the size of the deep features, 8 or 16.

    Raises:
      InputError: there is no such backbone.
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
    _LOW_LEVEL_INDEX = 2

    def __init__(self, depth_multiplier: float = 1.0, output_stride: int = 8):
        if depth_multiplier <= 0:
            raise InputError(
                f"MobileNetV2.depth_multiplier: expected more than 0, found {depth_multiplier}"
            )
        super().__init__(name="MobilenetV2")
        dilation = AtrousSchedule(output_stride)
        # DeepLab's checkpoints of other widths keep the product as it is, to the next integer.
        divisor = 8 if depth_multiplier == 1.0 else 1
        self.root = Convolution(
            f"{self.name}/Conv",
            _round_channels(32 * depth_multiplier, divisor),
            3,
            stride=2,
            norm=_mobilenet_norm(),
            activation=tf.nn.relu6,
        )
        self.blocks = []
        for expansion, filters, repeats, first_stride in self._BLOCKS:
            for i in range(repeats):
                stride, rate = dilation.next(first_stride if i == 0 else 1)
                number = f"_{len(self.blocks)}" if self.blocks else ""
                self.blocks.append(
                    _InvertedResidual(
                        f"{self.name}/expanded_conv{number}",
                        _round_channels(filters * depth_multiplier, divisor),
                        expansion,
                        stride,
                        rate,
                    )
                )

    def call(
        self, x: tf.Tensor, batch_statistics: bool = False, recompute: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `(low-level [n, h/4, w/4, 144], deep [n, h/stride, w/stride, 320])`."""
        x = self.root(x, batch_statistics=batch_statistics)
        return run_blocks(self.blocks, x, self._LOW_LEVEL_INDEX, batch_statistics, recompute)

"""Backbones: an image in, low-level features at stride 4 and deep features at the output stride."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import gin
import tensorflow as tf

from feelvos_tf.errors import InputError
from feelvos_tf.models.layers import (
    BatchNorm,
    Convolution,
    DepthwiseConvolution,
)
from feelvos_tf.models.phases import Phases

OUTPUT_STRIDES = (8, 16)
_ROOT_STRIDE = 2


def normalise(images: tf.Tensor) -> tf.Tensor:
    """Returns RGB 0..255 mapped to -1..1 (both backbones; 2019 release, feature_extractor)."""
    return (2.0 / 255.0) * tf.cast(images, tf.float32) - 1.0


class _Dilation:
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


def _run_blocks(
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
        phases = None if rate == 1 or batch_statistics else Phases(x, rate)
        x = phases.split(x) if phases else x
        for i, block in run:
            call = functools.partial(block, batch_statistics=batch_statistics, phases=phases)
            x, second = (tf.recompute_grad(call) if recompute else call)(x)
            if i == low_level_index:
                low_level = second
        x = phases.join(x) if phases else x
    return low_level, x


def _depthwise(
    layer: DepthwiseConvolution, x: tf.Tensor, batch_statistics: bool, phases: Phases | None
) -> tf.Tensor:
    """Returns `layer(x)`, also where `x` is split into the phases of the layer's rate."""
    if phases is None:
        return layer(x, batch_statistics=batch_statistics)
    return layer(phases.blank(x), rate=1)


@tf.custom_gradient
def _relu_of_sum(x: tf.Tensor) -> tf.Tensor:
    """Returns the ReLU of `x`, a sum that is needed without ReLU, too.

    TensorFlow's remapper takes a ReLU that follows such a sum into the convolution before it, finds
    that the sum is still needed, and gives up fusing anything in the whole graph. A maximum it
    leaves alone.
    """
    y = tf.maximum(x, 0.0)
    return y, lambda dy: tf.raw_ops.ReluGrad(gradients=dy, features=y)


def _xception_norm() -> BatchNorm:
    return BatchNorm(epsilon=1e-3, decay=0.9997)


class _XceptionModule(tf.keras.layers.Layer):
    """Three separable convolutions and a shortcut.

    Reproduction traps: the input ReLU stands before the depthwise convolution and the shortcut
    sees the input without it; `rectified_inside` (exit flow block 2) has its ReLUs after each batch
    norm instead; nothing follows the residual sum. The stride is in the third convolution.

    Source: 2019 release, deeplab/core/xception.
    """

    def __init__(
        self,
        name: str,
        depths: tuple[int, int, int],
        skip: str,
        stride: int,
        rate: int,
        rectified_inside: bool = False,
    ):
        super().__init__(name=name)
        self.skip, self.rate = skip, rate
        self.rectified_inside = rectified_inside
        activation = tf.nn.relu if rectified_inside else None
        self.depthwise, self.pointwise = [], []
        for i, depth in enumerate(depths):
            scope = f"{name}/separable_conv{i + 1}"
            self.depthwise.append(
                DepthwiseConvolution(
                    f"{scope}_depthwise",
                    3,
                    stride=stride if i == 2 else 1,
                    rate=rate,
                    norm=_xception_norm(),
                    activation=activation,
                    fixed_padding=True,
                )
            )
            self.pointwise.append(
                Convolution(
                    f"{scope}_pointwise", depth, norm=_xception_norm(), activation=activation
                )
            )
        if skip == "conv":
            self.shortcut = Convolution(
                f"{name}/shortcut", depths[-1], stride=stride, norm=_xception_norm()
            )

    def call(
        self, x: tf.Tensor, batch_statistics: bool, phases: Phases | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the module's output and that of its second separable convolution."""
        residual, second = x, None
        for i, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise)):
            if not self.rectified_inside:
                residual = tf.nn.relu(residual) if i else _relu_of_sum(residual)
            residual = _depthwise(depthwise, residual, batch_statistics, phases)
            residual = pointwise(residual, batch_statistics=batch_statistics)
            if i == 1:
                second = residual
        if self.skip == "conv":
            residual += self.shortcut(x, batch_statistics=batch_statistics)
        elif self.skip == "sum":
            residual += x
        return residual, second


@gin.register
class Xception(tf.keras.layers.Layer):
    """Aligned Xception with 41, 65 or 71 layers (paper section 3; 2019 release, core/xception).

    Args:
      layers: 41, 65 or 71.
      output_stride: input size divided by the size of the deep features, 8 or 16.

    Raises:
      InputError: there is no such backbone.
    """

    _ENTRY = {
        41: ((128, 2), (256, 2), (728, 2)),
        65: ((128, 2), (256, 2), (728, 2)),
        71: ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)),
    }
    _MIDDLE_UNITS = {41: 8, 65: 16, 71: 16}
    # Entry-flow block whose second separable convolution is the decoder's low-level feature.
    _LOW_LEVEL_BLOCK = {41: 2, 65: 2, 71: 3}

    def __init__(self, layers: int = 65, output_stride: int = 8):
        if layers not in self._ENTRY:
            raise InputError(
                f"Xception.layers: expected one of {tuple(self._ENTRY)}, found {layers}"
            )
        super().__init__(name=f"xception_{layers}")
        scope, dilation = self.name, _Dilation(output_stride)
        self.root = [
            Convolution(
                f"{scope}/entry_flow/conv1_1",
                32,
                3,
                stride=2,
                norm=_xception_norm(),
                activation=tf.nn.relu,
                fixed_padding=True,
            ),
            Convolution(
                f"{scope}/entry_flow/conv1_2", 64, 3, norm=_xception_norm(), activation=tf.nn.relu
            ),
        ]
        self.low_level_index = self._LOW_LEVEL_BLOCK[layers] - 1
        self.blocks = []
        for block, (depth, stride) in enumerate(self._ENTRY[layers], start=1):
            self._add(f"entry_flow/block{block}/unit_1", (depth,) * 3, "conv", stride, dilation)
        for unit in range(1, self._MIDDLE_UNITS[layers] + 1):
            self._add(f"middle_flow/block1/unit_{unit}", (728,) * 3, "sum", 1, dilation)
        self._add("exit_flow/block1/unit_1", (728, 1024, 1024), "conv", 2, dilation)
        self._add("exit_flow/block2/unit_1", (1536, 1536, 2048), "none", 1, dilation, True)

    def _add(self, unit, depths, skip, stride, dilation, rectified_inside=False) -> None:
        stride, rate = dilation.next(stride)
        name = f"{self.name}/{unit}/xception_module"
        self.blocks.append(_XceptionModule(name, depths, skip, stride, rate, rectified_inside))

    def call(
        self, x: tf.Tensor, batch_statistics: bool = False, recompute: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `(low-level [n, h/4, w/4, 256], deep [n, h/stride, w/stride, 2048])`.

        The low-level feature is the linear batch-norm output, without a ReLU.
        """
        for layer in self.root:
            x = layer(x, batch_statistics=batch_statistics)
        return _run_blocks(self.blocks, x, self.low_level_index, batch_statistics, recompute)


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
        self, x: tf.Tensor, batch_statistics: bool, phases: Phases | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the block's output and its depthwise output."""
        expanded = x
        if self.expand is not None:
            expanded = self.expand(x, batch_statistics=batch_statistics)
        depthwise = _depthwise(self.depthwise, expanded, batch_statistics, phases)
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
        dilation = _Dilation(output_stride)
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
        return _run_blocks(self.blocks, x, self._LOW_LEVEL_INDEX, batch_statistics, recompute)

"""The aligned Xception backbone with 41, 65 or 71 layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.models.backbones.common import AtrousSchedule, Backbone, OutputStride
from feelvos_tf.models.layers import (
    BatchNorm,
    Convolution,
    DepthwiseConvolution,
    SpaceToBatch,
    build_in_turn,
    layer_name,
)


@tf.custom_gradient
def _relu_of_sum(x: tf.Tensor) -> tf.Tensor:
    """Returns the ReLU of `x`, a sum that is also needed without ReLU.

    TensorFlow's remapper tries to fuse a ReLU after such a sum into the convolution before it,
    finds that the sum is still needed, and stops fusing in the whole graph. It leaves a maximum
    alone.
    """
    y = tf.maximum(x, 0.0)
    return y, lambda dy: tf.raw_ops.ReluGrad(gradients=dy, features=y)


@settings.configurable
def xception_batch_norm(
    epsilon: settings.NonNegative = 1e-3, decay: settings.Decay = 0.9997
) -> BatchNorm:
    """Returns a batch norm for the backbone, by default the release's: see `BatchNorm`."""
    return BatchNorm(epsilon, decay)


class _XceptionModule(tf.keras.layers.Layer):
    """Three separable convolutions and a shortcut.

    Reproduction traps: the input ReLU comes before the depthwise convolution, and the shortcut
    skips it; `rectified_inside` (exit flow block 2) has its ReLUs after each batch norm instead;
    nothing follows the residual sum. The stride is in the third convolution.

    Source: 2019 release, deeplab/core/xception.
    """

    def __init__(
        self,
        scope: str,
        depths: tuple[int, int, int],
        skip: str,
        stride: int,
        atrous_rate: int,
        rectified_inside: bool = False,
    ):
        super().__init__(name=layer_name(scope))
        self.scope = scope
        self.depths, self.skip, self.atrous_rate = depths, skip, atrous_rate
        self.filters = depths[-1]
        self.rectified_inside = rectified_inside
        activation = tf.nn.relu if rectified_inside else None
        depthwise, pointwise = [], []
        for i, depth in enumerate(depths):
            convolution = f"{scope}/separable_conv{i + 1}"
            depthwise.append(
                DepthwiseConvolution(
                    f"{convolution}_depthwise",
                    3,
                    stride=stride if i == 2 else 1,
                    atrous_rate=atrous_rate,
                    norm=xception_batch_norm(),
                    activation=activation,
                    fixed_padding=True,
                )
            )
            pointwise.append(
                Convolution(
                    f"{convolution}_pointwise",
                    depth,
                    norm=xception_batch_norm(),
                    activation=activation,
                )
            )
        self.depthwise, self.pointwise = depthwise, pointwise
        if skip == "conv":
            self.shortcut = Convolution(
                f"{scope}/shortcut", depths[-1], stride=stride, norm=xception_batch_norm()
            )

    def build(self, input_shape: tf.TensorShape) -> None:
        if self.skip == "conv":
            self.shortcut.build(input_shape)
        pairs = zip(self.depthwise, self.pointwise)
        build_in_turn([layer for pair in pairs for layer in pair], input_shape[-1])
        self.built = True

    def call(
        self, x: tf.Tensor, batch_statistics: bool, space_to_batch: SpaceToBatch | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the module's output and that of its second separable convolution."""
        residual, second = x, None
        for i, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise)):
            if not self.rectified_inside:
                residual = tf.nn.relu(residual) if i else _relu_of_sum(residual)
            residual = depthwise(
                residual, batch_statistics=batch_statistics, space_to_batch=space_to_batch
            )
            residual = pointwise(residual, batch_statistics=batch_statistics)
            if i == 1:
                second = residual
        if self.skip == "conv":
            residual += self.shortcut(x, batch_statistics=batch_statistics)
        elif self.skip == "sum":
            residual += x
        return residual, second


@settings.register
class Xception(Backbone):
    """Aligned Xception with 41, 65 or 71 layers (paper section 3; 2019 release, core/xception).

    Args:
      layers: 41, 65 or 71.
      output_stride: input size divided by the size of the deep features, 8 or 16.

    Raises:
      InputError: a setting has another value.
    """

    _ENTRY = {
        41: ((128, 2), (256, 2), (728, 2)),
        65: ((128, 2), (256, 2), (728, 2)),
        71: ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)),
    }
    _MIDDLE_UNITS = {41: 8, 65: 16, 71: 16}
    # Entry-flow block whose second separable convolution is the decoder's low-level feature.
    _LOW_LEVEL_BLOCK = {41: 2, 65: 2, 71: 3}

    def __init__(self, layers: Literal[41, 65, 71] = 65, output_stride: OutputStride = 8):
        super().__init__(name=f"xception_{layers}")
        self.root = [self._root_layer("1", 32, 2), self._root_layer("2", 64, 1)]
        self.blocks = list(self._modules(layers, AtrousSchedule(output_stride)))
        self.low_level_index = self._LOW_LEVEL_BLOCK[layers] - 1
        self.low_level_channels = self.blocks[self.low_level_index].depths[1]
        self.channels = self.blocks[-1].filters

    def _root_layer(self, number: str, filters: int, stride: int) -> Convolution:
        return Convolution(
            f"{self.name}/entry_flow/conv1_{number}",
            filters,
            3,
            stride=stride,
            norm=xception_batch_norm(),
            activation=tf.nn.relu,
            fixed_padding=True,
        )

    def _modules(self, layers: int, schedule: AtrousSchedule) -> Iterator[_XceptionModule]:
        """Yields the modules from first to last."""

        def module(scope, depths, skip, stride=1, rectified_inside=False) -> _XceptionModule:
            scope = f"{self.name}/{scope}/xception_module"
            return _XceptionModule(scope, depths, skip, *schedule.next(stride), rectified_inside)

        for block, (depth, stride) in enumerate(self._ENTRY[layers], start=1):
            yield module(f"entry_flow/block{block}/unit_1", (depth,) * 3, "conv", stride)
        for unit in range(1, self._MIDDLE_UNITS[layers] + 1):
            yield module(f"middle_flow/block1/unit_{unit}", (728,) * 3, "sum")
        yield module("exit_flow/block1/unit_1", (728, 1024, 1024), "conv", 2)
        yield module("exit_flow/block2/unit_1", (1536, 1536, 2048), "none", rectified_inside=True)

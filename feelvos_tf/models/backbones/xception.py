"""Aligned Xception with 41, 65 or 71 layers."""

from __future__ import annotations

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.backbones.common import AtrousSchedule, atrous_depthwise, run_blocks
from feelvos_tf.models.layers.batch_norm import BatchNorm
from feelvos_tf.models.layers.convolution import Convolution, DepthwiseConvolution
from feelvos_tf.models.layers.space_to_batch import SpaceToBatch


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
        self, x: tf.Tensor, batch_statistics: bool, phases: SpaceToBatch | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the module's output and that of its second separable convolution."""
        residual, second = x, None
        for i, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise)):
            if not self.rectified_inside:
                residual = tf.nn.relu(residual) if i else _relu_of_sum(residual)
            residual = atrous_depthwise(depthwise, residual, batch_statistics, phases)
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
        scope, dilation = self.name, AtrousSchedule(output_stride)
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
        return run_blocks(self.blocks, x, self.low_level_index, batch_statistics, recompute)

"""DeepLab's ResNet-50 backbone: three root layers, then blocks whose last unit has the stride."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.models.backbones.common import AtrousSchedule, Backbone, OutputStride
from feelvos_tf.models.layers import BatchNorm, Convolution, SpaceToBatch, build_in_turn, layer_name


@settings.configurable
def resnet_batch_norm(
    epsilon: settings.NonNegative = 1e-5, decay: settings.Decay = 0.95
) -> BatchNorm:
    """Returns a batch norm for the backbone, by default DeepLab's: see `BatchNorm`."""
    return BatchNorm(epsilon, decay)


def _convolution(scope: str, filters: int, kernel_size: int = 1, **options) -> Convolution:
    return Convolution(
        scope,
        filters,
        kernel_size,
        norm=resnet_batch_norm(),
        initializer=tf.keras.initializers.HeNormal(),
        **options,
    )


class _Bottleneck(tf.keras.layers.Layer):
    """1x1, 3x3 and 1x1 convolution, and a ReLU after the sum with the shortcut.

    Source: deeplab/core/resnet_v1_beta.bottleneck, slim resnet_utils.
    """

    def __init__(self, scope: str, channels: int, width: int, stride: int, atrous_rate: int):
        super().__init__(name=layer_name(scope))
        self.scope, self.stride, self.atrous_rate = scope, stride, atrous_rate
        self.filters = 4 * width
        self.shortcut = None
        if channels != self.filters:
            self.shortcut = _convolution(f"{scope}/shortcut", self.filters, stride=stride)
        self.reduce = _convolution(f"{scope}/conv1", width, activation=tf.nn.relu)
        self.spatial = _convolution(
            f"{scope}/conv2",
            width,
            3,
            stride=stride,
            atrous_rate=atrous_rate,
            activation=tf.nn.relu,
            fixed_padding=True,
        )
        self.expand = _convolution(f"{scope}/conv3", self.filters)

    def build(self, input_shape: tf.TensorShape) -> None:
        if self.shortcut is not None:
            self.shortcut.build(input_shape)
        build_in_turn([self.reduce, self.spatial, self.expand], input_shape[-1])
        self.built = True

    def call(
        self, x: tf.Tensor, batch_statistics: bool, space_to_batch: SpaceToBatch | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the block's output and that of its last convolution, before the sum."""
        y = self.reduce(x, batch_statistics=batch_statistics)
        y = self.spatial(y, batch_statistics=batch_statistics, space_to_batch=space_to_batch)
        y = self.expand(y, batch_statistics=batch_statistics)
        if self.shortcut is None:
            shortcut = x[:, :: self.stride, :: self.stride]
        else:
            shortcut = self.shortcut(x, batch_statistics=batch_statistics)
        return tf.nn.relu(shortcut + y), y


@settings.register
class ResNet50(Backbone):
    """DeepLab's ResNet-50, `resnet_v1_50_beta`: three 3x3 convolutions instead of one 7x7.

    Its variables are named as in slim, so that DeepLab's and slim's `resnet_v1_50_beta` weights can
    be loaded. The paper does not use it; the 2019 release can build it (`--model_variant`).

    Args:
      output_stride: input size divided by the size of the deep features, 8 or 16.

    Raises:
      InputError: a setting has another value.
    """

    # (width, units, stride of the last unit)
    _BLOCKS = ((64, 3, 2), (128, 4, 2), (256, 6, 2), (512, 3, 1))
    # The decoder's low-level feature is the last convolution of this unit, before the sum.
    low_level_index = 1
    _ROOT = (64, 64, 128)

    def __init__(self, output_stride: OutputStride = 8):
        super().__init__(name="resnet_v1_50")
        self.root = [
            _convolution(
                f"{self.name}/conv1_{i}",
                filters,
                3,
                stride=2 if i == 1 else 1,
                activation=tf.nn.relu,
                fixed_padding=True,
            )
            for i, filters in enumerate(self._ROOT, start=1)
        ]
        schedule = AtrousSchedule(output_stride)
        schedule.next(2)  # The pooling.
        blocks, channels = [], self._ROOT[-1]
        for number, (width, units, last_stride) in enumerate(self._BLOCKS, start=1):
            for unit in range(1, units + 1):
                stride, atrous_rate = schedule.next(last_stride if unit == units else 1)
                scope = f"{self.name}/block{number}/unit_{unit}/bottleneck_v1"
                blocks.append(_Bottleneck(scope, channels, width, stride, atrous_rate))
                channels = blocks[-1].filters
        self.blocks = blocks
        self.low_level_channels = blocks[self.low_level_index].filters
        self.channels = channels

    def after_root(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the pooled output of the root."""
        return tf.nn.max_pool2d(x, 3, 2, "SAME")

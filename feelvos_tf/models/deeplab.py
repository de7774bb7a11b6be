"""DeepLabv3+ without its output layer: backbone features in, stride-4 features out."""

from __future__ import annotations

import functools
from typing import Annotated

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.resizing import resize_bilinear
from feelvos_tf.models.layers import BatchNorm, Convolution, SeparableConv, build_in_turn, maps

FILTERS = 256
_LOW_LEVEL_FILTERS = 48


@settings.configurable
def decoder_batch_norm(
    epsilon: settings.NonNegative = 1e-5, decay: settings.Decay = 0.9997
) -> BatchNorm:
    """Returns a batch norm for ASPP or decoder, by default the release's: see `BatchNorm`."""
    return BatchNorm(epsilon, decay)


def _convolution(scope: str, filters: int) -> Convolution:
    return Convolution(
        scope,
        filters,
        norm=decoder_batch_norm(),
        activation=tf.nn.relu,
        initializer=tf.keras.initializers.GlorotUniform(),
    )


def _dropout(x: tf.Tensor, seeds: tf.Tensor | None, rate: float) -> tf.Tensor:
    """Returns `x` with a share `rate` of its values set to 0.

    Args:
      x: `[n, h, w, channels]`.
      seeds: integer `[clips, 2]`, one for each clip, an equal part of the batch, so that a clip's
        dropout does not depend on the other clips. None draws at random.
      rate: 0..1.
    """
    if seeds is None:
        return tf.nn.dropout(x, rate)
    dropout = tf.nn.experimental.stateless_dropout
    clips = zip(tf.split(x, seeds.shape[0]), tf.unstack(seeds))
    return tf.concat([dropout(clip, rate, seed) for clip, seed in clips], 0)


@settings.configurable
class AtrousSpatialPyramidPooling(tf.keras.layers.Layer):
    """Image pooling, a 1x1 branch and one branch per atrous rate, projected to 256 channels.

    Reproduction trap: the dropout after the projection is always active in training, even with
    frozen batch norm. Source: 2019 release, deeplab/model.extract_features.

    Args:
      atrous_rates: of the branches.
      dropout_rate: of the dropout while training; the paper does not mention it.

    Attributes:
      dropout: function of the projection's output and the seeds, called while training.
    """

    def __init__(
        self,
        atrous_rates: tuple[settings.PositiveInt, ...],
        dropout_rate: Annotated[float, settings.Between(0.0, 0.99)] = 0.1,
    ):
        super().__init__(name="aspp")
        self.image_pooling = _convolution("image_pooling", FILTERS)
        self.branches = [_convolution("aspp0", FILTERS)] + [
            SeparableConv(f"aspp{i}", FILTERS, 3, atrous_rate=atrous_rate, norm=decoder_batch_norm)
            for i, atrous_rate in enumerate(atrous_rates, start=1)
        ]
        self.projection = _convolution("concat_projection", FILTERS)
        self.dropout = functools.partial(_dropout, rate=dropout_rate)

    def build(self, input_shape: tf.TensorShape) -> None:
        for layer in (self.image_pooling, *self.branches):
            layer.build(input_shape)
        self.projection.build(maps(FILTERS * (1 + len(self.branches))))
        self.built = True

    def call(
        self, x: tf.Tensor, training: bool, batch_statistics: bool, seeds: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns `[n, h, w, 256]` for `x` `[n, h, w, channels]`; `seeds` are for the dropout."""
        pooled = self.image_pooling(_mean_of_image(x, training), batch_statistics=batch_statistics)
        pooled = tf.broadcast_to(pooled, tf.concat([tf.shape(x)[:3], [FILTERS]], 0))
        outputs = [branch(x, batch_statistics=batch_statistics) for branch in self.branches]
        x = self.projection(tf.concat([pooled, *outputs], -1), batch_statistics=batch_statistics)
        return self.dropout(x, seeds) if training else x


def _mean_of_image(x: tf.Tensor, training: bool) -> tf.Tensor:
    """Returns `[n, 1, 1, channels]`.

    In training it is average pooling over the whole image, as in the release: this sums in another
    order than a plain mean, which shows in the golden gradients.
    """
    x = tf.cast(x, tf.float32)  # 16 bits are too few for a sum over all pixels.
    size = x.shape[1:3]
    if training and size.is_fully_defined():
        return tf.nn.avg_pool2d(x, size, 1, "VALID")
    return tf.reduce_mean(x, [1, 2], keepdims=True)


class Decoder(tf.keras.layers.Layer):
    """Joins upsampled deep features with projected low-level ones at stride 4.

    Source: 2019 release, deeplab/model.refine_by_decoder.

    Args:
      low_level_channels: of the low-level features.
    """

    def __init__(self, low_level_channels: int):
        super().__init__(name="decoder")
        self.low_level_channels = low_level_channels
        self.projection = _convolution("decoder/feature_projection0", _LOW_LEVEL_FILTERS)
        self.convolutions = [
            SeparableConv(f"decoder/decoder_conv{i}", FILTERS, 3, norm=decoder_batch_norm)
            for i in range(2)
        ]

    def build(self, input_shape: tf.TensorShape) -> None:
        self.projection.build(maps(self.low_level_channels))
        build_in_turn(self.convolutions, input_shape[-1] + _LOW_LEVEL_FILTERS)
        self.built = True

    def call(self, deep: tf.Tensor, low_level: tf.Tensor, batch_statistics: bool) -> tf.Tensor:
        """Returns `[n, h, w, 256]` for `low_level` `[n, h, w, channels]`."""
        projected = self.projection(low_level, batch_statistics=batch_statistics)
        resized = resize_bilinear(deep, tf.shape(low_level)[1:3])
        x = tf.concat([tf.cast(resized, projected.dtype), projected], -1)
        for convolution in self.convolutions:
            x = convolution(x, batch_statistics=batch_statistics)
        return x

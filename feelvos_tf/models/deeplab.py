"""DeepLabv3+ without its output layer: backbone features in, stride-4 features out."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.core.resizing import resize_bilinear
from feelvos_tf.models.layers.batch_norm import BatchNorm
from feelvos_tf.models.layers.convolution import Convolution
from feelvos_tf.models.layers.separable import SeparableConv
from feelvos_tf.models.layers.variables import maps

FILTERS = 256
_LOW_LEVEL_FILTERS = 48
_DROPOUT_RATE = 0.1


def _norm() -> BatchNorm:
    return BatchNorm(epsilon=1e-5, decay=0.9997)


def _convolution(scope: str, filters: int) -> Convolution:
    return Convolution(
        scope,
        filters,
        norm=_norm(),
        activation=tf.nn.relu,
        initializer=tf.keras.initializers.GlorotUniform(),
    )


def _dropout(x: tf.Tensor, seeds: tf.Tensor | None) -> tf.Tensor:
    """Returns `x` with a share of it set to 0, which follows from the seeds where they are given.

    One for each of as many equal parts of the batch: what happens to a clip does not depend on the
    others beside it.
    """
    if seeds is None:
        return tf.nn.dropout(x, _DROPOUT_RATE)
    clips = tf.split(x, seeds.shape[0])
    dropped = [
        tf.nn.experimental.stateless_dropout(clip, _DROPOUT_RATE, seeds[i])
        for i, clip in enumerate(clips)
    ]
    return tf.concat(dropped, 0)


@tf.keras.utils.register_keras_serializable("feelvos_tf")
class AtrousSpatialPyramidPooling(tf.keras.layers.Layer):
    """Image pooling, a 1x1 branch and one branch per atrous rate, projected to 256 channels.

    Reproduction trap: the dropout behind the projection is active whenever training, also with
    frozen batch norm. Source: 2019 release, deeplab/model.extract_features.

    Attributes:
      dropout: what is called with the projection's output and the seeds while training.
    """

    def __init__(self, atrous_rates: tuple[int, ...]):
        super().__init__(name="aspp")
        self.atrous_rates = tuple(atrous_rates)
        self.image_pooling = _convolution("image_pooling", FILTERS)
        self.branches = [_convolution("aspp0", FILTERS)] + [
            SeparableConv(f"aspp{i}", FILTERS, 3, atrous_rate=atrous_rate, norm=_norm)
            for i, atrous_rate in enumerate(atrous_rates, start=1)
        ]
        self.projection = _convolution("concat_projection", FILTERS)
        self.dropout = _dropout

    def get_config(self) -> dict[str, tuple[int, ...]]:
        return {"atrous_rates": self.atrous_rates}

    def build(self, input_shape: tf.TensorShape) -> None:
        for layer in (self.image_pooling, *self.branches):
            layer.build(input_shape)
        self.projection.build(maps(FILTERS * (1 + len(self.branches))))
        self.built = True

    def call(
        self,
        x: tf.Tensor,
        training: bool,
        batch_statistics: bool,
        seeds: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns `[n, h, w, 256]` of the same size as `x`; `seeds` are those of the dropout."""
        pooled = self.image_pooling(_mean_of_image(x, training), batch_statistics=batch_statistics)
        pooled = tf.broadcast_to(pooled, tf.concat([tf.shape(x)[:3], [FILTERS]], 0))
        outputs = [branch(x, batch_statistics=batch_statistics) for branch in self.branches]
        x = self.projection(tf.concat([pooled, *outputs], -1), batch_statistics=batch_statistics)
        return self.dropout(x, seeds) if training else x


def _mean_of_image(x: tf.Tensor, training: bool) -> tf.Tensor:
    """Returns `[n, 1, 1, channels]`.

    While training, by an average pooling as large as the image, as in the release: it sums in
    another order than a plain mean, which gradients of the golden numbers notice.
    """
    x = tf.cast(x, tf.float32)  # So many numbers are too much for a sum of 16 bits.
    size = x.shape[1:3]
    if training and size.is_fully_defined():
        return tf.nn.avg_pool2d(x, size, 1, "VALID")
    return tf.reduce_mean(x, [1, 2], keepdims=True)


@tf.keras.utils.register_keras_serializable("feelvos_tf")
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
            SeparableConv(f"decoder/decoder_conv{i}", FILTERS, 3, norm=_norm) for i in range(2)
        ]

    def get_config(self) -> dict[str, int]:
        return {"low_level_channels": self.low_level_channels}

    def build(self, input_shape: tf.TensorShape) -> None:
        self.projection.build(maps(self.low_level_channels))
        self.convolutions[0].build(maps(input_shape[-1] + _LOW_LEVEL_FILTERS))
        self.convolutions[1].build(maps(FILTERS))
        self.built = True

    def call(self, deep: tf.Tensor, low_level: tf.Tensor, batch_statistics: bool) -> tf.Tensor:
        """Returns `[n, h, w, 256]`, h and w being those of `low_level`."""
        projected = self.projection(low_level, batch_statistics=batch_statistics)
        resized = resize_bilinear(deep, tf.shape(low_level)[1:3])
        x = tf.concat([tf.cast(resized, projected.dtype), projected], -1)
        for convolution in self.convolutions:
            x = convolution(x, batch_statistics=batch_statistics)
        return x

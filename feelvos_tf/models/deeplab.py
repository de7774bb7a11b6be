"""DeepLabv3+ without its output layer: backbone features in, stride-4 features out."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.layers.batch_norm import BatchNorm
from feelvos_tf.models.layers.convolution import Convolution
from feelvos_tf.models.layers.separable import SeparableConv

_FILTERS = 256
_LOW_LEVEL_FILTERS = 48
_DROPOUT_RATE = 0.1


def resize_bilinear(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns `x` resized so that the corner pixels' centres stay where they are.

    Reproduction trap: the release resizes with align_corners=True everywhere, which tf.image.resize
    cannot do.
    """
    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)


def _norm() -> BatchNorm:
    return BatchNorm(epsilon=1e-5, decay=0.9997)


def _convolution(name: str, filters: int) -> Convolution:
    return Convolution(
        name,
        filters,
        norm=_norm(),
        activation=tf.nn.relu,
        initializer=tf.keras.initializers.GlorotUniform(),
    )


class AtrousSpatialPyramidPooling(tf.keras.layers.Layer):
    """Image pooling, a 1x1 branch and one dilated branch per rate, projected to 256 channels.

    Reproduction trap: the dropout behind the projection is active whenever training, also with
    frozen batch norm. Source: 2019 release, deeplab/model.extract_features.
    """

    def __init__(self, atrous_rates: tuple[int, ...]):
        super().__init__(name="aspp")
        self.image_pooling = _convolution("image_pooling", _FILTERS)
        self.branches = [_convolution("aspp0", _FILTERS)]
        for i, rate in enumerate(atrous_rates, start=1):
            self.branches.append(SeparableConv(f"aspp{i}", _FILTERS, 3, rate=rate, norm=_norm))
        self.projection = _convolution("concat_projection", _FILTERS)
        self.dropout = tf.keras.layers.Dropout(_DROPOUT_RATE)

    def call(self, x: tf.Tensor, training: bool, batch_statistics: bool) -> tf.Tensor:
        """Returns `[n, h, w, 256]` of the same size as `x`."""
        pooled = self.image_pooling(_mean_of_image(x, training), batch_statistics=batch_statistics)
        pooled = tf.broadcast_to(pooled, tf.concat([tf.shape(x)[:3], [_FILTERS]], 0))
        outputs = [branch(x, batch_statistics=batch_statistics) for branch in self.branches]
        x = self.projection(tf.concat([pooled, *outputs], -1), batch_statistics=batch_statistics)
        return self.dropout(x, training=training)


def _mean_of_image(x: tf.Tensor, training: bool) -> tf.Tensor:
    """Returns `[n, 1, 1, channels]`.

    While training, by an average pooling as large as the image, as in the release: it sums in
    another order than a plain mean, which gradients of the golden numbers notice.
    """
    size = x.shape[1:3]
    if training and size.is_fully_defined():
        return tf.nn.avg_pool2d(x, size, 1, "VALID")
    return tf.reduce_mean(x, [1, 2], keepdims=True)


class Decoder(tf.keras.layers.Layer):
    """Joins upsampled deep features with projected low-level ones at stride 4.

    Source: 2019 release, deeplab/model.refine_by_decoder.
    """

    def __init__(self):
        super().__init__(name="decoder")
        self.projection = _convolution("decoder/feature_projection0", _LOW_LEVEL_FILTERS)
        self.convolutions = [
            SeparableConv(f"decoder/decoder_conv{i}", _FILTERS, 3, norm=_norm) for i in range(2)
        ]

    def call(self, deep: tf.Tensor, low_level: tf.Tensor, batch_statistics: bool) -> tf.Tensor:
        """Returns `[n, h, w, 256]`, h and w being those of `low_level`."""
        projected = self.projection(low_level, batch_statistics=batch_statistics)
        x = tf.concat([resize_bilinear(deep, tf.shape(low_level)[1:3]), projected], -1)
        for convolution in self.convolutions:
            x = convolution(x, batch_statistics=batch_statistics)
        return x

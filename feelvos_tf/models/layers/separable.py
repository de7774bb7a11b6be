"""A depthwise and a pointwise convolution, an activation after each."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from feelvos_tf.models.layers.batch_norm import BatchNorm
from feelvos_tf.models.layers.convolution import (
    Activation,
    Convolution,
    DepthwiseConvolution,
    truncated_normal,
)

_SEPARABLE_DEPTHWISE_STDDEV = 0.33
_SEPARABLE_POINTWISE_STDDEV = 0.06


class SeparableConv(tf.keras.layers.Layer):
    """Depthwise then pointwise convolution, an activation after each.

    Source: 2019 release, deeplab split_separable_conv2d (ASPP and decoder, with batch norm) and
    split_separable_conv2d_with_identity_initializer (embedding and head, with biases).
    """

    def __init__(
        self,
        name: str,
        filters: int,
        kernel_size: int,
        rate: int = 1,
        norm: Callable[[], BatchNorm] | None = None,
        activation: Activation | None = tf.nn.relu,
        depthwise_initializer: tf.keras.initializers.Initializer | None = None,
        pointwise_initializer: tf.keras.initializers.Initializer | None = None,
    ):
        super().__init__(name=name)
        make_norm = norm or (lambda: None)
        self.depthwise = DepthwiseConvolution(
            f"{name}_depthwise",
            kernel_size,
            rate=rate,
            norm=make_norm(),
            activation=activation,
            initializer=depthwise_initializer or truncated_normal(_SEPARABLE_DEPTHWISE_STDDEV),
        )
        self.pointwise = Convolution(
            f"{name}_pointwise",
            filters,
            norm=make_norm(),
            activation=activation,
            initializer=pointwise_initializer or truncated_normal(_SEPARABLE_POINTWISE_STDDEV),
        )

    def call(self, x: tf.Tensor, batch_statistics: bool = False) -> tf.Tensor:
        x = self.depthwise(x, batch_statistics=batch_statistics)
        return self.pointwise(x, batch_statistics=batch_statistics)

    def call_shared(self, shared: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
        """Returns `self(concat([shared, own]))`, computing the part of `shared` only once.

        Args:
          shared: `[1, h, w, channels]`, the same for every entry of the batch.
          own: `[batch, h, w, channels]`.
        """
        return self.finish(self.share(shared, own.shape[-1]), own)

    def share(self, shared: tf.Tensor, own_channels: int) -> tf.Tensor:
        """Returns what the first channels of the input contribute, `[batch, h, w, filters]`.

        The depthwise convolution and its activation act per channel, the pointwise convolution is
        linear: each can be split by input channel. For layers with biases, not batch norm.

        Args:
          shared: `[batch, h, w, channels]`, the first channels of the input.
          own_channels: the number of channels that `finish` will add.
        """
        if not self.built:
            joined = tf.TensorShape([None, None, None, shared.shape[-1] + own_channels])
            self.depthwise.build(joined)
            self.pointwise.build(joined)
            self.built = True
        return self._part(shared, slice(None, shared.shape[-1]))

    def finish(self, contribution: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
        """Returns the layer's output from what `share` returned and the last channels."""
        total = contribution + self._part(own, slice(-own.shape[-1], None))
        return self.pointwise.activation(tf.nn.bias_add(total, self.pointwise.bias))

    def _part(self, x: tf.Tensor, channels: slice) -> tf.Tensor:
        x = self.depthwise.convolve(x, self.depthwise.kernel[:, :, channels])
        x = self.depthwise.activation(tf.nn.bias_add(x, self.depthwise.bias[channels]))
        return self.pointwise.convolve(x, self.pointwise.kernel[:, :, channels])

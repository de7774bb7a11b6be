"""A depthwise and a pointwise convolution, an activation after each."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from feelvos_tf.models.layers.batch_norm import BatchNorm
from feelvos_tf.models.layers.convolution import (
    Activation,
    Convolution,
    DepthwiseConvolution,
    bias_add,
    layer_name,
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
        scope: str,
        filters: int,
        kernel_size: int,
        atrous_rate: int = 1,
        norm: Callable[[], BatchNorm] | None = None,
        activation: Activation | None = tf.nn.relu,
        depthwise_initializer: tf.keras.initializers.Initializer | None = None,
        pointwise_initializer: tf.keras.initializers.Initializer | None = None,
    ):
        super().__init__(name=layer_name(scope))
        self.scope = scope
        make_norm = norm or (lambda: None)
        self.depthwise = DepthwiseConvolution(
            f"{scope}_depthwise",
            kernel_size,
            atrous_rate=atrous_rate,
            norm=make_norm(),
            activation=activation,
            initializer=depthwise_initializer or truncated_normal(_SEPARABLE_DEPTHWISE_STDDEV),
        )
        self.pointwise = Convolution(
            f"{scope}_pointwise",
            filters,
            norm=make_norm(),
            activation=activation,
            initializer=pointwise_initializer or truncated_normal(_SEPARABLE_POINTWISE_STDDEV),
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        self.depthwise.build(input_shape)
        self.pointwise.build(input_shape)
        self.built = True

    def call(self, x: tf.Tensor, batch_statistics: bool = False) -> tf.Tensor:
        x = self.depthwise(x, batch_statistics=batch_statistics)
        return self.pointwise(x, batch_statistics=batch_statistics)

    def share(self, shared: tf.Tensor) -> tf.Tensor:
        """Returns what the first channels of the input contribute, `[batch, h, w, filters]`.

        The depthwise convolution and its activation act per channel, the pointwise convolution is
        linear: each can be split by input channel, so what all entries of a batch have in common is
        computed once. For layers with biases, not batch norm.

        Args:
          shared: `[1 or batch, h, w, channels]`, the first channels of the input.
        """
        return self._part(shared, slice(None, shared.shape[-1]))

    def finish(self, contribution: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
        """Returns `self(concat([shared, own]))`.

        Args:
          contribution: what `share` returned for `shared`.
          own: `[batch, h, w, channels]`, the last channels of the input.
        """
        total = contribution + self._part(own, slice(-own.shape[-1], None))
        return self.pointwise.activation(bias_add(total, self.pointwise.bias))

    def _part(self, x: tf.Tensor, channels: slice) -> tf.Tensor:
        x = self.depthwise.convolve(x, self.depthwise.kernel[:, :, channels])
        x = self.depthwise.activation(bias_add(x, self.depthwise.bias[channels]))
        return self.pointwise.convolve(x, self.pointwise.kernel[:, :, channels])

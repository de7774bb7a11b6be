"""Batch normalization, folded into the convolution before it while its statistics are frozen."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.layers.variables import add_variable


class BatchNorm(tf.keras.layers.Layer):
    """Batch normalization as a scale and an offset per channel.

    With frozen statistics (the release's default) normalization is affine, so the convolution
    before it folds it into its kernel, which saves a pass over the activations and a copy of them
    for the gradient (but see `is_folded`). `gamma` and `beta` are still trained: the release
    freezes only the moving statistics.

    Args:
      epsilon: added to the variance.
      decay: share of their old value that the running averages keep at each update.

    Attributes:
      is_frozen: keep the running averages even if batch statistics are requested.
      is_folded: whether frozen statistics are folded into the convolution. If not, they are an
        operation after it, in the release's order of arithmetic.

    Source: 2019 release, slim batch_norm with is_training = fine_tune_batch_norm.
    """

    def __init__(self, epsilon: float, decay: float, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.decay = decay
        self.is_frozen = False
        self.is_folded = True

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = [input_shape[-1]]
        self.gamma = add_variable(self, "gamma", shape, "ones")
        self.beta = add_variable(self, "beta", shape, "zeros")
        self.moving_mean = add_variable(self, "moving_mean", shape, "zeros", is_average=True)
        self.moving_variance = add_variable(self, "moving_variance", shape, "ones", is_average=True)
        self.built = True

    def frozen_scale_and_offset(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the scale and offset `[channels]` that are equivalent to the normalization."""
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def with_frozen_statistics(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `x` normalized by the running averages, in the release's order of arithmetic."""
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(
            x,
            self.gamma,
            self.beta,
            self.moving_mean,
            self.moving_variance,
            self.epsilon,
            is_training=False,
        )
        return y

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `x` normalized by its own statistics, and updates the running averages."""
        dtype, x = x.dtype, tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign_sub((1.0 - self.decay) * (average - tf.stop_gradient(value)))
        y = tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)
        return tf.cast(y, dtype)

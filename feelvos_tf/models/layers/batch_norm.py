"""Batch normalization with frozen statistics, folded into the convolution before it."""

from __future__ import annotations

import os

import tensorflow as tf


def rounds_like_release() -> bool:
    """Returns whether frozen batch norm is rounded as the 2019 release rounds it.

    `TF_ENABLE_ONEDNN_OPTS=0` is how users of TensorFlow ask for the rounding of its own kernels.
    The golden numbers were computed with those. Then batch norm stays an operation behind the
    convolution, which costs a fifth of a training step's time and two fifths of its memory.
    """
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0"


class BatchNorm(tf.keras.layers.Layer):
    """Scale and offset of batch normalisation, as numbers to multiply and add per channel.

    With frozen statistics (the release's default) normalisation is one affine map per channel, so
    the convolution before it takes it into its kernel: no pass over the activations and no copy of
    them is kept for the gradient (but see `rounds_like_release`). `gamma` and `beta` are trained
    all the same (the release freezes only the moving statistics).

    Attributes:
      is_frozen: keep the statistics also where those of the batch are asked for.

    Source: 2019 release, slim batch_norm with is_training = fine_tune_batch_norm.
    """

    def __init__(self, epsilon: float, decay: float, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.decay = decay
        self.is_frozen = False

    def build(self, channels: int) -> None:
        shape = [channels]
        self.gamma = self.add_weight("gamma", shape, initializer="ones")
        self.beta = self.add_weight("beta", shape, initializer="zeros")
        self.moving_mean = self.add_weight(
            "moving_mean", shape, initializer="zeros", trainable=False
        )
        self.moving_variance = self.add_weight(
            "moving_variance", shape, initializer="ones", trainable=False
        )
        self.built = True

    def frozen_scale_and_offset(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `[channels]` scale and offset that stand for the whole normalisation."""
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def with_frozen_statistics(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `x` normalised by the running averages, in the release's order of arithmetic."""
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
        """Returns `x` normalised by its own statistics, and moves the running averages."""
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign_sub((1.0 - self.decay) * (average - tf.stop_gradient(value)))
        return tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)

"""The embedding layer: stride-4 features in, one vector per pixel out."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.layers import Convolution, SeparableConv, truncated_normal


class NoisyIdentity(tf.keras.initializers.Initializer):
    """Ones where input and output channel agree at the kernel's center, plus noise.

    Reproduction trap: a depthwise kernel `[h, w, channels, 1]` has one output per channel, so only
    its channel 0 gets a one; the others start as pure noise. Source: 2019 release,
    embedding_utils, conv2d_identity_initializer.
    """

    _NOISE_STDDEV = 0.03

    def __call__(self, shape, dtype=tf.float32, **kwargs) -> tf.Tensor:
        height, width, inputs, outputs = shape
        ones = [[height // 2, width // 2, i, i] for i in range(min(inputs, outputs))]
        identity = tf.scatter_nd(ones, tf.ones([len(ones)], dtype), shape)
        return identity + tf.random.truncated_normal(shape, stddev=self._NOISE_STDDEV, dtype=dtype)


class Embedding(SeparableConv):
    """Separable 3x3 convolution `[n, h, w, 256]` -> `[n, h, w, dimension]`.

    Reproduction trap: a ReLU follows both of its convolutions, so embedding vectors are never
    negative; there is no batch norm and no normalization to unit length. Source: paper section 3
    (Implementation Details); 2019 release, feelvos/utils/embedding_utils.

    Args:
      dimension: of the vectors.
    """

    def __init__(self, dimension: int):
        scope = "embedding/split_separable_conv2d"
        super().__init__(scope, dimension, 3, initializer=NoisyIdentity())


def linear_embedding(dimension: int) -> Convolution:
    """Returns a 1x1 convolution without a ReLU, which the release uses for its triplet loss.

    The embedding then takes the place of DeepLab's logits.
    """
    return Convolution("logits/embedding", dimension, initializer=truncated_normal(0.01))

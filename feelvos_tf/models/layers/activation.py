"""ReLU6 in a form that is quick with every TensorFlow."""

from __future__ import annotations

import tensorflow as tf


@tf.custom_gradient
def relu6(x: tf.Tensor) -> tf.Tensor:
    """Returns `x` between 0 and 6, with the values and the gradient of `tf.nn.relu6`.

    With TensorFlow 2.21 (not 2.15) and oneDNN, on a processor with AVX2 alone, a convolution of few
    channels takes 3 to 10 times as long with `tf.nn.relu6` behind it; `tf.nn.relu` costs nothing.
    """
    y = tf.minimum(tf.nn.relu(x), tf.constant(6.0, x.dtype))

    # Its own gradient, because that of `tf.minimum` would keep one more map of each layer.
    def gradient(dy: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Relu6Grad(gradients=dy, features=y)

    return y, gradient

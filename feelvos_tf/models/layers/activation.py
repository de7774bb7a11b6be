"""ReLU6 in a form that is quick with every TensorFlow."""

from __future__ import annotations

import tensorflow as tf


@tf.custom_gradient
def relu6(x: tf.Tensor) -> tf.Tensor:
    """Returns `x` between 0 and 6, with the values and the gradient of `tf.nn.relu6`.

    From TensorFlow 2.16 or so on, on processors with AVX2 alone, a convolution of a few channels
    takes 3 to 10 times as long when `tf.nn.relu6` is fused into it. `tf.nn.relu` is not affected.
    """
    y = tf.minimum(tf.nn.relu(x), tf.constant(6.0, x.dtype))

    # Its own gradient, because that of `tf.minimum` would keep one more map of each layer.
    def gradient(dy: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Relu6Grad(gradients=dy, features=y)

    return y, gradient

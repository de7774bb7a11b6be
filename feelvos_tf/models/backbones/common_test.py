"""Atrous layers on a split image equal atrous layers on the image."""

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.layers import SpaceToBatch


def _random(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).standard_normal(shape), tf.float32)


def _layer(x: tf.Tensor, kernel: tf.Tensor, atrous_rate: int) -> tf.Tensor:
    """Returns a depthwise convolution plus 1, which makes pixels beyond the border nonzero."""
    return (
        tf.nn.depthwise_conv2d(x, kernel, [1] * 4, "SAME", dilations=[atrous_rate, atrous_rate])
        + 1.0
    )


@pytest.mark.parametrize("atrous_rate", [2, 3, 4])
@pytest.mark.parametrize("size", [(8, 12), (9, 14), (7, 5), (3, 1)])
def test_a_run_of_atrous_layers_and_its_gradient(size, atrous_rate):
    kernel = _random(3, 3, 5, 1)

    def atrous(x):
        return _layer(_layer(x, kernel, atrous_rate), kernel, atrous_rate)

    def in_parts(x):
        apart = SpaceToBatch(x, atrous_rate)
        x = apart.split(x)
        for _ in range(2):
            x = _layer(apart.blank(x), kernel, 1)
        return apart.join(x)

    x, weight = _random(2, *size, 5), _random(2, *size, 5)
    results = []
    for function in (atrous, in_parts):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x)
        results.append([y, *tape.gradient(y, [x, kernel], weight)])
    for expected, found in zip(*results):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)

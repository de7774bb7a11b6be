"""Dilated layers on phases equal dilated layers on the image."""

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.layers.space_to_batch import SpaceToBatch


def _random(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).standard_normal(shape), tf.float32)


def _layer(x: tf.Tensor, kernel: tf.Tensor, rate: int) -> tf.Tensor:
    """Returns a depthwise convolution and what makes pixels beyond the border other than zero."""
    return tf.nn.depthwise_conv2d(x, kernel, [1] * 4, "SAME", dilations=[rate, rate]) + 1.0


@pytest.mark.parametrize("rate", [2, 3, 4])
@pytest.mark.parametrize("size", [(8, 12), (9, 14), (7, 5), (3, 1)])
def test_a_run_of_dilated_layers_and_its_gradient(size, rate):
    kernel = _random(3, 3, 5, 1)

    def dilated(x):
        return _layer(_layer(x, kernel, rate), kernel, rate)

    def in_phases(x):
        phases = SpaceToBatch(x, rate)
        x = phases.split(x)
        for _ in range(2):
            x = _layer(phases.blank(x), kernel, 1)
        return phases.join(x)

    x, weight = _random(2, *size, 5), _random(2, *size, 5)
    results = []
    for function in (dilated, in_phases):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x)
        results.append([y, *tape.gradient(y, [x, kernel], weight)])
    for expected, found in zip(*results):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)

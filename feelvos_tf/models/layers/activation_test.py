"""Activations."""

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.layers.activation import relu6


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_relu6_and_its_gradient_equal_tensorflows(dtype):
    x = tf.cast([-np.inf, -1.0, -0.0, 0.0, 1e-3, 3.0, 5.99, 6.0, 6.01, 1e9, np.inf], dtype)
    results = []
    for function in (relu6, tf.nn.relu6):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        results.append([y, tape.gradient(y, x, tf.cast(tf.range(1, 12), dtype))])
    for ours, theirs in zip(*results):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32))
    assert 0 < np.count_nonzero(tf.cast(ours, tf.float32)) < 11

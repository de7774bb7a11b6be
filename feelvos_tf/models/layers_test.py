"""Convolutions: gradients, padding, folding, activations. Running averages of several replicas."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.layers import (
    BatchNorm,
    Convolution,
    DepthwiseConvolution,
    SeparableConv,
    depthwise_with_fast_gradient,
    relu6,
)

# Two logical CPUs must be configured before TensorFlow starts, hence a separate process.
_TWO_REPLICAS = """
import numpy as np
import tensorflow as tf

[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from feelvos_tf.models.layers import BatchNorm

images = np.random.default_rng(0).standard_normal([2, 3, 5, 6, 4]).astype(np.float32)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    norm = BatchNorm(epsilon=1e-3, decay=0.9)
    norm.build([None, None, None, 4])


@tf.function
def step():
    def of_replica():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return norm(tf.gather(images, replica))

    return strategy.run(of_replica)


step()
axes = (1, 2, 3)
for average, before, of_replicas in (
    (norm.moving_mean, 0.0, images.mean(axes)),
    (norm.moving_variance, 1.0, images.var(axes)),
):
    copies = [copy.numpy() for copy in strategy.experimental_local_results(average)]
    assert len(copies) == 2
    for copy in copies:
        expected = 0.9 * before + 0.1 * of_replicas.mean(0)
        np.testing.assert_allclose(copy, expected, atol=1e-5)
"""


def _random(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).standard_normal(shape), tf.float32)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_fast_depthwise_and_its_gradient_equal_tensorflows(size):
    x, kernel, weight = _random(3, 11, 14, 5), _random(size, size, 5, 1), _random(3, 11, 14, 5)
    plain = functools.partial(tf.nn.depthwise_conv2d, strides=[1, 1, 1, 1], padding="SAME")
    results = []
    for function in (depthwise_with_fast_gradient, plain):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x, kernel)
        results.append([y, *tape.gradient(y, [x, kernel], weight)])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_shared_part_of_a_separable_layer_equals_the_joined_input():
    layer = SeparableConv("layer", 6, 7)
    shared, own = _random(1, 9, 8, 10), _random(4, 9, 8, 3)
    layer.build([None, None, None, 13])
    split = layer.finish(layer.share(shared), own)
    joined = layer(tf.concat([tf.repeat(shared, 4, 0), own], -1))
    np.testing.assert_allclose(split, joined, atol=1e-5)


def test_stride_pads_evenly_on_both_sides():
    layer = DepthwiseConvolution("layer", 3, stride=2, fixed_padding=True)
    x = _random(1, 4, 4, 1)
    layer(x)
    layer.kernel.assign(tf.ones([3, 3, 1, 1]))
    # TensorFlow's SAME would start at row 0; even padding starts at row -1.
    np.testing.assert_allclose(layer(x)[0, 0, 0, 0], tf.reduce_sum(x[0, :2, :2]), atol=1e-5)


def _layers_with_random_norm():
    norm = {"epsilon": 1e-3, "decay": 0.9}
    for make in (
        lambda: Convolution("layer", 7, 3, norm=BatchNorm(**norm)),
        lambda: DepthwiseConvolution("layer", 3, norm=BatchNorm(**norm)),
    ):
        layer = make()
        layer(_random(2, 5, 6, 4))
        for i, name in enumerate(("gamma", "beta", "moving_mean", "moving_variance")):
            variable = getattr(layer.norm, name)
            variable.assign(np.random.default_rng(i).uniform(0.5, 2.0, variable.shape))
        yield layer


@pytest.mark.parametrize("is_folded", [True, False])
def test_frozen_batch_norm_equals_normalizing_the_output(is_folded):
    x = _random(2, 5, 6, 4)
    for layer in _layers_with_random_norm():
        norm = layer.norm
        norm.is_folded = is_folded
        plain = layer.convolve(x, layer.kernel, layer.atrous_rate)
        expected = (plain - norm.moving_mean) / tf.sqrt(norm.moving_variance + 1e-3)
        np.testing.assert_allclose(layer(x), expected * norm.gamma + norm.beta, atol=1e-5)


def test_fusing_keeps_the_output():
    x = _random(2, 5, 6, 4)
    for layer in _layers_with_random_norm():
        before = layer(x)
        layer.fuse_batch_norm()
        assert layer.norm is None
        np.testing.assert_allclose(layer(x), before, atol=1e-5)


def test_batch_statistics_normalize_and_move_the_averages():
    x = _random(2, 5, 6, 4)
    for layer in _layers_with_random_norm():
        norm = layer.norm
        mean_before = norm.moving_mean.numpy()
        y = layer(x, batch_statistics=True).numpy()
        np.testing.assert_allclose(y.mean((0, 1, 2)), norm.beta, atol=1e-4)
        plain = layer.convolve(x, layer.kernel, layer.atrous_rate).numpy()
        np.testing.assert_allclose(
            norm.moving_mean, 0.9 * mean_before + 0.1 * plain.mean((0, 1, 2)), atol=1e-5
        )


@pytest.mark.parametrize("atrous_rate", [1, 2, 4, 6, 12])
def test_every_atrous_rate_equals_shifted_multiply_adds(atrous_rate):
    layer = DepthwiseConvolution("layer", 3, atrous_rate=atrous_rate)
    x, kernel = _random(2, 13, 9, 4), _random(3, 3, 4, 1)
    margin = [[0, 0], [atrous_rate, atrous_rate], [atrous_rate, atrous_rate], [0, 0]]
    padded = tf.pad(x, margin)
    expected = sum(
        padded[:, i * atrous_rate : i * atrous_rate + 13, j * atrous_rate : j * atrous_rate + 9]
        * kernel[i, j, :, 0]
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(layer.convolve(x, kernel, atrous_rate), expected, atol=1e-5)


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


def test_the_mean_of_all_replicas_statistics_moves_the_averages():
    done = subprocess.run([sys.executable, "-c", _TWO_REPLICAS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

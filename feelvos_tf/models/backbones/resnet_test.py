"""ResNet-50 against the rules of DeepLab's resnet_v1_beta and slim's resnet_utils, in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.backbones.resnet import ResNet50
from feelvos_tf.models.layers import convolutions_of

NAMES = (
    "weights",
    *(f"BatchNorm/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")),
)


class Tiny(ResNet50):
    """The same with few channels, and fewer units where they repeat."""

    _BLOCKS = ((2, 3, 2), (3, 2, 2), (2, 2, 2), (3, 2, 1))
    _ROOT = (3, 4, 5)


def variables_of(backbone):
    found = {}
    for layer in convolutions_of(backbone):
        found.update(layer.release_variables())
    return found


def test_variables_are_named_and_shaped_as_in_slim():
    backbone = ResNet50()
    backbone.build(tf.TensorShape([None, None, None, 3]))
    shapes = {name: tuple(v.shape) for name, v in variables_of(backbone).items()}
    expected = {"conv1_1": (3, 3, 3, 64), "conv1_2": (3, 3, 64, 64), "conv1_3": (3, 3, 64, 128)}
    channels = 128
    for block, (width, units) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
        for unit in range(1, units + 1):
            scope = f"block{block}/unit_{unit}/bottleneck_v1"
            if unit == 1:
                expected[f"{scope}/shortcut"] = (1, 1, channels, 4 * width)
            expected[f"{scope}/conv1"] = (1, 1, channels, width)
            expected[f"{scope}/conv2"] = (3, 3, width, width)
            expected[f"{scope}/conv3"] = (1, 1, width, 4 * width)
            channels = 4 * width
    assert {f"resnet_v1_50/{layer}/{n}" for layer in expected for n in NAMES} == set(shapes)
    for layer, shape in expected.items():
        assert shapes[f"resnet_v1_50/{layer}/weights"] == shape
        assert shapes[f"resnet_v1_50/{layer}/BatchNorm/gamma"] == shape[3:]
    assert (backbone.low_level_channels, backbone.channels) == (256, 2048)


def convolved(x, kernel, stride, rate):
    """Returns slim's conv2d_same of `x` [height, width, channels]: padded evenly, then strided."""
    reach = rate * (len(kernel) - 1)
    x = np.pad(x, [(reach // 2, reach - reach // 2)] * 2 + [(0, 0)])
    rows, columns = x.shape[0] - reach, x.shape[1] - reach
    total = sum(
        x[i * rate : i * rate + rows, j * rate : j * rate + columns] @ kernel[i, j]
        for i, j in np.ndindex(kernel.shape[:2])
    )
    return total[::stride, ::stride]


def release(values, image, output_stride):
    """Returns the low-level and the deep features of an image, in float64."""

    def layer(scope, x, stride=1, rate=1):
        weights, gamma, beta, mean, variance = (values[f"resnet_v1_50/{scope}/{n}"] for n in NAMES)
        y = convolved(x, weights, stride, rate)
        return gamma * (y - mean) / np.sqrt(variance + 1e-5) + beta

    def relu(x):
        return np.maximum(x, 0.0)

    x = 2.0 / 255.0 * image - 1.0
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = relu(layer(f"conv1_{i}", x, stride))
    # TensorFlow's SAME pads an even size only at its end.
    before = [int(n % 2) for n in x.shape[:2]]
    x = np.pad(x, [(before[0], 2), (before[1], 2), (0, 0)], constant_values=-np.inf)
    shifts = [x[i:, j:][: x.shape[0] - 2, : x.shape[1] - 2] for i in range(3) for j in range(3)]
    x = np.max(shifts, 0)[::2, ::2]
    stride_so_far, rate, low_level = 4, 1, None
    for block, (_, units, last_stride) in enumerate(Tiny._BLOCKS, start=1):
        for unit in range(1, units + 1):
            scope = f"block{block}/unit_{unit}/bottleneck_v1"
            wanted = last_stride if unit == units else 1
            if stride_so_far == output_stride:
                stride, own_rate, rate = 1, rate, rate * wanted
            else:
                stride, own_rate, stride_so_far = wanted, 1, stride_so_far * wanted
            shortcut = layer(f"{scope}/shortcut", x) if unit == 1 else x
            y = relu(layer(f"{scope}/conv1", x))
            y = relu(layer(f"{scope}/conv2", y, stride, own_rate))
            y = layer(f"{scope}/conv3", y)
            if (block, unit) == (1, 2):
                low_level = y
            x = relu(shortcut[::stride, ::stride] + y)
    return low_level, x


@pytest.mark.parametrize("size", [(33, 41), (36, 50)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_features_are_those_of_the_rules(output_stride, size):
    rng = np.random.default_rng(3)
    backbone = Tiny(output_stride)
    image = rng.uniform(0, 255, (*size, 3))
    backbone.build(tf.TensorShape([None, None, None, 3]))
    for name, variable in variables_of(backbone).items():
        value = rng.normal(size=variable.shape) / np.sqrt(np.prod(variable.shape[:3]))
        if not name.endswith("weights"):
            value = rng.uniform(0.5, 1.5, variable.shape)
        variable.assign(value)
    values = {name: v.numpy().astype(np.float64) for name, v in variables_of(backbone).items()}
    found = backbone(tf.constant(image[np.newaxis], tf.float32))
    for ours, theirs in zip(found, release(values, image, output_stride)):
        assert ours.shape[1:] == theirs.shape
        np.testing.assert_allclose(ours[0] / theirs.max(), theirs / theirs.max(), atol=1e-5)

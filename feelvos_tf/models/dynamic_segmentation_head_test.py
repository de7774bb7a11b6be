import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core import gin_settings
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.dynamic_segmentation_head import SegmentationHead
from feelvos_tf.models.feelvos import Feelvos


@pytest.fixture(scope="module")
def head():
    return random_head()


def random_inputs(num_objects, size=(9, 11)):
    features = tf.random.stateless_normal([1, *size, 6], [1, 2])
    cues = tf.random.stateless_uniform([num_objects, *size, 3], [3, 4])
    return features, cues


def slow_head(head, features, cues):
    """Returns the logits by plain convolutions over features and cues together."""
    shared = tf.repeat(features, cues.shape[0], axis=0)
    x = tf.concat([shared, cues], -1)
    for layer in head.convolutions:
        kernel, bias = layer.depthwise.kernel, layer.depthwise.bias
        rates = [layer.depthwise.atrous_rate] * 2
        x = tf.nn.depthwise_conv2d(x, kernel, [1] * 4, "SAME", dilations=rates)
        x = tf.nn.relu(x + bias)
        x = tf.nn.relu(tf.nn.conv2d(x, layer.pointwise.kernel, 1, "SAME") + layer.pointwise.bias)
    return tf.nn.conv2d(x, head.logits.kernel, 1, "SAME") + head.logits.bias


def random_head(**settings):
    tf.keras.utils.set_random_seed(5)
    head = SegmentationHead(3, **settings)
    head(tf.zeros([1, 4, 4, 6]), tf.zeros([1, 4, 4, 3]))
    for variable in head.variables:
        variable.assign(0.3 * tf.random.normal(variable.shape))
    return head


@pytest.mark.parametrize("num_objects", [1, 4])
def test_logits_equal_plain_convolutions_of_features_and_cues_in_this_order(head, num_objects):
    features, cues = random_inputs(num_objects)
    expected = slow_head(head, features, cues)
    found = head(features, cues)
    assert found.shape == [num_objects, 9, 11, 1]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


def test_gradients_equal_those_of_plain_convolutions(head):
    features, cues = random_inputs(2)
    gradients = []
    for function in (head, lambda *inputs: slow_head(head, *inputs)):
        with tf.GradientTape() as tape:
            tape.watch([features, cues])
            loss = tf.reduce_sum(tf.square(function(features, cues)))
        gradients.append(tape.gradient(loss, [features, cues, *head.trainable_variables]))
    for found, expected in zip(*gradients):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


def test_an_object_s_logits_do_not_depend_on_the_other_objects(head):
    features, cues = random_inputs(3)
    alone = head(features, cues[1:2])
    np.testing.assert_allclose(head(features, cues)[1:2], alone, rtol=1e-4, atol=1e-4)


def test_every_layer_can_have_an_atrous_rate():
    dilated = random_head(layers=2, kernel_size=3, atrous_rates=(2, 3))
    assert [layer.depthwise.atrous_rate for layer in dilated.convolutions] == [2, 3]
    features, cues = random_inputs(2)
    expected = slow_head(dilated, features, cues)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(dilated(features, cues) / scale, expected / scale, atol=1e-5)


def test_layers_kernel_size_and_channels_can_be_set():
    small = random_head(layers=2, kernel_size=5, channels=12)
    shapes = [tuple(layer.depthwise.kernel.shape) for layer in small.convolutions]
    assert shapes == [(5, 5, 9, 1), (5, 5, 12, 1)]
    assert small.logits.kernel.shape == (1, 1, 12, 1)
    features, cues = random_inputs(2)
    expected = slow_head(small, features, cues)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(small(features, cues) / scale, expected / scale, atol=1e-5)


def test_gin_sets_the_head_of_a_network():
    gin_settings.parse([], ["SegmentationHead.layers = 1", "SegmentationHead.channels = 5"])
    try:
        model = Feelvos(MobileNetV2(0.1, output_stride=16), atrous_rates=())
    finally:
        gin.clear_config()
    assert len(model.head.convolutions) == 1
    assert model.head.convolutions[0].pointwise.filters == 5

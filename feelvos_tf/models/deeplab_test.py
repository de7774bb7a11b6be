import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core import gin_settings
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.deeplab import AtrousSpatialPyramidPooling, Decoder, decoder_batch_norm
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers import convolutions_of


def run_aspp(aspp, x, training=False):
    return aspp(x, training=training, batch_statistics=False)


@pytest.mark.parametrize("rates", [(), (6, 12, 18)])
def test_aspp_joins_image_pooling_the_1x1_branch_and_one_branch_per_rate(rates):
    aspp = AtrousSpatialPyramidPooling(rates)
    output = run_aspp(aspp, tf.zeros([2, 5, 7, 16]))
    assert output.shape == [2, 5, 7, 256]
    assert aspp.projection.kernel.shape == [1, 1, 256 * (2 + len(rates)), 256]
    assert [branch.scope for branch in aspp.branches] == [f"aspp{i}" for i in range(1 + len(rates))]


def test_image_pooling_is_the_mean_over_the_whole_image():
    aspp = AtrousSpatialPyramidPooling(())
    x = tf.random.stateless_normal([1, 4, 6, 8], [1, 2])
    run_aspp(aspp, x)
    # Only the pooled channels reach the output: every pixel shows the same mean.
    kernel = aspp.projection.kernel
    kernel.assign(tf.concat([kernel[:, :, :256], tf.zeros_like(kernel[:, :, 256:])], 2))
    output = run_aspp(aspp, x)
    np.testing.assert_allclose(output, tf.broadcast_to(output[:, :1, :1], output.shape), atol=1e-6)
    mean = tf.reduce_mean(x, [1, 2], keepdims=True)
    np.testing.assert_allclose(run_aspp(aspp, mean), output[:, :1, :1], atol=1e-5)
    assert float(tf.reduce_max(output)) > 0


@pytest.mark.parametrize(("settings", "rate"), [({}, 0.1), ({"dropout_rate": 0.3}, 0.3)])
def test_dropout_is_active_in_training_with_frozen_batch_norm(settings, rate):
    aspp = AtrousSpatialPyramidPooling((), **settings)
    x = tf.random.stateless_normal([1, 40, 40, 8], [1, 2])
    still = run_aspp(aspp, x)
    np.testing.assert_array_equal(still, run_aspp(aspp, x))
    trained = run_aspp(aspp, x, training=True)
    alive = still > 0
    dropped = tf.boolean_mask(trained, alive) == 0
    np.testing.assert_allclose(np.mean(dropped), rate, atol=0.01)
    kept = tf.boolean_mask(trained, alive & (trained > 0))
    expected = tf.boolean_mask(still, alive & (trained > 0)) / (1 - rate)
    np.testing.assert_allclose(kept, expected, rtol=1e-5, atol=1e-6)


def test_the_decoder_takes_the_size_of_the_low_level_features():
    decoder = Decoder(24)
    output = decoder(tf.zeros([2, 5, 7, 256]), tf.zeros([2, 9, 14, 24]), batch_statistics=False)
    assert output.shape == [2, 9, 14, 256]
    assert decoder.projection.kernel.shape == [1, 1, 24, 48]
    assert decoder.convolutions[0].pointwise.kernel.shape == [1, 1, 304, 256]


def test_the_rate_of_dropout_also_holds_for_each_clip_s_seed():
    aspp = AtrousSpatialPyramidPooling((), dropout_rate=0.25)
    ones = tf.ones([2, 40, 40, 8])
    dropped = aspp.dropout(ones, tf.constant([[1, 2], [3, 4]])).numpy()
    np.testing.assert_allclose((dropped == 0).mean((1, 2, 3)), 0.25, atol=0.02)
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(AtrousSpatialPyramidPooling((), 0.0).dropout(ones, None), ones)


# Name of the setting -> epsilon and decay of the 2019 release, and prefixes of its layers.
NORMS = {
    "xception_batch_norm": ((1e-3, 0.9997), "xception_41/"),
    "mobilenet_v2_batch_norm": ((1e-3, 0.997), "MobilenetV2/"),
    "decoder_batch_norm": ((1e-5, 0.9997), ("aspp", "image_pooling", "concat_", "decoder/")),
}


@pytest.mark.parametrize("name", NORMS)
def test_every_batch_norm_has_the_release_s_numbers_unless_set(name):
    numbers, scopes = NORMS[name]
    make = (lambda: Xception(41)) if name.startswith("x") else (lambda: MobileNetV2(0.1))

    def found():
        model = Feelvos(make(), atrous_rates=(2,))
        layers = [layer for layer in convolutions_of(model) if layer.norm]
        ours = [layer for layer in layers if layer.scope.startswith(scopes)]
        assert 5 < len(ours) < len(layers)
        return {(layer.norm.epsilon, layer.norm.decay) for layer in ours}

    assert found() == {numbers}
    gin_settings.parse([], [f"{name}.epsilon = 0.5", f"{name}.decay = 0.25"])
    try:
        assert found() == {(0.5, 0.25)}
    finally:
        gin.clear_config()


def test_epsilon_and_decay_act_as_in_the_definition_of_batch_norm():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    norm = decoder_batch_norm(epsilon=0.5, decay=0.25)
    norm.build([5])
    found = norm(tf.constant(x))
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(found, (x - mean) / np.sqrt(variance + 0.5), atol=1e-5)
    np.testing.assert_allclose(norm.moving_mean, 0.75 * mean, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, 0.25 + 0.75 * variance, atol=1e-5)

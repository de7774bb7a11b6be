import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.deeplab import AtrousSpatialPyramidPooling, Decoder


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


def test_dropout_is_active_in_training_with_frozen_batch_norm():
    aspp = AtrousSpatialPyramidPooling(())
    x = tf.random.stateless_normal([1, 40, 40, 8], [1, 2])
    still = run_aspp(aspp, x)
    np.testing.assert_array_equal(still, run_aspp(aspp, x))
    trained = run_aspp(aspp, x, training=True)
    alive = still > 0
    dropped = tf.boolean_mask(trained, alive) == 0
    np.testing.assert_allclose(np.mean(dropped), 0.1, atol=0.01)
    kept = tf.boolean_mask(trained, alive & (trained > 0))
    expected = tf.boolean_mask(still, alive & (trained > 0)) / 0.9
    np.testing.assert_allclose(kept, expected, rtol=1e-5, atol=1e-6)


def test_the_decoder_takes_the_size_of_the_low_level_features():
    decoder = Decoder(24)
    output = decoder(tf.zeros([2, 5, 7, 256]), tf.zeros([2, 9, 14, 24]), batch_statistics=False)
    assert output.shape == [2, 9, 14, 256]
    assert decoder.projection.kernel.shape == [1, 1, 24, 48]
    assert decoder.convolutions[0].pointwise.kernel.shape == [1, 1, 304, 256]

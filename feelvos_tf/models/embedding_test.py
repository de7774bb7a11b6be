import numpy as np
import tensorflow as tf

from feelvos_tf.models.embedding import Embedding, NoisyIdentity


def test_a_pointwise_kernel_starts_as_the_identity_with_noise():
    kernel = NoisyIdentity()([1, 1, 256, 100]).numpy()[0, 0]
    noise = kernel - np.eye(256, 100)
    assert np.abs(noise).max() <= 0.06 + 1e-6
    np.testing.assert_allclose(noise.std(), 0.03 * 0.88, rtol=0.05)


def test_only_channel_0_of_a_depthwise_kernel_starts_as_the_identity():
    kernel = NoisyIdentity()([3, 3, 256, 1]).numpy()[..., 0]
    ones = np.zeros((3, 3, 256))
    ones[1, 1, 0] = 1
    assert np.abs(kernel - ones).max() <= 0.06 + 1e-6


def test_embeddings_are_never_negative():
    embedding = Embedding(10)
    vectors = embedding(tf.random.stateless_normal([2, 6, 7, 256], [1, 2]))
    assert vectors.shape == [2, 6, 7, 10]
    assert float(tf.reduce_min(vectors)) == 0.0
    assert float(tf.reduce_max(vectors)) > 0.0

import numpy as np
import tensorflow as tf

from feelvos_tf.inference.reference_pixels import cluster_reference, k_means
from feelvos_tf.models.global_matching import prepare_reference


def numpy_k_means(pixels, num_centers):
    centers = pixels[np.arange(num_centers) * (len(pixels) // num_centers)].copy()
    for _ in range(10):
        distance = ((pixels[:, np.newaxis] - centers) ** 2).sum(-1)
        nearest = distance.argmin(1)
        for i in range(num_centers):
            if (nearest == i).any():
                centers[i] = pixels[nearest == i].mean(0)
    return centers


def test_centers_agree_with_a_numpy_implementation_of_lloyds_algorithm():
    pixels = np.random.default_rng(0).random((60, 5)).astype(np.float32)
    np.testing.assert_allclose(k_means(tf.constant(pixels), 7), numpy_k_means(pixels, 7), rtol=1e-5)


def test_a_center_without_pixels_does_not_move():
    pixels = tf.constant([[0.0], [0.0], [9.0], [9.0]])
    centers = k_means(pixels, 4).numpy().ravel()
    assert sorted(centers) == [0.0, 0.0, 9.0, 9.0]


def test_only_objects_with_too_many_pixels_are_reduced():
    rng = np.random.default_rng(1)
    embeddings = rng.random((6, 8, 4)).astype(np.float32)
    indices = np.zeros((6, 8), np.int32)
    indices[0, :3], indices[1:3] = 1, 2
    reference = prepare_reference(tf.constant(embeddings), tf.constant(indices), tf.constant(4))
    reduced = tf.function(cluster_reference)(reference, tf.fill([4], 5))
    assert reduced.offsets.numpy().tolist() == [0, 5, 8, 13, 13]
    np.testing.assert_array_equal(reduced.embeddings[5:8], embeddings[0, :3])
    expected = numpy_k_means(embeddings[1:3].reshape(-1, 4), 5)
    np.testing.assert_allclose(reduced.embeddings[8:], expected, rtol=1e-5)

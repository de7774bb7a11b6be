"""Reduces the reference pixels of every object to k-means centers, for faster global matching.

The paper compares with 1024 pixels per object, drawn at random, while training and says that it
hardly matters (section 3, Implementation Details). Centers of clusters keep rare parts of an object
that a random choice may miss.
"""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.global_matching import Reference
from feelvos_tf.models.similarity import fold_query, fold_reference

_ROUNDS = 10


def cluster_reference(reference: Reference, max_pixels: int) -> Reference:
    """Returns a reference with at most `max_pixels` pixels per object.

    Objects that have more are represented by that many k-means centers (Lloyd's algorithm, 10
    rounds, begun from pixels at equal distances in the frame's reading order: the same frame gives
    the same centers); the others are kept as they are.
    """
    num_objects = tf.size(reference.offsets) - 1
    shape = [None, reference.embeddings.shape[-1]]
    kept = tf.TensorArray(tf.float32, num_objects, infer_shape=False, element_shape=shape)
    for i in tf.range(num_objects):
        pixels = reference.embeddings[reference.offsets[i] : reference.offsets[i + 1]]
        if tf.shape(pixels)[0] > max_pixels:
            pixels = k_means(pixels, max_pixels)
        kept = kept.write(i, pixels)
    sizes = tf.minimum(reference.offsets[1:] - reference.offsets[:-1], max_pixels)
    return Reference(kept.concat(), tf.concat([[0], tf.cumsum(sizes)], 0))


def k_means(pixels: tf.Tensor, num_centers: int) -> tf.Tensor:
    """Returns float32 `[num_centers, channels]` for pixels `[num_centers or more, channels]`."""
    count = tf.shape(pixels)[0]
    centers = tf.gather(pixels, tf.range(num_centers) * (count // num_centers))
    queries = fold_query(pixels)
    for _ in tf.range(_ROUNDS):
        similarity = tf.matmul(queries, fold_reference(centers), transpose_b=True)
        nearest = tf.argmax(similarity, -1, output_type=tf.int32)
        sizes = tf.math.unsorted_segment_sum(tf.ones_like(nearest), nearest, num_centers)
        means = tf.math.unsorted_segment_mean(pixels, nearest, num_centers)
        # A center that no pixel is nearest to stays where it is.
        centers = tf.where(sizes[:, tf.newaxis] > 0, means, centers)
    return centers

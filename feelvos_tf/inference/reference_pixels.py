"""Reference pixels: joins those of several frames in one reference and bounds their number.

The pixels of an object may come from the frame it was given in and from frames in which its mask
was corrected. Global matching finds the nearest of all of them.

The paper samples 1024 pixels per object at random, in training only, and reports that this hardly
matters (section 3, Implementation Details). k-means centers preserve rare parts of an object that
random sampling may miss.
"""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.global_matching import Reference, fold_query, fold_reference, owners

_KMEANS_ROUNDS = 10


def joined(
    reference: Reference,
    added: Reference,
    max_pixels: tf.Tensor | int = 0,
    replaced: tf.Tensor | bool = False,
) -> Reference:
    """Returns the pixels of both references.

    Args:
      reference: the existing pixels.
      added: the new pixels, of the same objects.
      max_pixels: see `grouped`.
      replaced: bool, of all objects or of each: whether they keep only the new pixels.
    """
    num_objects = tf.size(reference.offsets) - 1
    is_replaced = tf.gather(tf.broadcast_to(replaced, [num_objects]), owners(reference))
    left = chosen(reference, ~is_replaced)
    pixels = tf.concat([left.embeddings, added.embeddings], 0)
    of_pixels = tf.concat([owners(left), owners(added)], 0)
    return grouped(pixels, of_pixels, num_objects, max_pixels)


def chosen(reference: Reference, is_chosen: tf.Tensor) -> Reference:
    """Returns those of the pixels for which `is_chosen`, bool `[pixels]`, is true."""
    before = tf.concat([[0], tf.cumsum(tf.cast(is_chosen, tf.int32))], 0)
    embeddings = tf.boolean_mask(reference.embeddings, is_chosen)
    return Reference(embeddings, tf.gather(before, reference.offsets))


def grouped(
    pixels: tf.Tensor, of_pixels: tf.Tensor, num_objects: tf.Tensor, max_pixels: tf.Tensor | int
) -> Reference:
    """Returns pixels as a reference, thinned to at most `max_pixels` per object.

    Those kept are evenly spaced in the order of the pixels. All frames that they come from are thus
    thinned equally, and earlier ones fade with every new one.

    Args:
      pixels: float32 `[pixels, channels]`.
      of_pixels: int32 `[pixels]`, the object of each pixel.
      num_objects: int32 scalar.
      max_pixels: int32 scalar or, one for each object, `[objects]`; 0 keeps all.
    """
    order = tf.argsort(of_pixels, stable=True)
    of_pixels = tf.gather(of_pixels, order)
    first = tf.searchsorted(of_pixels, of_pixels, side="left")
    end = tf.searchsorted(of_pixels, of_pixels, side="right")
    # Products of two counts may not fit into 32 bits.
    rank = tf.cast(tf.range(tf.size(of_pixels)) - first, tf.int64)
    count = tf.cast(end - first, tf.int64)
    bound = tf.gather(tf.broadcast_to(tf.cast(max_pixels, tf.int64), [num_objects]), of_pixels)
    is_chosen = (rank + 1) * bound // count > rank * bound // count
    kept = (bound == 0) | (count <= bound) | is_chosen
    order, of_pixels = tf.boolean_mask(order, kept), tf.boolean_mask(of_pixels, kept)
    offsets = tf.searchsorted(of_pixels, tf.range(num_objects + 1))
    return Reference(tf.gather(pixels, order), offsets)


def cluster_reference(reference: Reference, max_pixels: tf.Tensor) -> Reference:
    """Returns a reference with at most `max_pixels` (int32 `[objects]`) pixels per object.

    Objects with more pixels are represented by that many k-means centers (Lloyd's algorithm, 10
    rounds, started from pixels evenly spaced in reading order, so that the same frame gives the
    same centers); the others are unchanged.
    """
    num_objects = tf.size(reference.offsets) - 1
    shape = [None, reference.embeddings.shape[-1]]
    kept = tf.TensorArray(tf.float32, num_objects, infer_shape=False, element_shape=shape)
    for i in tf.range(num_objects):
        pixels = reference.embeddings[reference.offsets[i] : reference.offsets[i + 1]]
        if tf.shape(pixels)[0] > max_pixels[i]:
            pixels = k_means(pixels, max_pixels[i])
        kept = kept.write(i, pixels)
    sizes = tf.minimum(reference.offsets[1:] - reference.offsets[:-1], max_pixels)
    return Reference(kept.concat(), tf.concat([[0], tf.cumsum(sizes)], 0))


def k_means(pixels: tf.Tensor, num_centers: int) -> tf.Tensor:
    """Returns centers, float32 `[num_centers, channels]`, of at least `num_centers` pixels."""
    count = tf.shape(pixels)[0]
    centers = tf.gather(pixels, tf.range(num_centers) * (count // num_centers))
    queries = fold_query(pixels)
    for _ in tf.range(_KMEANS_ROUNDS):
        similarity = tf.matmul(queries, fold_reference(centers), transpose_b=True)
        nearest = tf.argmax(similarity, -1, output_type=tf.int32)
        sizes = tf.math.unsorted_segment_sum(tf.ones_like(nearest), nearest, num_centers)
        means = tf.math.unsorted_segment_mean(pixels, nearest, num_centers)
        # A center that no pixel is nearest to stays where it is.
        centers = tf.where(sizes[:, tf.newaxis] > 0, means, centers)
    return centers

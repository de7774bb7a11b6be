"""Global matching: the distance of each query pixel to the nearest pixel of every object.

Paper section 3, equations 1 and 2. Squared distances |p - q|^2 come from matrix products (see
large_products.py). The reference side is prepared once per video: its pixels are sorted by object.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.models import large_products
from feelvos_tf.models.large_products import (
    block_rows,
    fold_query,
    fold_reference,
    in_steps,
    join_queries,
    largest_of_steps,
    map_chunks,
    split_queries,
)

# Stands for the squared distance to an object without any pixel; maps to 1 (equation 3).
NO_PIXEL_DISTANCE = 1e20
_LOWEST = tf.float32.min
# Queries compared with all reference pixels at a time.
_CHUNK = 512


class Reference(NamedTuple):
    """The pixels that queries are compared with, sorted by object.

    Attributes:
      embeddings: float32 `[pixels, channels]`.
      offsets: int32 `[objects + 1]`; object i owns the pixels `offsets[i]` to `offsets[i + 1] - 1`.
    """

    embeddings: tf.Tensor
    offsets: tf.Tensor


def owners(reference: Reference) -> tf.Tensor:
    """Returns int32 `[pixels]`: the object of every reference pixel."""
    counts = reference.offsets[1:] - reference.offsets[:-1]
    return tf.repeat(tf.range(tf.size(counts)), counts)


def normalize_distance(distance: tf.Tensor) -> tf.Tensor:
    """Returns 1 - 2 / (1 + exp(squared distance)), 0..1 (paper equation 1)."""
    return (tf.sigmoid(distance) - 0.5) * 2.0


def prepare_reference(
    embeddings: tf.Tensor,
    indices: tf.Tensor,
    num_objects: tf.Tensor,
    max_pixels: int | tf.Tensor = 0,
    seed: tf.Tensor | None = None,
) -> Reference:
    """Returns the reference side of the matching.

    Args:
      embeddings: float32 `[h, w, channels]`.
      indices: int32 `[h, w]` object indices; pixels with a negative one are left out.
      num_objects: int32 scalar.
      max_pixels: at most this many pixels per object are kept, chosen at random (0: all of them).
        The paper keeps 1024 while training. An int32 `[objects]` holds a number above 0 for each.
      seed: integer `[2]`, for the choice; None draws at random.
    """
    labels = tf.reshape(indices, [-1])
    order = tf.argsort(labels, stable=True)
    is_bounded = tf.is_tensor(max_pixels) or max_pixels > 0
    if is_bounded:
        shuffled = shuffle(tf.range(tf.size(labels)), seed)
        order = tf.gather(shuffled, tf.argsort(tf.gather(labels, shuffled), stable=True))
    labels = tf.gather(labels, order)
    keep = labels >= 0
    if is_bounded:
        first = tf.searchsorted(labels, labels, side="left")
        most = tf.gather(tf.broadcast_to(max_pixels, [num_objects]), tf.maximum(labels, 0))
        keep &= tf.range(tf.size(labels)) - first < most
    order, labels = tf.boolean_mask(order, keep), tf.boolean_mask(labels, keep)
    pixels = tf.reshape(embeddings, [-1, embeddings.shape[-1]])
    offsets = tf.searchsorted(labels, tf.range(num_objects + 1), side="left")
    return Reference(tf.gather(pixels, order), offsets)


def shuffle(values: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
    """Returns the values in a random order, which follows from `seed` (integer `[2]`) if given."""
    if seed is None:
        return tf.random.shuffle(values)
    return tf.random.experimental.stateless_shuffle(values, seed)


def global_distances(query: tf.Tensor, reference: Reference, k: int = 1) -> tf.Tensor:
    """Returns the squared distances to the nearest pixels of every object.

    Differentiable: the nearest neighbors are found without a gradient, then the distance to them is
    recomputed from the embeddings.

    Args:
      query: float32 `[h, w, channels]`.
      reference: from `prepare_reference`.
      k: the distance is the mean over this many nearest neighbors; an object with fewer pixels
        repeats its farthest one.

    Returns:
      float32 `[objects, h, w]`; `NO_PIXEL_DISTANCE` for an object without pixels. (The 2019 release
      returns 0, a perfect match, for such an object if k > 1.)
    """
    height_width = tf.shape(query)[:2]
    pixels = tf.reshape(query, [-1, query.shape[-1]])
    nearest = tf.stop_gradient(_nearest_pixels(pixels, reference, k))
    found = nearest >= 0
    # The extra row stands in if there is no pixel at all.
    neighbors = tf.gather(tf.pad(reference.embeddings, [[0, 1], [0, 0]]), tf.maximum(nearest, 0))
    distance = tf.reduce_sum(tf.square(pixels[tf.newaxis, :, tf.newaxis] - neighbors), -1)
    farthest = tf.reduce_max(tf.where(found, distance, 0.0), -1, keepdims=True)
    distance = tf.reduce_mean(tf.where(found, distance, farthest), -1)
    distance = tf.where(tf.reduce_any(found, -1), distance, NO_PIXEL_DISTANCE)
    return tf.reshape(distance, tf.concat([tf.shape(distance)[:1], height_width], 0))


def global_distances_inference(query: tf.Tensor, reference: Reference, k: int = 1) -> tf.Tensor:
    """Returns `global_distances` faster and without a gradient.

    |p - q|^2 is computed from norms and a product, so a distance is exact to about 1e-6 of the
    squared norms.
    """
    height_width = tf.shape(query)[:2]
    pixels = tf.reshape(query, [-1, query.shape[-1]])
    largest = _largest_similarity if k == 1 else functools.partial(_mean_similarity, k=k)
    distances = tf.reduce_sum(tf.square(pixels), -1) - largest(pixels, reference)
    # An object without pixels has the lowest float, or minus infinity, as its similarity.
    distances = tf.minimum(distances, NO_PIXEL_DISTANCE)
    return tf.reshape(distances, tf.concat([tf.shape(distances)[:1], height_width], 0))


def nearest_label_votes(query: tf.Tensor, reference: Reference, k: int) -> tf.Tensor:
    """Returns how many of the k nearest reference pixels belong to each object.

    The object with the most votes wins, or the lowest index among equals: the majority vote of
    pixel-wise metric learning. Source: assign_labels_by_nearest_neighbors in
    feelvos/utils/embedding_utils.py of the 2019 release.

    Args:
      query: float32 `[h, w, channels]`.
      reference: from `prepare_reference`.
      k: how many pixels vote; all if there are fewer.

    Returns:
      float32 `[objects, h, w]`.
    """
    folded = tf.transpose(fold_reference(reference.embeddings))
    num_objects = tf.size(reference.offsets) - 1
    of_pixels = owners(reference)
    queries, count = split_queries(fold_query(tf.reshape(query, [-1, query.shape[-1]])), _CHUNK)

    def of_chunk(chunk: tf.Tensor) -> tf.Tensor:
        most = tf.minimum(k, tf.size(of_pixels))
        nearest = tf.math.top_k(tf.matmul(chunk, folded), most).indices
        votes = tf.reduce_sum(tf.one_hot(tf.gather(of_pixels, nearest), num_objects), 1)
        return tf.transpose(votes)

    votes = join_queries(map_chunks(of_chunk, queries), count)
    return tf.reshape(votes, tf.concat([tf.shape(votes)[:1], tf.shape(query)[:2]], 0))


def _largest_similarity(pixels: tf.Tensor, reference: Reference) -> tf.Tensor:
    """Returns float32 `[objects, queries]`; the lowest float for an object without pixels.

    Compares some queries with some reference pixels at a time, so that the product stays in the
    processor's cache. Blocks of a single object are reduced to their maximum first, which leaves
    little for the segmented maximum, which does not use all cores. The cost does not depend on the
    number of objects.
    """
    num_objects = tf.size(reference.offsets) - 1
    queries, count = split_queries(fold_query(pixels), large_products.IN_CACHE)
    owners, rows = block_rows(reference.offsets)
    # The extra row stands in if there is no pixel at all.
    folded = fold_reference(tf.pad(reference.embeddings, [[0, 1], [0, 0]]))
    steps, owners = in_steps(tf.gather(folded, rows)), in_steps(owners, fill=-1)

    def of_objects(step: tf.Tensor, largest: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_max(largest, owners[step], num_objects)

    def of_queries(chunk: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(largest_of_steps(steps, chunk, of_objects), 0)

    # A second chunk keeps the cores busy while the first one is between two products.
    return join_queries(map_chunks(of_queries, queries, at_once=2), count)


def _mean_similarity(pixels: tf.Tensor, reference: Reference, k: int) -> tf.Tensor:
    """Returns float32 `[objects, queries]`: the mean over the k largest similarities.

    An object with fewer pixels repeats its farthest one.
    """
    folded = tf.transpose(fold_reference(reference.embeddings))
    num_objects = tf.size(reference.offsets) - 1
    queries, count = split_queries(fold_query(pixels), _CHUNK)

    def of_chunk(chunk: tf.Tensor) -> tf.Tensor:
        similarity = tf.matmul(chunk, folded)

        def of_object(i: tf.Tensor) -> tf.Tensor:
            own = similarity[:, reference.offsets[i] : reference.offsets[i + 1]]
            size = tf.shape(own)[1]
            own = tf.pad(own, [[0, 0], [0, tf.maximum(k - size, 0)]], constant_values=_LOWEST)
            own = tf.math.top_k(own, k).values
            farthest = own[:, tf.clip_by_value(size, 1, k) - 1]
            return tf.reduce_mean(tf.maximum(own, farthest[:, tf.newaxis]), -1)

        return map_chunks(of_object, tf.range(num_objects))

    return join_queries(map_chunks(of_chunk, queries), count)


def _nearest_pixels(pixels: tf.Tensor, reference: Reference, k: int) -> tf.Tensor:
    """Returns int32 `[objects, queries, k]` rows of `reference.embeddings`, -1 for none."""
    folded = tf.transpose(fold_reference(tf.stop_gradient(reference.embeddings)))
    num_objects = tf.size(reference.offsets) - 1
    queries, count = split_queries(fold_query(tf.stop_gradient(pixels)), _CHUNK)

    def of_chunk(chunk: tf.Tensor) -> tf.Tensor:
        similarity = tf.matmul(chunk, folded)

        def of_object(i: tf.Tensor) -> tf.Tensor:
            start, stop = reference.offsets[i], reference.offsets[i + 1]
            # Columns of the lowest value stand in for pixels that the object does not have.
            own = tf.pad(similarity[:, start:stop], [[0, 0], [0, k]], constant_values=_LOWEST)
            columns = tf.math.top_k(own, k, sorted=False).indices
            return tf.where(columns < stop - start, columns + start, -1)

        return map_chunks(of_object, tf.range(num_objects), tf.int32)

    return join_queries(map_chunks(of_chunk, queries, tf.int32), count)

"""Global matching: the distance of each query pixel to the nearest pixel of every object.

Paper section 3, equations 1 and 2. Squared distances |p - q|^2 come from a matrix product; the
reference side is prepared once per video: its pixels are sorted by object, and the squared norm is
folded into the product as one more channel, so the nearest neighbour is the largest entry of a
product. Distances exist for a chunk of the queries at a time only.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

# Stands for the squared distance to an object without any pixel; maps to 1 (equation 3).
NO_PIXEL_DISTANCE = 1e20
_LOWEST = tf.float32.min
_CHUNK = 512


class Reference(NamedTuple):
    """The pixels that queries are compared with, sorted by object.

    Attributes:
      embeddings: float32 `[pixels, channels]`.
      offsets: int32 `[objects + 1]`; object i owns the pixels `offsets[i]` to `offsets[i + 1] - 1`.
    """

    embeddings: tf.Tensor
    offsets: tf.Tensor


def normalise(distance: tf.Tensor) -> tf.Tensor:
    """Returns 1 - 2 / (1 + exp(squared distance)), 0..1 (paper equation 1)."""
    return (tf.sigmoid(distance) - 0.5) * 2.0


def prepare_reference(
    embeddings: tf.Tensor, indices: tf.Tensor, num_objects: tf.Tensor, max_pixels: int = 0
) -> Reference:
    """Returns the reference side of the matching.

    Args:
      embeddings: float32 `[h, w, channels]`.
      indices: int32 `[h, w]` object indices; pixels with a negative one are left out.
      num_objects: int32 scalar.
      max_pixels: at most this many pixels of an object are kept, chosen at random
        (0: all of them). The paper keeps 1024 while training.
    """
    labels = tf.reshape(indices, [-1])
    order = tf.argsort(labels, stable=True)
    if max_pixels:
        shuffled = tf.random.shuffle(tf.range(tf.size(labels)))
        order = tf.gather(shuffled, tf.argsort(tf.gather(labels, shuffled), stable=True))
    labels = tf.gather(labels, order)
    keep = labels >= 0
    if max_pixels:
        first = tf.searchsorted(labels, labels, side="left")
        keep &= tf.range(tf.size(labels)) - first < max_pixels
    order, labels = tf.boolean_mask(order, keep), tf.boolean_mask(labels, keep)
    pixels = tf.reshape(embeddings, [-1, embeddings.shape[-1]])
    offsets = tf.searchsorted(labels, tf.range(num_objects + 1), side="left")
    return Reference(tf.gather(pixels, order), offsets)


def global_distances(query: tf.Tensor, reference: Reference, k: int = 1) -> tf.Tensor:
    """Returns the squared distances to the nearest pixels of every object.

    Differentiable: only the nearest neighbours are looked up without a gradient, the distance to
    them is computed again from the embeddings.

    Args:
      query: float32 `[h, w, channels]`.
      reference: from `prepare_reference`.
      k: the mean over this many nearest neighbours is taken; an object with fewer pixels repeats
        its farthest one.

    Returns:
      float32 `[objects, h, w]`; `NO_PIXEL_DISTANCE` for an object without pixels. (The 2019 release
      returns 0, a perfect match, for such an object if k > 1.)
    """
    height_width = tf.shape(query)[:2]
    pixels = tf.reshape(query, [-1, query.shape[-1]])
    nearest = tf.stop_gradient(_nearest_pixels(pixels, reference, k))
    found = nearest >= 0
    neighbours = tf.gather(reference.embeddings, tf.maximum(nearest, 0))
    distance = tf.reduce_sum(tf.square(pixels[tf.newaxis, :, tf.newaxis] - neighbours), -1)
    farthest = tf.reduce_max(tf.where(found, distance, 0.0), -1, keepdims=True)
    distance = tf.reduce_mean(tf.where(found, distance, farthest), -1)
    distance = tf.where(tf.reduce_any(found, -1), distance, NO_PIXEL_DISTANCE)
    return tf.reshape(distance, tf.concat([tf.shape(distance)[:1], height_width], 0))


def global_distances_inference(query: tf.Tensor, reference: Reference) -> tf.Tensor:
    """Returns `global_distances(query, reference, k=1)` faster, without a gradient."""
    height_width = tf.shape(query)[:2]
    pixels = tf.reshape(query, [-1, query.shape[-1]])
    folded = _fold_norms(reference.embeddings)
    num_objects = tf.size(reference.offsets) - 1

    def nearest(chunk: tf.Tensor) -> tf.Tensor:
        norms = tf.reduce_sum(tf.square(chunk), -1)
        similarity = _similarity(chunk, folded)

        def of_object(i: tf.Tensor) -> tf.Tensor:
            own = similarity[:, reference.offsets[i] : reference.offsets[i + 1]]
            # An empty range yields -inf or the lowest float; both are clipped to "no pixel".
            return tf.minimum(norms - tf.reduce_max(own, -1), NO_PIXEL_DISTANCE)

        return _map_rows(of_object, num_objects)

    distances = _over_chunks(nearest, pixels, num_objects, tf.float32)
    return tf.reshape(distances, tf.concat([[num_objects], height_width], 0))


def _fold_norms(reference: tf.Tensor) -> tf.Tensor:
    """Returns `[channels + 1, pixels]` so that `[p, 1] @ it` is 2 p.q - |q|^2."""
    norms = tf.reduce_sum(tf.square(reference), -1, keepdims=True)
    return tf.transpose(tf.concat([2.0 * reference, -norms], -1))


def _similarity(chunk: tf.Tensor, folded: tf.Tensor) -> tf.Tensor:
    """Returns |p|^2 minus the squared distance, for all pairs `[queries, pixels]`."""
    ones = tf.ones_like(chunk[:, :1])
    return tf.matmul(tf.concat([chunk, ones], -1), folded)


def _map_rows(function, count: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.map_fn(function, tf.range(count), fn_output_signature=dtype, parallel_iterations=1)


def _over_chunks(function, pixels: tf.Tensor, num_objects: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns `[objects, queries, ...]` from `function(chunk) -> [objects, chunk, ...]`."""
    count = tf.shape(pixels)[0]
    chunks = (count + _CHUNK - 1) // _CHUNK
    padded = tf.pad(pixels, [[0, chunks * _CHUNK - count], [0, 0]])
    padded = tf.reshape(padded, [chunks, _CHUNK, pixels.shape[-1]])
    mapped = tf.map_fn(function, padded, fn_output_signature=dtype, parallel_iterations=1)
    joined = tf.experimental.numpy.swapaxes(mapped, 0, 1)
    shape = tf.concat([[num_objects, chunks * _CHUNK], tf.shape(joined)[3:]], 0)
    return tf.reshape(joined, shape)[:, :count]


def _nearest_pixels(pixels: tf.Tensor, reference: Reference, k: int) -> tf.Tensor:
    """Returns int32 `[objects, queries, k]` rows of `reference.embeddings`, -1 for none."""
    folded = _fold_norms(tf.stop_gradient(reference.embeddings))
    num_objects = tf.size(reference.offsets) - 1

    def nearest(chunk: tf.Tensor) -> tf.Tensor:
        similarity = _similarity(chunk, folded)

        def of_object(i: tf.Tensor) -> tf.Tensor:
            start, stop = reference.offsets[i], reference.offsets[i + 1]
            # Columns of the lowest value stand in for pixels that the object does not have.
            own = tf.pad(similarity[:, start:stop], [[0, 0], [0, k]], constant_values=_LOWEST)
            columns = tf.math.top_k(own, k, sorted=False).indices
            return tf.where(columns < stop - start, columns + start, -1)

        return _map_rows(of_object, num_objects, tf.int32)

    return _over_chunks(nearest, tf.stop_gradient(pixels), num_objects, tf.int32)

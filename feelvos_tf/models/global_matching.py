"""Global matching: the distance of each query pixel to the nearest pixel of every object.

Paper section 3, equations 1 and 2. The reference side is prepared once per video: its pixels are
sorted by object. Squared distances |p - q|^2 come from a few large matrix products: the squared
norm is an extra channel, so that the nearest pixel has the largest entry. Queries are processed in
chunks, so that only some of the distances exist at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# Stands for the squared distance to an object without any pixel; maps to 1 (equation 3).
NO_PIXEL_DISTANCE = 1e20
_LOWEST = tf.float32.min
# Queries processed at a time: their product with a step's blocks stays in the processor's cache.
_CHUNK = 512
# Reference pixels per block, and blocks per step.
BLOCK, _BLOCKS_PER_STEP = 64, 32


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
    num_objects = tf.size(reference.offsets) - 1
    of_pixels = owners(reference)

    def of_chunk(similarity: tf.Tensor) -> tf.Tensor:
        most = tf.minimum(k, tf.size(of_pixels))
        nearest = tf.math.top_k(similarity, most).indices
        votes = tf.reduce_sum(tf.one_hot(tf.gather(of_pixels, nearest), num_objects), 1)
        return tf.transpose(votes)

    pixels = tf.reshape(query, [-1, query.shape[-1]])
    votes = _of_similarities(of_chunk, pixels, reference.embeddings)
    return tf.reshape(votes, tf.concat([tf.shape(votes)[:1], tf.shape(query)[:2]], 0))


def fold_query(pixels: tf.Tensor) -> tf.Tensor:
    """Returns `[p, 1]` for pixels `[..., channels]`: see `fold_reference`."""
    return tf.concat([pixels, tf.ones_like(pixels[..., :1])], -1)


def fold_reference(pixels: tf.Tensor) -> tf.Tensor:
    """Returns `[2 q, -|q|^2]` for pixels `[..., channels]`.

    Its product with `[p, 1]` is the similarity 2 p.q - |q|^2, which is |p|^2 - |p - q|^2: largest
    for the nearest pixel, in a single matrix product.
    """
    norms = tf.reduce_sum(tf.square(pixels), -1, keepdims=True)
    return tf.concat([2.0 * pixels, -norms], -1)


def map_chunks(
    function: Callable, elements: tf.Tensor, dtype: tf.DType = tf.float32, at_once: int = 1
) -> tf.Tensor:
    """Returns the stacked results of `function` for the elements, some computed in parallel."""
    return tf.map_fn(function, elements, fn_output_signature=dtype, parallel_iterations=at_once)


def split_queries(pixels: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `[chunks, size or less, channels]`, zeros at the end, and the number of pixels."""
    count = tf.shape(pixels)[0]
    size = tf.clip_by_value(count, 1, size)
    chunks = tf.maximum((count + size - 1) // size, 1)
    padded = tf.pad(pixels, [[0, chunks * size - count], [0, 0]])
    return tf.reshape(padded, [chunks, size, pixels.shape[-1]]), count


def join_queries(chunks: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns `[objects, queries, ...]` from `[chunks, objects, size, ...]`."""
    joined = tf.experimental.numpy.swapaxes(chunks, 0, 1)
    shape = tf.shape(joined)
    flat = tf.concat([shape[:1], [shape[1] * shape[2]], shape[3:]], 0)
    return tf.reshape(joined, flat)[:, :count]


def _largest_similarity(pixels: tf.Tensor, reference: Reference) -> tf.Tensor:
    """Returns float32 `[objects, queries]`; the lowest float for an object without pixels.

    Compares some queries with some reference pixels at a time, so that the product stays in the
    processor's cache. The pixels are grouped into blocks of a single object each. Blocks are
    reduced to their maximum first, which leaves little for the segmented maximum, which does not
    use all cores. The cost does not depend on the number of objects.
    """
    num_objects = tf.size(reference.offsets) - 1
    queries, count = split_queries(fold_query(pixels), _CHUNK)
    owners, rows = _block_rows(reference.offsets)
    # The extra row stands in if there is no pixel at all.
    folded = fold_reference(tf.pad(reference.embeddings, [[0, 1], [0, 0]]))
    steps, owners = _in_steps(tf.gather(folded, rows)), _in_steps(owners, fill=-1)

    def of_queries(chunk: tf.Tensor) -> tf.Tensor:
        columns = tf.transpose(chunk)

        def of_step(step: tf.Tensor) -> tf.Tensor:
            products = tf.matmul(tf.reshape(steps[step], [-1, steps.shape[-1]]), columns)
            # Max pooling computes the maxima because it uses all cores.
            products = products[tf.newaxis, :, tf.newaxis]
            largest = tf.nn.max_pool2d(products, [BLOCK, 1], [BLOCK, 1], "VALID")
            return tf.math.unsorted_segment_max(largest[0, :, 0], owners[step], num_objects)

        return tf.reduce_max(map_chunks(of_step, tf.range(tf.shape(steps)[0])), 0)

    # A second chunk keeps the cores busy while the first one is between two products.
    return join_queries(map_chunks(of_queries, queries, at_once=2), count)


def _block_rows(offsets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Assigns the reference pixels to blocks.

    An object whose pixels do not fill its last block repeats one of them.

    Args:
      offsets: int32 `[objects + 1]`.

    Returns:
      owners: int32 `[blocks]`, ascending, the object of each block.
      rows: int32 `[blocks, BLOCK]`, the pixels in the blocks.
    """
    first, end = offsets[:-1], offsets[1:]
    counts = -((first - end) // BLOCK)
    owners = tf.repeat(tf.range(tf.size(counts)), counts)
    position = tf.range(tf.size(owners)) - tf.gather(tf.cumsum(counts, exclusive=True), owners)
    rows = (tf.gather(first, owners) + position * BLOCK)[:, tf.newaxis] + tf.range(BLOCK)
    rows = tf.minimum(rows, tf.gather(end, owners)[:, tf.newaxis] - 1)
    return owners, rows


def _in_steps(blocks: tf.Tensor, fill: float = 0) -> tf.Tensor:
    """Returns `[steps, blocks per step, ...]` for `[blocks, ...]`, padded at the end with `fill`.

    There is at least one step, even without blocks.
    """
    total = tf.shape(blocks)[0]
    steps = tf.maximum(-(-total // _BLOCKS_PER_STEP), 1)
    per_step = tf.maximum(-(-total // steps), 1)
    missing = [[0, steps * per_step - total], *[[0, 0]] * (blocks.shape.rank - 1)]
    filled = tf.pad(blocks, missing, constant_values=fill)
    filled = tf.reshape(filled, tf.concat([[steps, per_step], tf.shape(blocks)[1:]], 0))
    return tf.ensure_shape(filled, [None, None, *blocks.shape[1:]])


def _mean_similarity(pixels: tf.Tensor, reference: Reference, k: int) -> tf.Tensor:
    """Returns float32 `[objects, queries]`: the mean over the k largest similarities.

    An object with fewer pixels repeats its farthest one.
    """

    def of_object(own: tf.Tensor) -> tf.Tensor:
        size = tf.shape(own)[1]
        own = tf.pad(own, [[0, 0], [0, tf.maximum(k - size, 0)]], constant_values=_LOWEST)
        own = tf.math.top_k(own, k).values
        farthest = own[:, tf.clip_by_value(size, 1, k) - 1]
        return tf.reduce_mean(tf.maximum(own, farthest[:, tf.newaxis]), -1)

    return _of_objects(of_object, pixels, reference)


def _nearest_pixels(pixels: tf.Tensor, reference: Reference, k: int) -> tf.Tensor:
    """Returns int32 `[objects, queries, k]` rows of `reference.embeddings`, -1 for none."""

    def of_object(own: tf.Tensor) -> tf.Tensor:
        # Columns of the lowest value stand in for pixels that the object does not have.
        padded = tf.pad(own, [[0, 0], [0, k]], constant_values=_LOWEST)
        columns = tf.math.top_k(padded, k, sorted=False).indices
        return tf.where(columns < tf.shape(own)[1], columns, -1)

    fixed = reference._replace(embeddings=tf.stop_gradient(reference.embeddings))
    columns = _of_objects(of_object, tf.stop_gradient(pixels), fixed, tf.int32)
    return tf.where(columns < 0, -1, columns + reference.offsets[:-1, tf.newaxis, tf.newaxis])


def _of_objects(
    function: Callable, pixels: tf.Tensor, reference: Reference, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Returns `[objects, queries, ...]`: `function` of an object's similarities."""
    offsets = reference.offsets

    def of_chunk(similarity: tf.Tensor) -> tf.Tensor:
        def of_object(i: tf.Tensor) -> tf.Tensor:
            return function(similarity[:, offsets[i] : offsets[i + 1]])

        return map_chunks(of_object, tf.range(tf.size(offsets) - 1), dtype)

    return _of_similarities(of_chunk, pixels, reference.embeddings, dtype)


def _of_similarities(
    function: Callable, pixels: tf.Tensor, others: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Returns `[objects, queries, ...]`: `function` of the similarities of some queries, joined."""
    folded = tf.transpose(fold_reference(others))
    queries, count = split_queries(fold_query(pixels), _CHUNK)
    results = map_chunks(lambda chunk: function(tf.matmul(chunk, folded)), queries, dtype)
    return join_queries(results, count)

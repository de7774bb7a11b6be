"""Cases of `tools/benchmark matching`: the fast paths, and the same math implemented plainly."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from measure import Case

from feelvos_tf.models.global_matching import (
    NO_PIXEL_DISTANCE,
    Reference,
    global_distances,
    global_distances_inference,
    join_queries,
    map_chunks,
    owners,
    prepare_reference,
    split_queries,
)
from feelvos_tf.models.local_matching import (
    import_addons,
    local_distances,
    local_distances_correlation,
    local_distances_inference,
    windows,
)

# Cases that need CorrelationCost are skipped if the add-ons are not installed.
HAS_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None
# The 2019 release splits the query pixels of a frame into this many pieces.
RELEASE_CHUNKS = 500

_CHANNELS = 100
_MANY_OBJECTS = 20
_TRAIN_PIXELS_PER_OBJECT = 1024
_GLOBAL_TRAINING = f"global matching with gradient, {_TRAIN_PIXELS_PER_OBJECT} pixels per object"
_LOCAL_TRAINING = "local matching with gradient"
_CORRELATION = "CorrelationCost, masks, minimum"


class Sizes(NamedTuple):
    """Size of the stride-4 grid, number of objects and window radius."""

    height: int
    width: int
    objects: int
    radius: int


def matching_cases(sizes: Sizes) -> list[Case]:
    """Returns the cases; ours first in each group."""
    return [*_global_cases(sizes), *_local_cases(sizes), *_training_cases(sizes)]


def _frames(sizes: Sizes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns two frames of embeddings, and labels in blobs, like real masks."""
    rng = np.random.default_rng(0)
    shape = (sizes.height, sizes.width, _CHANNELS)
    query, other = (tf.constant(rng.random(shape, np.float32)) for _ in range(2))
    rows, columns = np.mgrid[: sizes.height, : sizes.width]
    labels = np.zeros((sizes.height, sizes.width), np.int32)
    for i in range(1, sizes.objects):
        y, x = rng.integers(sizes.height), rng.integers(sizes.width)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < (sizes.height // 5) ** 2] = i
    return query, other, tf.constant(labels)


def _flat(sizes: Sizes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    query, other, labels = _frames(sizes)
    query, other = (tf.reshape(x, [-1, _CHANNELS]) for x in (query, other))
    return query, other, tf.reshape(labels, [-1])


def _compiled(function: Callable, *arguments) -> Callable[[], object]:
    return functools.partial(tf.function(function), *arguments)


def _global_cases(sizes: Sizes) -> list[Case]:
    def ours(objects: int, max_pixels: int = 0) -> Callable[[], object]:
        query, other, labels = _frames(sizes._replace(objects=objects))
        reference = prepare_reference(other, labels, tf.constant(objects), max_pixels)
        return _compiled(global_distances_inference, query, reference)

    def product(function: Callable) -> Callable[[], object]:
        return _compiled(function, *_flat(sizes)[:2])

    def release() -> Callable[[], object]:
        return _compiled(lambda *flat: release_global(*flat, sizes.objects), *_flat(sizes))

    group = f"global matching, {sizes.height}x{sizes.width} against the same"
    n = sizes.objects
    return [
        Case(f"ours, {n} objects", group, lambda: ours(n)),
        Case("bare product, at once", group, lambda: product(bare_product)),
        Case("bare product, 512 queries at a time", group, lambda: product(chunked_product)),
        Case(f"release's formula, {n} objects", group, release),
        Case(f"ours, {_MANY_OBJECTS} objects", group, lambda: ours(_MANY_OBJECTS)),
        Case("ours, 4096 reference pixels per object", group, lambda: ours(n, 4096)),
        Case("ours, 1024 reference pixels per object", group, lambda: ours(n, 1024)),
    ]


def _local_cases(sizes: Sizes) -> list[Case]:
    def local(function: Callable, objects: int = sizes.objects) -> Callable[[], object]:
        frames = _frames(sizes._replace(objects=objects))
        return _compiled(lambda *tensors: function(*tensors, objects, sizes.radius), *frames)

    group = f"local matching, window radius {sizes.radius}"
    n = sizes.objects
    cases = [
        Case(f"ours, {n} objects", group, lambda: local(local_distances_inference)),
        Case(f"shifted loop, {n} objects", group, lambda: local(shifted_local)),
    ]
    many = functools.partial(local, local_distances_inference, _MANY_OBJECTS)
    cases.append(Case(f"ours, {_MANY_OBJECTS} objects", group, many))
    if HAS_ADDONS:
        cases.append(Case(f"{_CORRELATION}, {n} objects", group, lambda: local(correlation_local)))
        name = "setting local_matching = 'correlation'"
        cases.append(Case(name, group, lambda: local(local_distances_correlation)))
    return cases


def _training_cases(sizes: Sizes) -> list[Case]:
    def with_gradient(function: Callable) -> Callable[[], object]:
        def step(query, other, labels):
            with tf.GradientTape() as tape:
                tape.watch([query, other])
                loss = tf.reduce_sum(tf.sigmoid(function(query, other, labels)))
            return tape.gradient(loss, [query, other])

        return _compiled(step, *_frames(sizes))

    def reference(other, labels) -> Reference:
        objects = tf.constant(sizes.objects)
        return prepare_reference(other, labels, objects, _TRAIN_PIXELS_PER_OBJECT)

    def ours_global(query, other, labels):
        return global_distances(query, reference(other, labels))

    def naive(query, other, labels):
        chosen, flat = reference(other, labels), tf.reshape(query, [-1, _CHANNELS])
        return naive_global(flat, chosen.embeddings, owners(chosen), sizes.objects)

    def local(function: Callable) -> Callable:
        return lambda *frames: function(*frames, sizes.objects, sizes.radius)

    functions = [
        ("ours", _GLOBAL_TRAINING, ours_global),
        ("all distances at once", _GLOBAL_TRAINING, naive),
        ("ours", _LOCAL_TRAINING, local(local_distances)),
    ]
    if HAS_ADDONS:
        functions.append((_CORRELATION, _LOCAL_TRAINING, local(correlation_local)))
    return [
        Case(name, group, functools.partial(with_gradient, function))
        for name, group, function in functions
    ]


def bare_product(query: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Returns the product `[queries, pixels]`, computed at once."""
    return tf.matmul(query, reference, transpose_b=True)


def chunked_product(query: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Returns one entry of the product per chunk of queries: its FLOPs without its memory."""
    transposed = tf.transpose(reference)
    pieces, _ = split_queries(query, 512)
    return map_chunks(lambda piece: tf.matmul(piece, transposed)[0, 0], pieces)


def release_global(
    query: tf.Tensor, reference: tf.Tensor, labels: tf.Tensor, num_objects: int
) -> tf.Tensor:
    """Returns `[objects, queries]` squared distances by the 2019 release's formula.

    It computes all distances of a piece of the queries, then a mask and a minimum per object.

    Args:
      query: `[queries, channels]`.
      reference: `[pixels, channels]`.
      labels: `[pixels]` object indices.
      num_objects: background included.
    """
    norms = tf.reduce_sum(reference**2, -1)
    pieces, count = split_queries(query, -(-query.shape[0] // RELEASE_CHUNKS))

    def of_piece(piece: tf.Tensor) -> tf.Tensor:
        products = tf.matmul(piece, reference, transpose_b=True)
        return _nearest(piece, norms, products, labels, num_objects)

    return join_queries(map_chunks(of_piece, pieces), count)


def naive_global(
    query: tf.Tensor, reference: tf.Tensor, labels: tf.Tensor, num_objects: int
) -> tf.Tensor:
    """Returns the result of `release_global`, with all distances in memory at once."""
    norms = tf.reduce_sum(reference**2, -1)
    products = tf.matmul(query, reference, transpose_b=True)
    return _nearest(query, norms, products, labels, num_objects)


def correlation_local(
    query: tf.Tensor, previous: tf.Tensor, labels: tf.Tensor, num_objects: int, radius: int
) -> tf.Tensor:
    """Returns `[objects, h, w]` by tensorflow_addons' correlation, masks and a minimum.

    Args:
      query, previous: `[h, w, channels]`.
      labels: `[h, w]` object indices of the previous frame.
      num_objects: background included.
      radius: of the window.
    """
    layer = import_addons().layers.CorrelationCost(1, radius, 1, 1, radius, "channels_last")
    products = layer([query[tf.newaxis], previous[tf.newaxis]])[0] * query.shape[-1]
    norms = windows(tf.reduce_sum(previous**2, -1), radius, 0.0)
    return _nearest(query, norms, products, windows(labels, radius, -1), num_objects)


def shifted_local(
    query: tf.Tensor, previous: tf.Tensor, labels: tf.Tensor, num_objects: int, radius: int
) -> tf.Tensor:
    """Returns the result of `correlation_local`, by a running minimum over all shifts."""
    margin = [[radius, radius], [radius, radius]]
    previous = tf.pad(previous, [*margin, [0, 0]])
    owners = tf.pad(labels, margin, constant_values=-1)
    height, width = query.shape[:2]
    side = 2 * radius + 1

    def shift(index: tf.Tensor, nearest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y, x = index // side, index % side
        moved = previous[y : y + height, x : x + width]
        owner = owners[y : y + height, x : x + width]
        distance = tf.reduce_sum((query - moved) ** 2, -1)
        own = tf.stack(
            [tf.where(owner == i, distance, NO_PIXEL_DISTANCE) for i in range(num_objects)]
        )
        return index + 1, tf.minimum(nearest, own)

    start = (tf.constant(0), tf.fill([num_objects, height, width], NO_PIXEL_DISTANCE))
    return tf.while_loop(lambda i, _: i < side**2, shift, start, parallel_iterations=1)[1]


def _nearest(
    query: tf.Tensor, norms: tf.Tensor, products: tf.Tensor, owners: tf.Tensor, num_objects: int
) -> tf.Tensor:
    """Returns `[objects, ...]` squared distances of queries to the nearest of the other pixels.

    Args:
      query: `[..., channels]`.
      norms, products, owners: `[..., pixels]` squared norms of the other pixels, their products
        with the query, and their object indices.
      num_objects: background included.
    """
    distances = tf.reduce_sum(query**2, -1, keepdims=True) + norms - 2.0 * products
    masked = [tf.where(owners == i, distances, NO_PIXEL_DISTANCE) for i in range(num_objects)]
    return tf.stack([tf.reduce_min(own, -1) for own in masked])

"""Cases of `tools/benchmark matching`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from measure import Case
from yardsticks import (
    HAS_ADDONS,
    bare_product,
    chunked_product,
    correlation_local,
    naive_global,
    release_global,
    shifted_local,
)

from feelvos_tf.models.global_matching import (
    Reference,
    global_distances,
    global_distances_inference,
    owners,
    prepare_reference,
)
from feelvos_tf.models.local_matching import (
    local_distances,
    local_distances_correlation,
    local_distances_inference,
)

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

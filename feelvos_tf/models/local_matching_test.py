import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.global_matching import (
    NO_PIXEL_DISTANCE,
    global_distances,
    normalize_distance,
    prepare_reference,
)
from feelvos_tf.models.local_matching import LOCAL_MATCHINGS


@pytest.fixture(scope="module")
def release(golden):
    return dict(np.load(golden / "matching.npz"))


@pytest.fixture(params=sorted(LOCAL_MATCHINGS))
def local_distances(request):
    if request.param == "correlation":
        pytest.importorskip("tensorflow_addons")
    return LOCAL_MATCHINGS[request.param]


def golden_maps(release, local_distances, radius, query=None, previous=None):
    return local_distances(
        tf.constant(release["query_embedding"]) if query is None else query,
        tf.constant(release["previous_embedding"]) if previous is None else previous,
        tf.constant(release["previous_labels"], tf.int32),
        4,
        radius,
    )


def slow_distances(query, previous, labels, num_objects, radius):
    """Returns the squared distance to the nearest pixel of every object in the window."""
    height, width = labels.shape
    query, previous, labels = (value.numpy() for value in (query, previous, labels))
    maps = np.full((num_objects, height, width), NO_PIXEL_DISTANCE)
    for y in range(height):
        for x in range(width):
            top, left = max(y - radius, 0), max(x - radius, 0)
            window = slice(top, y + radius + 1), slice(left, x + radius + 1)
            squared = np.square(query[y, x].astype(np.float64) - previous[window]).sum(-1)
            for i in range(num_objects):
                own = squared[labels[window] == i]
                maps[i, y, x] = own.min() if own.size else NO_PIXEL_DISTANCE
    return maps


def random_case(seed, size, num_objects, channels=4):
    rng = np.random.default_rng(seed)
    query, previous = rng.standard_normal((2, *size, channels)).astype(np.float32)
    labels = rng.integers(-1, num_objects, size).astype(np.int32)
    return tf.constant(query), tf.constant(previous), tf.constant(labels)


@pytest.mark.parametrize("radius", [2, 4, 15])
def test_maps_equal_the_release_s(release, local_distances, radius):
    """Object 2 is absent from the previous frame; window 15 extends beyond the frame."""
    found = golden_maps(release, local_distances, radius)
    np.testing.assert_allclose(
        normalize_distance(found), release[f"local_w{radius}_norm"], atol=1e-5
    )
    expected = np.minimum(release[f"local_w{radius}_raw"], NO_PIXEL_DISTANCE)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_gradient_reaches_the_previous_frame_as_in_the_release(release, local_distances):
    previous = tf.constant(release["previous_embedding"])
    with tf.GradientTape() as tape:
        tape.watch(previous)
        maps = normalize_distance(golden_maps(release, local_distances, 4, previous=previous))
        loss = tf.reduce_sum(maps * release["grad_weight"])
    gradient = tf.convert_to_tensor(tape.gradient(loss, previous))
    np.testing.assert_allclose(gradient, release["grad_previous"], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "num_objects", "radius"),
    [
        ((1, 1), 1, 1),
        ((1, 9), 2, 3),
        ((13, 1), 2, 2),
        ((8, 8), 4, 1),
        ((9, 17), 4, 3),
        ((11, 7), 3, 15),
        ((5, 6), 2, 40),
        ((16, 24), 2, 0),
    ],
)
def test_maps_equal_the_definition(local_distances, size, num_objects, radius):
    if radius == 0 and "correlation" in local_distances.__name__:
        pytest.skip("the correlation layer needs a window")
    query, previous, labels = random_case(radius, size, num_objects)
    found = local_distances(query, previous, labels, num_objects, radius)
    expected = slow_distances(query, previous, labels, num_objects, radius)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_previous_frame_that_is_all_void_has_the_largest_distance(local_distances):
    query, previous, labels = random_case(0, (6, 7), 3)
    found = local_distances(query, previous, tf.fill(labels.shape, -1), 3, 2)
    np.testing.assert_array_equal(normalize_distance(found), np.ones((3, 6, 7)))


def test_more_objects_than_the_frame_holds(local_distances):
    query, previous, labels = random_case(0, (10, 9), 2)
    found = local_distances(query, previous, labels, 4, 3)
    expected = slow_distances(query, previous, labels, 4, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(normalize_distance(found[2:]), np.ones((2, 10, 9)))


def test_a_pixel_just_outside_the_window_does_not_count(local_distances):
    embeddings = tf.ones([9, 9, 2])
    labels = tf.scatter_nd([[4, 4]], [1], [9, 9])
    maps = normalize_distance(local_distances(embeddings, embeddings, labels, 2, 3)).numpy()
    near = np.abs(np.mgrid[:9, :9] - 4).max(0) <= 3
    np.testing.assert_array_equal(maps[1], np.where(near, 0.0, 1.0))


def test_gradient_at_the_query_of_both_matchings_together_equals_the_release_s(
    release, local_distances
):
    query = tf.constant(release["query_embedding"])
    labels = tf.constant(release["reference_labels"], tf.int32)
    reference = prepare_reference(release["reference_embedding"], labels, 4)
    with tf.GradientTape() as tape:
        tape.watch(query)
        maps = normalize_distance(golden_maps(release, local_distances, 4, query=query))
        maps += normalize_distance(global_distances(query, reference))
        loss = tf.reduce_sum(maps * release["grad_weight"])
    gradient = tape.gradient(loss, query)
    np.testing.assert_allclose(gradient, release["grad_query"], atol=1e-5)

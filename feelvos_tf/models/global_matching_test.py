import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.global_matching import (
    NO_PIXEL_DISTANCE,
    global_distances,
    global_distances_inference,
    nearest_label_votes,
    normalize_distance,
    prepare_reference,
)


@pytest.fixture(scope="module")
def release(golden):
    return dict(np.load(golden / "matching.npz"))


def reference_of(release, frame="reference"):
    labels = tf.constant(release[f"{frame}_labels"], tf.int32)
    return prepare_reference(tf.constant(release[f"{frame}_embedding"]), labels, 4)


def slow_distances(query, pixels, labels, num_objects, k=1):
    """Returns the mean squared distance to the k nearest pixels of every object, in float64."""
    queries = query.numpy().reshape(-1, query.shape[-1]).astype(np.float64)
    pixels = pixels.numpy().reshape(-1, pixels.shape[-1]).astype(np.float64)
    labels = labels.numpy()
    squared = np.square(queries[:, None] - pixels).sum(-1)
    maps = np.full((num_objects, len(queries)), NO_PIXEL_DISTANCE)
    for i in range(num_objects):
        own = np.sort(squared[:, labels.ravel() == i], 1)[:, :k]
        if own.shape[1]:
            padded = np.pad(own, [(0, 0), (0, k - own.shape[1])], mode="edge")
            maps[i] = padded.mean(1)
    return maps.reshape(num_objects, *query.shape[:2])


def random_case(seed, query_size, reference_size, num_objects, channels=5):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((*query_size, channels)).astype(np.float32)
    pixels = rng.standard_normal((*reference_size, channels)).astype(np.float32)
    labels = rng.integers(-1, num_objects, reference_size).astype(np.int32)
    return tf.constant(query), tf.constant(pixels), tf.constant(labels)


def test_distances_equal_the_release_s_for_one_and_three_neighbors(release):
    query, reference = tf.constant(release["query_embedding"]), reference_of(release)
    for k in (1, 3):
        found = global_distances(query, reference, k)
        np.testing.assert_allclose(found[:3], release[f"global_k{k}_raw"][:3], atol=1e-5)
        np.testing.assert_allclose(
            normalize_distance(found[:3]), release[f"global_k{k}_norm"][:3], atol=1e-5
        )
    found = global_distances_inference(query, reference)
    np.testing.assert_allclose(found, release["global_k1_raw"], atol=1e-5)


def test_an_object_with_fewer_than_k_pixels_repeats_its_farthest(release):
    assert (release["reference_labels"] == 3).sum() == 2
    query = tf.constant(release["query_embedding"])
    found = global_distances(query, reference_of(release), 3)
    np.testing.assert_allclose(found[3], release["global_k3_raw"][3], atol=1e-5)


def test_an_absent_object_has_the_largest_distance(release):
    query, previous = tf.constant(release["query_embedding"]), reference_of(release, "previous")
    for distances in (global_distances, global_distances_inference):
        found = distances(query, previous)
        np.testing.assert_allclose(found, release["global_prev_absent_raw"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            normalize_distance(found), release["global_prev_absent_norm"], atol=1e-5
        )


def test_with_three_neighbors_only_an_absent_object_differs_from_the_release(release):
    """The release gives it distance 0, a perfect match."""
    query, previous = tf.constant(release["query_embedding"]), reference_of(release, "previous")
    found = normalize_distance(global_distances(query, previous, 3))
    expected = release["global_prev_absent_k3_norm"]
    np.testing.assert_allclose(np.delete(found, 2, 0), np.delete(expected, 2, 0), atol=1e-5)
    np.testing.assert_array_equal(expected[2], 0.0)
    np.testing.assert_array_equal(found[2], 1.0)


def test_gradient_reaches_the_reference_as_in_the_release(release):
    embeddings = tf.constant(release["reference_embedding"])
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        labels = tf.constant(release["reference_labels"], tf.int32)
        reference = prepare_reference(embeddings, labels, 4)
        query = tf.constant(release["query_embedding"])
        maps = normalize_distance(global_distances(query, reference))
        loss = tf.reduce_sum(maps * release["grad_weight"])
    gradient = tf.convert_to_tensor(tape.gradient(loss, embeddings))
    np.testing.assert_allclose(gradient, release["grad_reference"], atol=1e-5)


@pytest.mark.parametrize(
    ("query_size", "reference_size", "num_objects"),
    [((1, 1), (1, 1), 1), ((7, 9), (13, 5), 4), ((17, 31), (23, 24), 2), ((32, 33), (3, 3), 6)],
)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_distances_equal_the_definition(query_size, reference_size, num_objects, k):
    query, pixels, labels = random_case(k, query_size, reference_size, num_objects)
    reference = prepare_reference(pixels, labels, num_objects)
    expected = slow_distances(query, pixels, labels, num_objects, k)
    found = global_distances(query, reference, k)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    if k == 1:
        found = global_distances_inference(query, reference)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_reference_that_is_all_void_has_the_largest_distance():
    query, pixels, labels = random_case(0, (5, 6), (4, 4), 3)
    reference = prepare_reference(pixels, tf.fill(labels.shape, -1), 3)
    for found in (global_distances(query, reference), global_distances_inference(query, reference)):
        np.testing.assert_array_equal(normalize_distance(found), np.ones((3, 5, 6)))


def test_permuting_the_objects_permutes_the_maps():
    query, pixels, labels = random_case(1, (6, 7), (9, 8), 4)
    order = np.array([2, 0, 3, 1])
    renamed = tf.constant(np.where(labels < 0, -1, np.argsort(order)[labels]), tf.int32)
    maps, permuted = (
        global_distances_inference(query, prepare_reference(pixels, indices, 4))
        for indices in (labels, renamed)
    )
    np.testing.assert_allclose(permuted, maps.numpy()[order], atol=1e-5)


def test_a_frame_matched_with_itself_has_distance_zero():
    query, _, labels = random_case(2, (8, 9), (8, 9), 3)
    reference = prepare_reference(query, labels, 3)
    for distances in (global_distances, global_distances_inference):
        found, labels = distances(query, reference).numpy(), np.asarray(labels)
        own = np.take_along_axis(found, np.maximum(labels, 0)[None], 0)[0]
        np.testing.assert_allclose(own[labels >= 0], 0.0, atol=1e-5)


def test_at_most_max_pixels_of_an_object_are_kept_and_they_vary():
    _, pixels, labels = random_case(3, (1, 1), (20, 20), 3)
    pixels, labels = pixels.numpy(), labels.numpy()
    labels[:2, :2] = 3
    tensors = tf.constant(pixels), tf.constant(labels)
    kept = [prepare_reference(*tensors, 4, max_pixels=10) for _ in range(2)]
    counts = [np.diff(reference.offsets) for reference in kept]
    np.testing.assert_array_equal(counts, [[10, 10, 10, (labels == 3).sum()]] * 2)
    assert not np.array_equal(kept[0].embeddings, kept[1].embeddings)
    for i in range(4):
        own = {tuple(p) for p in pixels[labels == i]}
        start, stop = kept[0].offsets[i : i + 2]
        chosen = {tuple(p) for p in kept[0].embeddings[start:stop].numpy()}
        assert len(chosen) == counts[0][i]
        assert chosen <= own


@pytest.mark.parametrize("k", [1, 5, 200])
def test_votes_are_the_labels_of_the_nearest_pixels(k):
    query, pixels, labels = random_case(7, (9, 8), (10, 9), 3)
    votes = nearest_label_votes(query, prepare_reference(pixels, labels, 3), k).numpy()
    expected = np.zeros((3, 9, 8))
    known = labels.numpy().ravel() >= 0
    for place in np.ndindex(9, 8):
        distances = np.square(pixels.numpy().reshape(-1, 5) - query.numpy()[place]).sum(-1)
        nearest = np.argsort(np.where(known, distances, np.inf), kind="stable")[:k]
        nearest = nearest[known[nearest]]
        expected[(slice(None), *place)] = np.bincount(labels.numpy().ravel()[nearest], minlength=3)
    np.testing.assert_array_equal(votes, expected)

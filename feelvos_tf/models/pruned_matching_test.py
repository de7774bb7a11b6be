"""Pruned global matching: nothing that can win is left out, and most of the rest is."""

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models import global_matching, large_products, pruned_matching
from feelvos_tf.models.global_matching import Reference

CHANNELS = 12


_CENTERS = np.random.default_rng(0).normal(0, 0.7, (40, CHANNELS))


def _alike(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns embeddings as a trained network makes them: tight groups, far from each other."""
    noise = rng.normal(0, 0.07, (count, CHANNELS))
    return (_CENTERS[rng.integers(0, len(_CENTERS), count)] + noise).astype(np.float32)


def _reference(pixels: np.ndarray, offsets: list[int]) -> Reference:
    return Reference(tf.constant(pixels), tf.constant(offsets, tf.int32))


def _oracle(queries: np.ndarray, reference: Reference) -> np.ndarray:
    """Returns the squared distances to the nearest pixel of each object, one query at a time."""
    pixels, offsets = (array.numpy() for array in reference)
    found = np.full((len(offsets) - 1, len(queries)), global_matching.NO_PIXEL_DISTANCE)
    for i, (first, end) in enumerate(zip(offsets, offsets[1:])):
        for j, query in enumerate(queries.astype(np.float64)):
            if end > first:
                found[i, j] = np.square(pixels[first:end] - query).sum(-1).min()
    return found


@pytest.mark.parametrize("offsets", [[0, 1000], [0, 700, 700, 701, 1000], [0, 64, 192, 1000]])
def test_sorting_permutes_each_object_within_itself_and_makes_small_blocks(offsets):
    pixels = _alike(np.random.default_rng(0), 1000)
    order = large_products.sort_into_blocks(tf.constant(pixels), tf.constant(offsets)).numpy()
    for first, end in zip(offsets, offsets[1:]):
        np.testing.assert_array_equal(np.sort(order[first:end]), np.arange(first, end))
    before = pruned_matching.make_blocks(*_reference(pixels, offsets))
    after = pruned_matching.make_blocks(*_reference(pixels[order], offsets))
    spread_before, spread_after = (
        tf.reduce_mean(tf.math.reduce_variance(blocks.pixels, 1)) for blocks in (before, after)
    )
    assert spread_after < 0.8 * spread_before


def test_every_block_holds_pixels_of_its_owner_alone():
    pixels, offsets = _alike(np.random.default_rng(1), 300), [0, 130, 130, 300]
    blocks = pruned_matching.make_blocks(*_reference(pixels, offsets))
    np.testing.assert_array_equal(blocks.owners, [0, 0, 0, 2, 2, 2])
    for owner in (0, 2):
        own = np.concatenate(blocks.pixels.numpy()[blocks.owners.numpy() == owner])
        expected = pixels[offsets[owner] : offsets[owner + 1]]
        np.testing.assert_array_equal(np.unique(own, axis=0), np.unique(expected, axis=0))


@pytest.mark.parametrize("rank", [CHANNELS, 15, 17, 30])
def test_projections_are_no_farther_from_each_other_than_their_pixels(rank):
    """Also where the axes leave nothing out, and where the queries lie off the axes."""
    rng = np.random.default_rng(rank)
    channels = max(rank, CHANNELS) + (rank != CHANNELS)
    pixels = rng.normal(0, 3, (300, rank)) @ rng.normal(0, 1, (rank, channels))
    queries = np.concatenate([pixels[:50] + 0.01, rng.normal(2, 3, (50, channels))])
    reference = _reference(pixels.astype("f"), [0, 170, 300])
    blocks = pruned_matching.make_blocks(*reference)
    least = pruned_matching.least_distances(tf.constant(queries, tf.float32), blocks).numpy()
    between = blocks.pixels.numpy()[:, :, None] - queries.astype("f").astype(np.float64)
    exact = np.square(between).sum(-1).min(1)
    slack = 1e-5 * (np.square(queries).sum(-1) + np.square(pixels).sum(-1).max())
    assert least.shape == exact.shape == (6, 100)
    assert (least <= exact + slack).all()
    # What is left out is not much: the bound is worth something.
    assert np.median(least / exact) > 0.4


@pytest.mark.parametrize("seed", range(4))
def test_pruned_distances_are_the_exact_ones(seed, monkeypatch):
    """Also with an object without pixels, one of a single pixel, and far queries."""
    monkeypatch.setattr(global_matching, "_LEAST_PIXELS_TO_PRUNE", 0)
    monkeypatch.setattr(global_matching, "_LARGEST_SHARE_TO_PRUNE", 1.0)
    rng = np.random.default_rng(seed)
    reference = _reference(_alike(rng, 900), [0, 500, 500, 501, 900])
    queries = np.concatenate([_alike(rng, 70), rng.normal(0, 9, (20, CHANNELS))]).astype("f")
    found = global_matching.global_distances_inference(
        queries.reshape(9, 10, CHANNELS), global_matching.sort_reference(reference)
    )
    expected = _oracle(queries, reference).reshape(4, 9, 10)
    near = expected < pruned_matching.SATURATED_DISTANCE
    assert 0.05 < near.mean() < 0.95
    np.testing.assert_allclose(found.numpy()[near], expected[near], atol=2e-4)
    np.testing.assert_allclose(
        global_matching.normalize_distance(found),
        global_matching.normalize_distance(tf.constant(expected, tf.float32)),
        atol=1e-4,
    )


def test_what_is_found_equals_the_comparison_of_everything(monkeypatch):
    rng = np.random.default_rng(5)
    reference = global_matching.sort_reference(_reference(_alike(rng, 9000), [0, 2000, 9000]))
    query = tf.constant(_alike(rng, 3000).reshape(50, 60, CHANNELS))
    pruned = global_matching.global_distances_inference(query, reference)
    monkeypatch.setattr(global_matching, "_LEAST_PIXELS_TO_PRUNE", 10**9)
    full = global_matching.global_distances_inference(query, reference)
    near = full < pruned_matching.SATURATED_DISTANCE
    np.testing.assert_allclose(pruned[near], full[near], atol=2e-5)
    normalized = [global_matching.normalize_distance(each) for each in (pruned, full)]
    # Products in another order: with AVX2 alone 4 of the 6000 differ by up to 2e-6.
    np.testing.assert_allclose(*normalized, atol=5e-6)
    assert np.mean(np.abs(normalized[0] - normalized[1]) > 1e-6) < 0.002


def test_little_is_needed_of_embeddings_that_form_groups_and_nearly_all_of_random_ones():
    rng = np.random.default_rng(6)
    for make, least, most in (
        (_alike, 0.0, 0.05),
        (lambda r, n: r.normal(0, 1, (n, 60)), 0.5, 1.0),
    ):
        reference = _reference(make(rng, 9000).astype("f"), [0, 9000])
        blocks = pruned_matching.make_blocks(*global_matching.sort_reference(reference))
        queries = tf.constant(make(rng, 700), tf.float32)
        known = tf.constant(_oracle(queries.numpy(), reference), tf.float32)
        bounds = pruned_matching.least_distances(queries, blocks)
        needed = pruned_matching.needed_blocks(queries, blocks, bounds, known)
        assert needed.shape == (141, 700)
        assert least <= tf.reduce_mean(tf.cast(needed, tf.float32)) <= most


def test_one_trace_serves_every_size():
    function = tf.function(
        global_matching.global_distances_inference,
        input_signature=[
            tf.TensorSpec([None, None, CHANNELS]),
            Reference(tf.TensorSpec([None, CHANNELS]), tf.TensorSpec([None], tf.int32)),
        ],
    )
    rng = np.random.default_rng(7)
    for count in (0, 3, 9000):
        reference = _reference(_alike(rng, count), [0, count // 2, count])
        found = function(tf.constant(_alike(rng, 6).reshape(2, 3, CHANNELS)), reference)
        assert found.shape == (2, 2, 3)
    assert function.experimental_get_tracing_count() == 1

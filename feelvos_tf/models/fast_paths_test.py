"""Inference, without a gradient, computes the same as training, with one."""

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models import dynamic_segmentation_head, global_matching, local_matching
from feelvos_tf.models.dynamic_segmentation_head import SegmentationHead
from feelvos_tf.models.global_matching import (
    NO_PIXEL_DISTANCE,
    global_distances,
    global_distances_inference,
    prepare_reference,
)
from feelvos_tf.models.local_matching import local_distances, local_distances_inference

_CHANNELS = 7


def _case(height, width, num_objects, seed=0):
    """Returns two frames and labels; the last object is absent, some pixels belong to none."""
    rng = np.random.default_rng(seed)
    query, other = (
        tf.constant(rng.random((height, width, _CHANNELS), np.float32)) for _ in range(2)
    )
    labels = rng.integers(-1, max(num_objects - 1, 1), (height, width))
    return query, other, tf.constant(labels, tf.int32), tf.constant(num_objects)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "num_objects"), [(1, 1, 2), (9, 14, 3), (40, 31, 4), (13, 17, 21)]
)
def test_global_distances_are_the_same(height, width, num_objects, k):
    query, other, labels, count = _case(height, width, num_objects)
    reference = prepare_reference(other, labels, count)
    slow = global_distances(query, reference, k)
    np.testing.assert_allclose(global_distances_inference(query, reference, k), slow, atol=1e-5)
    assert np.all(slow[-1] == NO_PIXEL_DISTANCE)


@pytest.mark.parametrize("radius", [0, 2, 15])
@pytest.mark.parametrize(
    ("height", "width", "num_objects"), [(1, 1, 2), (9, 14, 3), (8, 33, 2), (13, 17, 21)]
)
def test_local_distances_are_the_same(height, width, num_objects, radius):
    case = _case(height, width, num_objects)
    slow = local_distances(*case, radius)
    np.testing.assert_allclose(local_distances_inference(*case, radius), slow, atol=1e-5)


def test_a_window_beyond_the_image_is_global_matching():
    query, other, labels, count = _case(10, 21, 3)
    everywhere = global_distances(query, prepare_reference(other, labels, count))
    local = local_distances_inference(query, other, labels, count, 10_000)
    np.testing.assert_allclose(local, everywhere, atol=1e-5)


def test_pieces_of_a_row_of_tiles_fit_together(monkeypatch):
    case = _case(20, 61, 3)
    whole = local_distances_inference(*case, 4)
    # Room for three tiles at a time: the eight of a row need three steps.
    floats_per_tile = (8 + 2 * 4) ** 2 * (_CHANNELS + 8**2)
    monkeypatch.setattr(local_matching, "_STEP_FLOATS", 3 * floats_per_tile)
    np.testing.assert_allclose(local_distances_inference(*case, 4), whole, atol=1e-6)
    np.testing.assert_allclose(local_distances(*case, 4), whole, atol=1e-5)


def test_steps_of_global_matching_fit_together(monkeypatch):
    query, other, labels, count = _case(30, 30, 3)
    reference = prepare_reference(other, labels, count)
    whole = global_distances_inference(query, reference)
    monkeypatch.setattr(global_matching, "BLOCK", 7)
    monkeypatch.setattr(global_matching, "_BLOCKS_PER_STEP", 10)
    monkeypatch.setattr(global_matching, "_CHUNK", 100)
    np.testing.assert_allclose(global_distances_inference(query, reference), whole, atol=1e-6)


@pytest.mark.parametrize("num_objects", [1, 4, 9])
def test_the_head_gives_the_same_in_turns_and_for_all_objects_together(num_objects):
    tf.keras.utils.set_random_seed(1)
    head = SegmentationHead(3)
    features = tf.random.normal([1, 9, 8, 6])
    cues = tf.random.normal([num_objects, 9, 8, 3])
    head(features, cues)  # Creates the variables.
    for variable in head.trainable_variables:
        variable.assign(tf.random.normal(variable.shape, stddev=0.3))
    together = head(features, cues, training=True)
    in_turns = tf.function(lambda *inputs: head(*inputs))(features, cues)
    np.testing.assert_allclose(in_turns, together, rtol=1e-4, atol=1e-4 * np.abs(together).max())


@pytest.mark.parametrize(
    ("points", "groups"),
    [(1000, [4, 4, 1]), (150, [2, 2, 2, 2, 1]), (10, [1] * 9)],
)
def test_the_head_takes_fewer_objects_at_a_time_on_larger_grids(monkeypatch, points, groups):
    """Grids of 72 points; together, the objects of a 4K frame would take many GB."""
    monkeypatch.setattr(dynamic_segmentation_head, "_POINTS_AT_ONCE", points)
    head, sizes = SegmentationHead(3), []
    features, cues = tf.random.normal([1, 9, 8, 6]), tf.random.normal([9, 9, 8, 3])
    together = head(features, cues, training=True)
    compute = head._logits

    def counted(shared, own):
        sizes.append(len(own))
        return compute(shared, own)

    head._logits = counted
    in_turns = head(features, cues)
    np.testing.assert_allclose(in_turns, together, rtol=1e-4, atol=1e-4 * np.abs(together).max())
    assert sizes == groups

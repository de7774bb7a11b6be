"""Gating, compared with OpenCV's connected components."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.inference.gating import apply_gate
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.testing import small_model

RADIUS = 3


def dropped(winners, previous, num_objects, radius=RADIUS, first_id=0):
    """Returns where `apply_gate` rejects the winning object of a frame, bool [h, w]."""
    logits = np.random.default_rng(0).uniform(-1, 1, [*winners.shape, num_objects])
    np.put_along_axis(logits, winners[..., None], 2.0, -1)
    logits = tf.constant(logits[None], tf.float32)
    after = apply_gate(
        logits, tf.constant(previous, tf.int32), first_id + tf.range(num_objects), radius
    ).numpy()[0]
    changed = after != logits.numpy()[0]
    # Only the winner's logit changes, and it falls below all others.
    assert (changed.sum(-1) <= 1).all()
    found = np.take_along_axis(changed, winners[..., None], -1)[..., 0]
    assert found.sum() == changed.sum()
    assert (after.argmin(-1) == winners)[found].all()
    return found


def slow_dropped(winners, previous, num_objects, radius=RADIUS, first_id=0):
    found = np.zeros(winners.shape, bool)
    square = np.ones([2 * radius + 1] * 2, np.uint8)
    for index in range(0 if first_id else 1, num_objects):
        mask = (winners == index).astype(np.uint8)
        _, parts = cv2.connectedComponents(mask, connectivity=8)
        near = cv2.dilate((previous == index).astype(np.uint8), square) > 0
        kept = np.isin(parts, np.unique(parts[near & (mask > 0)])) & (mask > 0)
        if kept.sum() >= mask.sum() - kept.sum():
            found |= (mask > 0) & ~kept
    return found


@pytest.mark.parametrize("seed", range(20))
def test_rejected_parts_agree_with_opencv_connected_components(seed):
    rng = np.random.default_rng(seed)
    # Smoothed noise: parts of all sizes.
    noise = cv2.GaussianBlur(rng.standard_normal([40, 50, 4]), (0, 0), 1 + seed % 3)
    winners = noise.argmax(-1)
    previous = np.zeros_like(winners)
    top, left = rng.integers(0, 30, 2)
    previous[top : top + 10, left : left + 15] = winners[top : top + 10, left : left + 15]
    for first_id in (0, 1):  # With a background, and without.
        expected = slow_dropped(winners, previous, 4, first_id=first_id)
        found = dropped(winners, previous, 4, first_id=first_id)
        np.testing.assert_array_equal(found, expected)


def test_a_part_outside_the_gate_is_dropped_and_one_inside_stays():
    winners = np.zeros([20, 20], int)
    winners[2:6, 2:6], winners[14:17, 14:17] = 1, 1
    previous = np.where(np.arange(20) < 8, winners, 0)
    expected = np.zeros([20, 20], bool)
    expected[14:17, 14:17] = True
    np.testing.assert_array_equal(dropped(winners, previous, 2), expected)
    np.testing.assert_array_equal(slow_dropped(winners, previous, 2), expected)


def test_parts_connected_by_a_long_path_stay():
    winners = np.zeros([41, 41], int)
    for row in range(0, 41, 2):
        winners[row] = 1
        winners[row - 1, 40 if row % 4 else 0] = 1
    winners[-1, 0], winners[39] = 1, 0
    winners[39, 39] = 1
    previous = np.zeros_like(winners)
    previous[0, 0] = 1
    assert not dropped(winners, previous, 2).any()
    # Cut the path in two in the middle.
    winners[30, 20] = 0
    expected = slow_dropped(winners, previous, 2)
    np.testing.assert_array_equal(dropped(winners, previous, 2), expected)
    assert expected[32].all() and not expected[28].any()


@pytest.mark.parametrize("size, stays", [(3, False), (4, False), (5, True)])
def test_parts_outside_the_gate_stay_if_they_are_larger_than_the_rest(size, stays):
    winners = np.zeros([30, 30], int)
    winners[:4, :4], winners[20 : 20 + size, 20 : 20 + size] = 1, 1
    previous = np.zeros_like(winners)
    previous[2, 2] = 1
    assert dropped(winners, previous, 2).any() != stays


def test_background_that_appears_far_from_background_stays():
    previous = np.zeros([20, 40], int)
    previous[:, 10:] = 1
    winners = previous.copy()
    winners[8:12, 28:32] = 0
    assert not dropped(winners, previous, 2).any()


def test_an_object_with_no_part_near_its_previous_mask_stays():
    winners = np.zeros([30, 30], int)
    winners[20:25, 20:25] = 1
    assert not dropped(winners, np.zeros_like(winners), 2).any()
    far = np.zeros_like(winners)
    far[0, 0] = 1
    assert not dropped(winners, far, 2).any()


@pytest.mark.parametrize("settings", [{}, {"scales": (1.0, 0.5)}])
def test_the_predictor_drops_rejected_parts_and_does_not_feed_them_back(settings, eagerly):
    model = small_model.create()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, [2, 65, 81, 3]).astype(np.uint8)
    mask = np.zeros([65, 81], np.uint8)
    mask[4:40, 4:40] = 5
    results = {}
    for jump in (0, 1):
        predictor = Predictor(model, gate_radius=jump, **settings)
        results[jump] = predictor.step(images[1], predictor.start(images[0], mask))
    (with_all, _, _), (ids, probabilities, state) = results[0], results[1]
    lost = (with_all.numpy() == 5) & (ids.numpy() == 0)
    assert lost.any() and (ids.numpy() == 5).any() and not (with_all.numpy() < ids.numpy()).any()
    assert (probabilities.numpy()[..., 1] < 0.5)[lost].all()
    previous = state["previous_indices"].numpy()
    assert not (previous > results[0][2]["previous_indices"].numpy()).any()
    assert previous.sum() < results[0][2]["previous_indices"].numpy().sum()

import cv2
import numpy as np
import pytest

from feelvos_tf.data import synthetic_motion
from feelvos_tf.data.synthetic_motion import MAX_SPEED, View

SIZE = (60, 80)
WINDOW = 60  # Window radius of local matching in pixels: 15 at stride 4.


def random_view(seed: int) -> View:
    rng = np.random.default_rng(seed)
    view = View(anchor=(25.0, 20.0), position=np.array([40.0, 30.0]), scale=1.3)
    return synthetic_motion.differing(view, rng, 0.3)


def test_the_anchor_is_at_its_position_for_any_rotation_and_scale():
    view = View((7.0, 9.0), np.array([30.0, 20.0]), 1.7, rotation=0.4, shear=0.2, stretch=1.1)
    x, y = synthetic_motion.sampling_grid(view, SIZE)
    assert (x[20, 30], y[20, 30]) == pytest.approx((7.0, 9.0))


def test_the_grid_inverts_scale_rotation_shear_and_stretch():
    view = View((7.0, 9.0), np.array([30.0, 20.0]), 1.7, rotation=0.4, shear=0.2, stretch=1.1)
    x, y = synthetic_motion.sampling_grid(view, SIZE)
    for row, column in ((0, 0), (13, 55), (59, 79)):
        right, down = x[row, column] - 7.0, y[row, column] - 9.0
        right, down = 1.1 * right + 0.2 * down, down
        turned = (
            np.cos(0.4) * right - np.sin(0.4) * down,
            np.sin(0.4) * right + np.cos(0.4) * down,
        )
        assert 1.7 * turned[0] + 30.0 == pytest.approx(column, abs=1e-3)
        assert 1.7 * turned[1] + 20.0 == pytest.approx(row, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_masks_move_exactly_with_the_pixels(seed):
    ids = np.zeros((50, 50), np.uint8)
    ids[10:30, 12:40] = 1
    ids[35:45, 5:15] = 2
    image = np.stack([(ids == 1) * 255, (ids == 2) * 255, ids * 0], -1).astype(np.uint8)
    view = random_view(seed)
    moved, labels = synthetic_motion.sample_picture(image, ids, view, SIZE, outside=255)
    # Pixels on outlines are mixtures, for which either label is right.
    pure = ((moved == 0) | (moved == 255)).all(-1) & (labels != 255)
    assert pure.mean() > 0.3
    for index in (1, 2):
        np.testing.assert_array_equal(labels[pure] == index, moved[pure][:, index - 1] == 255)
        assert (labels == index).any()


def test_labels_beyond_the_picture_are_the_given_id():
    view = View((0.0, 0.0), np.array([10.0, 10.0]), 1.0)
    ids = np.ones((20, 20), np.uint8)
    _, labels = synthetic_motion.sample_picture(np.zeros((20, 20, 3), np.uint8), ids, view, SIZE, 9)
    assert (labels[10:30, 10:30] == 1).all()
    assert (labels == 9).sum() == labels.size - 400


def test_steps_stay_within_the_local_matching_window_but_not_the_reference():
    steps, jumps = [], []
    for seed in range(300):
        view = View((0.0, 0.0), np.array([100.0, 100.0]), 1.0)
        views = synthetic_motion.path(view, np.random.default_rng(seed), 4)
        positions = np.array([v.position for v in views])
        steps.append(np.abs(positions[2:] - positions[1:-1]).max())
        jumps.append(np.abs(positions[1] - positions[0]).max())
    assert max(steps) <= 1.2 * MAX_SPEED < WINDOW
    assert max(jumps) > WINDOW


def test_views_repeat_with_the_seed_and_differ_between_seeds():
    first, again, other = (
        synthetic_motion.path(random_view(0), np.random.default_rng(seed), 3) for seed in (5, 5, 6)
    )
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a.position, b.position)
        np.testing.assert_array_equal(a.bend, b.bend)
        assert (a.scale, a.rotation, a.shear, a.stretch) == (
            b.scale,
            b.rotation,
            b.shear,
            b.stretch,
        )
    assert not np.array_equal(first[0].position, other[0].position)


def test_the_bend_is_smooth():
    view = random_view(1)
    bend = cv2.resize(view.bend, (80, 60), interpolation=cv2.INTER_CUBIC)
    assert np.abs(view.bend).max() > 0.5
    assert np.abs(np.diff(bend, axis=0)).max() < 1.0

import cv2
import numpy as np
import pytest

from feelvos_tf.data import synthetic_motion
from feelvos_tf.data.synthetic_motion import MAX_SPEED, View

SIZE = (60, 80)
RED, GREEN, GREY = (255, 0, 0), (0, 255, 0), (90, 90, 90)
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


def square(color, side=20) -> synthetic_motion.Cutout:
    """Returns a square of one color, cut out of grey."""
    image = np.full((side + 20, side + 20, 3), GREY, np.uint8)
    inside = np.zeros(image.shape[:2], bool)
    inside[10 : 10 + side, 10 : 10 + side] = True
    image[inside] = color
    return synthetic_motion.cut(image, inside)


def at(cutout, x, y, scale=1.0) -> View:
    return View(cutout.center, np.array([x, y], float), scale)


def blank():
    return np.full((60, 80, 3), 30, np.uint8), np.zeros((60, 80), np.uint8)


def test_a_pasted_object_has_its_position_pixels_and_label():
    red = square(RED)
    image, labels = synthetic_motion.paste(*blank(), red, at(red, 39.5, 29.5), 7)
    rows, columns = np.nonzero(labels == 7)
    assert (rows.mean(), columns.mean()) == (29.5, 39.5)
    assert (labels == 7).sum() == 400
    inner = np.zeros(labels.shape, bool)
    inner[23:37, 33:47] = True
    assert (image[inner] == RED).all() and (labels[inner] == 7).all()
    np.testing.assert_array_equal(labels == 7, image[..., 0] > 120)


def test_later_pastes_occlude_earlier_ones():
    red, green = square(RED), square(GREEN)
    frame = synthetic_motion.paste(*blank(), red, at(red, 30, 30), 1)
    image, labels = synthetic_motion.paste(*frame, green, at(green, 40, 30), 2)
    assert labels[30, 37] == 2 and tuple(image[30, 37]) == GREEN
    assert labels[30, 24] == 1 and tuple(image[30, 24]) == RED


def test_pasting_leaves_no_halo_of_the_old_background():
    white = square((255, 255, 255))
    dark = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80), np.uint8)
    image, labels = synthetic_motion.paste(*dark, white, at(white, 40, 30), 1)
    # The object was cut out of grey: little of that may be left just inside its outline.
    assert image[labels == 1].mean() > 215


def test_filling_removes_the_object_and_keeps_the_rest():
    image = np.full((100, 120, 3), GREY, np.uint8)
    image[:, 60:] = (200, 180, 40)
    inside = np.zeros((100, 120), bool)
    inside[20:80, 30:90] = True
    image[inside] = RED
    filled = synthetic_motion.fill(image, inside)
    assert filled[inside][:, 2].min() >= 38  # red has no blue
    far = np.ones_like(inside)
    far[17:83, 27:93] = False
    np.testing.assert_array_equal(filled[far], image[far])
    # Near colors come first: the left half stays greyer than the right one.
    assert filled[50, 40, 0] < 110 < filled[50, 80, 0]


def test_a_picture_that_is_all_object_is_unchanged():
    image = np.full((30, 30, 3), RED, np.uint8)
    np.testing.assert_array_equal(synthetic_motion.fill(image, np.ones((30, 30), bool)), image)


def test_mirroring_keeps_the_center_of_mass_on_the_object():
    cutout = square(RED)._replace(center=(3.0, 8.0))
    mirrored = synthetic_motion.mirrored(cutout)
    np.testing.assert_array_equal(mirrored.pixels[:, ::-1], cutout.pixels)
    assert mirrored.center == (cutout.pixels.shape[1] - 4.0, 8.0)


def test_void_and_specks_are_not_cut_out():
    ids = np.zeros((40, 40), np.uint8)
    ids[:20, :20], ids[30:35, 30:35], ids[:, 39] = 4, 5, 255
    assert [i for i, _ in synthetic_motion.object_masks(ids)] == [4]

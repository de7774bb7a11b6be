import dataclasses
from typing import NamedTuple

import numpy as np
import pytest

from feelvos_tf.data import scene_composing
from feelvos_tf.data.scene_composing import MovingScenes, Picture

SIZE = (97, 113)
# Motion only: the pictures' own colors show which object a pixel belongs to.
PLAIN = MovingScenes(
    min_scale=1.0,
    max_scale=1.2,
    motion=0.4,
    light=0.0,
    fault_probability=0.0,
    prediction_error_probability=0.0,
)
IMAGE = np.random.default_rng(0).integers(60, 190, (20, 30, 3)).astype(np.uint8)
RED, GREEN, BLUE = np.eye(3, dtype=np.uint8) * 255


def picture(*colors, side=120) -> Picture:
    """Returns a black picture with one square per color, ids 1, 2, ... ."""
    image, ids = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    for i, color in enumerate(colors):
        box = np.s_[30 + 5 * i : 70, 20 + 45 * i : 55 + 45 * i]
        image[box], ids[box] = color, i + 1
    return Picture(image, ids)


class Clip(NamedTuple):
    images: np.ndarray
    labels: np.ndarray
    previous: np.ndarray


def clip(seed, scenes=PLAIN, frames=None, donors=None, length=4):
    frames = frames or [picture(RED)]
    donors = donors or [picture(BLUE), picture(BLUE)]
    rng = np.random.default_rng(seed)
    return Clip(*scene_composing.make_clip(frames, donors, SIZE, length, rng, scenes))


def with_ways(**probabilities) -> MovingScenes:
    ways = {"cut_probability": 0.0, "transplant_probability": 0.0, "paste_probability": 0.0}
    return dataclasses.replace(PLAIN, **{**ways, **probabilities})


@pytest.mark.parametrize(
    "way",
    [{}, {"cut_probability": 1.0}, {"transplant_probability": 1.0}, {"paste_probability": 1.0}],
)
@pytest.mark.parametrize("seed", range(6))
def test_labels_name_the_object_at_each_pixel_of_every_frame(way, seed):
    made = clip(seed, with_ways(**way), [picture(RED)], [picture(BLUE), picture(BLUE)])
    assert made.images.shape == (4, *SIZE, 3) and made.labels.shape == (4, *SIZE)
    assert set(np.unique(made.labels)) <= {0, 1, 2, 3, 255}
    red = made.images[..., 0].astype(int) - made.images[..., 2]
    known = made.labels != 255
    np.testing.assert_array_equal((made.labels == 1)[known & (red > 200)], True)
    assert not ((made.labels == 1) & (red < -100)).any()
    assert (made.labels == 1).any()


def test_clips_repeat_with_the_seed_and_differ_between_seeds():
    scenes = MovingScenes()
    first, again, other = clip(3, scenes), clip(3, scenes), clip(4, scenes)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.images, other.images)


def test_objects_that_are_not_followed_are_background():
    frames = [picture(RED, GREEN)]
    one = with_ways(count_shares=(1.0,))
    found = {1: 0, 2: 0}
    for seed in range(20):
        made = clip(seed, one, frames)
        assert set(np.unique(made.labels)) <= {0, 1, 255}
        inside = made.images[0][made.labels[0] == 1]
        found[1 + int(inside[:, 1].mean() > inside[:, 0].mean())] += 1
    assert min(found.values()) > 3
    both = clip(0, with_ways(count_shares=(0.0, 1.0)), frames)
    assert set(np.unique(both.labels)) >= {1, 2}


def test_an_object_of_the_other_picture_keeps_its_pixels_whatever_its_id():
    transplanted = with_ways(transplant_probability=1.0, count_shares=(0.0, 1.0))
    donor = picture(BLUE)
    for donor_id in (105, 106, 107):
        same = Picture(donor.image, donor.ids * np.uint8(donor_id))
        for seed in range(4):
            expected = clip(seed, transplanted, donors=[donor])
            np.testing.assert_array_equal(
                clip(seed, transplanted, donors=[same]).labels, expected.labels
            )


def test_pasted_objects_are_followed_only_if_there_is_room():
    pasting = with_ways(paste_probability=1.0, count_shares=(1.0,))
    crowded = with_ways(paste_probability=1.0, count_shares=(0.0, 0.0, 1.0))
    blue_followed = 0
    for seed in range(10):
        made = clip(seed, pasting)
        assert (made.images[made.labels == 1][:, 2] < 200).mean() > 0.95
        blue_followed += (clip(seed, crowded).labels == 2).any()
    assert blue_followed >= 5


def test_cut_out_objects_move_against_the_background():
    rng = np.random.default_rng(0)
    textured = picture(RED)
    textured.image[textured.ids == 0] = rng.integers(40, 90, (120 * 120, 3))[
        : (textured.ids == 0).sum()
    ]
    shifts = []
    for seed in range(8):
        labels = clip(seed, with_ways(cut_probability=1.0), [textured]).labels
        centers = [np.argwhere(frame == 1).mean(0) for frame in labels[1:3] if (frame == 1).any()]
        shifts.append(np.linalg.norm(centers[-1] - centers[0]))
    assert max(shifts) > 3


def test_errors_change_only_the_previous_mask():
    wrong = dataclasses.replace(PLAIN, prediction_error_probability=1.0)
    changed = 0
    for seed in range(10):
        made, right = clip(seed, wrong), clip(seed, PLAIN)
        np.testing.assert_array_equal(made.labels, right.labels)
        np.testing.assert_array_equal(right.previous, right.labels[1])
        changed += not np.array_equal(made.previous, made.labels[1])
    assert changed >= 8


def test_a_picture_without_objects_still_makes_a_clip():
    made = clip(0, PLAIN, [picture()], [picture(), picture()])
    assert set(np.unique(made.labels)) <= {0, 255}


def test_relighting_applies_saturation_contrast_and_shift_in_this_order():
    found = scene_composing.relight(IMAGE, 0.6, 1.2, np.array([5, -8, 0], np.float32))
    grey = IMAGE @ np.array([0.299, 0.587, 0.114])
    expected = grey[..., None] + 0.6 * (IMAGE - grey[..., None])
    expected = (expected - 127.5) * 1.2 + 127.5 + [5, -8, 0]
    expected = np.clip(expected, 0, 255)
    np.testing.assert_allclose(found, expected, atol=1.0)


def test_light_of_strength_0_changes_nothing():
    light = scene_composing.draw_light(np.random.default_rng(0), 0.0)
    np.testing.assert_array_equal(scene_composing.relight(IMAGE, *light), IMAGE)
    untouched = scene_composing.draw_camera_faults(IMAGE, np.random.default_rng(0), 0.0)
    np.testing.assert_array_equal(untouched, IMAGE)


@pytest.mark.parametrize("seed", range(5))
def test_camera_faults_are_small_and_depend_only_on_the_seed(seed):
    first, again = (
        scene_composing.draw_camera_faults(IMAGE, np.random.default_rng(seed), 1.0)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8 and first.shape == IMAGE.shape
    difference = np.abs(first.astype(int) - IMAGE).mean()
    # The picture is noise, so blur leaves little but the mean.
    assert 0 < difference < 40
    assert abs(first.mean() - IMAGE.mean()) < 3

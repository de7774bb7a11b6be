import numpy as np
import pytest

from feelvos_tf.data import appearance_changes
from feelvos_tf.data.appearance_changes import Light

IMAGE = np.random.default_rng(0).integers(60, 190, (20, 30, 3)).astype(np.uint8)


def test_colors_follow_saturation_contrast_and_shift_in_this_order():
    light = Light(saturation=0.6, contrast=1.2, shift=np.array([5, -8, 0], np.float32))
    grey = IMAGE @ np.array([0.299, 0.587, 0.114])
    expected = grey[..., None] + 0.6 * (IMAGE - grey[..., None])
    expected = (expected - 127.5) * 1.2 + 127.5 + [5, -8, 0]
    expected = np.clip(expected, 0, 255)
    np.testing.assert_allclose(appearance_changes.relight(IMAGE, light), expected, atol=1.0)


def test_no_strength_is_no_change():
    light = appearance_changes.draw_light(np.random.default_rng(0), 0.0)
    np.testing.assert_array_equal(appearance_changes.relight(IMAGE, light), IMAGE)
    untouched = appearance_changes.draw_camera_faults(IMAGE, np.random.default_rng(0), 0.0)
    np.testing.assert_array_equal(untouched, IMAGE)


@pytest.mark.parametrize("seed", range(5))
def test_faults_change_a_picture_a_little_and_depend_on_the_seed_alone(seed):
    first, again = (
        appearance_changes.draw_camera_faults(IMAGE, np.random.default_rng(seed), 1.0)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8 and first.shape == IMAGE.shape
    difference = np.abs(first.astype(int) - IMAGE).mean()
    # The picture is noise, of which blur leaves little but the mean.
    assert 0 < difference < 40
    assert abs(first.mean() - IMAGE.mean()) < 3

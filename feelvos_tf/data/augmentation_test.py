import math

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.data import augmentation
from feelvos_tf.media.masks import VOID


@pytest.fixture(scope="module")
def release(golden):
    """Returns the results of the 2019 release."""
    with np.load(golden / "preprocess.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("name", "scale"),
    [("quarter", 1 / 4), ("eighth", 1 / 8), ("sixteenth", 1 / 16), ("half", 0.5)]
    + [("x2", 2.0), ("x1.3", 1.3)],
)
def test_scale_dimension_matches_the_release(release, name, scale):
    found = [augmentation.scale_dimension(int(dim), scale) for dim in release["scale_dims"]]
    assert found == release[f"scale_python_{name}"].tolist()


@pytest.mark.parametrize("factor", ["1.00", "1.13", "1.25", "1.30"])
def test_scaling_matches_the_release(release, factor):
    image, label = augmentation.scale(
        tf.constant(release["pad_image_in"])[None],
        tf.constant(release["pad_label_in"])[None, ..., 0],
        tf.constant(float(factor)),
    )
    np.testing.assert_allclose(image[0], release[f"scale_{factor}_image"], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(label[0], release[f"scale_{factor}_label"][..., 0])


def test_padding_matches_the_release(release):
    image, label = augmentation.pad(
        tf.constant(release["pad_image_in"])[None],
        tf.constant(release["pad_label_in"])[None, ..., 0],
        (9, 10),
    )
    np.testing.assert_array_equal(image[0], release["pad_image_out"])
    np.testing.assert_array_equal(label[0], release["pad_label_out"][..., 0])


@pytest.mark.parametrize("case", [0, 1])
def test_remapping_matches_the_release_except_for_void(release, case):
    reference = tf.constant(release[f"remap{case}_reference"][..., 0])
    query = release[f"remap{case}_query"][..., 0]
    ids, _ = augmentation.reference_ids(reference, 4)
    expected_ids = [i for i in release[f"remap{case}_ids"].tolist() if i != VOID]
    assert ids.numpy().tolist() == expected_ids
    remapped = augmentation.remap_labels(tf.constant(query), ids).numpy()
    result = release[f"remap{case}_result"][..., 0]
    np.testing.assert_array_equal(remapped[query != VOID], result[query != VOID])
    assert (remapped[query == VOID] == VOID).all()
    assert (query == VOID).any() == (case == 0)


def test_remapping_follows_the_definition_with_gaps_in_the_ids():
    labels = np.random.default_rng(0).choice([0, 3, 8, 200, 255], (3, 6, 7)).astype(np.uint8)
    found = augmentation.remap_labels(tf.constant(labels), tf.constant([0, 3, 200]))
    meaning = {0: 0, 3: 1, 8: 0, 200: 2, 255: 255}
    np.testing.assert_array_equal(found, np.vectorize(meaning.get)(labels))
    assert found.dtype == tf.int32


@pytest.mark.parametrize("case", range(5))
def test_clips_are_dropped_as_in_the_release(release, case):
    label = tf.constant(release[f"filter{case}_label"][..., 0])
    ids, counts = augmentation.reference_ids(label, 4)
    usable = augmentation.is_usable(ids, counts, min_label_count=10)
    assert bool(usable) == release[f"filter{case}_enough_fgbg"].all()


def test_a_clip_needs_background_and_an_object_and_enough_pixels_of_each():
    def usable(ids, counts):
        return bool(augmentation.is_usable(tf.constant(ids), tf.constant(counts), 10))

    assert usable([0, 4, 9], [10, 10, 10])
    assert not usable([0, 4, 9], [10, 10, 9])
    assert not usable([0, 4, 9], [9, 10, 10])
    assert not usable([0], [500])
    assert not usable([4, 9], [500, 500])


def _position_images(height, width):
    """Returns pixels (row, column, row + column), and labels row + column."""
    rows, columns = np.mgrid[:height, :width]
    images = np.stack([rows, columns, rows + columns], -1)[None]
    return tf.constant(images, tf.float32), tf.constant((rows + columns)[None], tf.int32)


@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_move_image_and_labels_together(flip):
    drawn = augmentation.Augmentation(tf.constant(1.0), tf.constant([0.5, 0.99]), tf.constant(flip))
    image, label = augmentation.augment(*_position_images(9, 12), drawn, (5, 7))
    np.testing.assert_array_equal(image[0, ..., 2], tf.cast(label[0], tf.float32))
    columns = np.arange(5, 12)
    np.testing.assert_array_equal(image[0, 0, :, 1], columns[::-1] if flip else columns)
    np.testing.assert_array_equal(image[0, :, 0, 0], np.arange(2, 7))


def test_crops_reach_both_ends_and_nothing_beyond():
    found = set()
    for step in range(8):
        position = tf.constant([step / 8, np.nextafter(np.float32(1), np.float32(0))])
        image, _ = augmentation.crop(*_position_images(6, 7), position, (3, 4))
        found.add(int(image[0, 0, 0, 0]))
        assert image[0, 0, -1, 1] == 6
    assert found == {0, 1, 2, 3}


def test_drawn_augmentations_fill_their_range_and_repeat_with_the_seed():
    drawn = [
        augmentation.draw_augmentation(tf.constant([7, i]), 1.0, 1.3, 0.25) for i in range(400)
    ]
    scales = np.array([a.scale for a in drawn])
    assert 1.0 <= scales.min() < 1.01
    assert 1.29 < scales.max() < 1.3
    positions = np.array([a.crop_position for a in drawn])
    np.testing.assert_allclose(positions.mean(0), 0.5, atol=0.06)
    assert abs(np.corrcoef(positions.T)[0, 1]) < 0.15
    assert 0.17 < np.mean([a.flip for a in drawn]) < 0.33
    again = augmentation.draw_augmentation(tf.constant([7, 3]), 1.0, 1.3, 0.25)
    np.testing.assert_array_equal(again.crop_position, drawn[3].crop_position)


def release_size(height, width, short, longest):
    """Returns the size by the release's rule for `min_resize_value` and `max_resize_value`."""
    factor = np.float32(short) / np.float32(min(height, width))
    size = [math.ceil(np.float32(n) * factor) for n in (height, width)]
    if longest is not None and max(size) > longest:
        factor = np.float32(longest) / np.float32(max(height, width))
        size = [math.ceil(np.float32(n) * factor) for n in (height, width)]
    return size


@pytest.mark.parametrize("short", [30, 48, 75])
@pytest.mark.parametrize("longest", [None, 64, 90])
def test_resizing_to_a_range_matches_the_release(short, longest):
    for height, width in ((48, 85), (60, 41), (50, 50)):
        images, labels = _position_images(height, width)
        images, labels = augmentation.resize_to_range(images, labels, short, longest)
        assert list(labels.shape[1:]) == release_size(height, width, short, longest)
        assert images.shape[1:3] == labels.shape[1:]
        rows = np.linspace(0, height - 1, labels.shape[1])
        np.testing.assert_allclose(images[0, :, 0, 0], rows, atol=1e-3)
        assert np.abs(labels.numpy()[0, :, 0] - rows).max() <= 0.501


def test_without_a_range_frames_keep_their_size():
    images, labels = _position_images(6, 7)
    assert augmentation.resize_to_range(images, labels, None, None)[0] is images


@pytest.mark.parametrize("step", [0.1, 0.25, 0.4, 2.0])
def test_scales_with_a_step_match_the_release(step):
    count = int((1.5 - 0.5) / step + 1)
    drawn = [
        float(augmentation.draw_augmentation(tf.constant([3, i]), 0.5, 1.5, 0.5, step).scale)
        for i in range(40 * count)
    ]
    expected = np.linspace(0.5, 1.5, count)
    nearest = np.abs(np.array(drawn)[:, None] - expected).argmin(1)
    np.testing.assert_allclose(drawn, expected[nearest], atol=1e-6)
    assert np.bincount(nearest, minlength=count).min() > 20


def test_a_minimum_count_of_0_keeps_every_clip_that_is_not_all_void():
    assert bool(augmentation.is_usable(tf.constant([4]), tf.constant([1]), 0))
    assert not bool(augmentation.is_usable(tf.zeros([0], tf.int32), tf.zeros([0], tf.int32), 0))

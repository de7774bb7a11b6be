import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.resizing import resize_nearest
from feelvos_tf.models import object_labels
from feelvos_tf.models.object_labels import NO_OBJECT


def test_ids_are_sorted_may_have_gaps_and_never_hold_void():
    mask = np.array([[VOID, 9, 0], [4, 9, VOID]], np.uint8)
    ids = object_labels.present_ids(mask)
    np.testing.assert_array_equal(ids, [0, 4, 9])
    indices = object_labels.to_indices(mask, ids)
    np.testing.assert_array_equal(indices, [[NO_OBJECT, 2, 0], [1, 2, NO_OBJECT]])
    unknown = object_labels.to_indices(np.array([[5, 9]], np.uint8), ids)
    np.testing.assert_array_equal(unknown, [[NO_OBJECT, 2]])


def test_void_is_in_no_mask():
    masks = object_labels.one_hot(tf.constant([[0, 1, NO_OBJECT]]), 2)
    np.testing.assert_array_equal(masks, [[[1, 0, 0]], [[0, 1, 0]]])


def reduce(mask, size):
    ids = object_labels.present_ids(mask)
    full = object_labels.to_indices(mask, ids)
    return object_labels.downsample(full, tf.range(tf.size(ids)), tf.constant(size)).numpy()


def test_objects_of_ordinary_size_are_reduced_like_the_release_does():
    mask = np.zeros((33, 41), np.uint8)
    mask[5:20, 7:30] = 3
    expected = resize_nearest(tf.constant((mask > 0).astype(np.int32)), [9, 11])
    np.testing.assert_array_equal(reduce(mask, [9, 11]), expected)


@pytest.mark.parametrize("place", [(0, 0), (6, 9), (18, 30), (32, 40)])
def test_an_object_of_one_pixel_keeps_the_nearest_grid_point(place):
    mask = np.zeros((33, 41), np.uint8)
    mask[place] = 7
    reduced = reduce(mask, [9, 11])
    [(row, column)] = np.argwhere(reduced == 1)
    assert abs(row * 4 - place[0]) <= 2
    assert abs(column * 4 - place[1]) <= 2


def test_small_objects_do_not_take_each_other_s_only_point():
    mask = np.zeros((33, 41), np.uint8)
    for object_id, place in enumerate([(6, 6), (6, 7), (7, 6), (7, 7), (8, 8)], start=1):
        mask[place] = object_id
    assert set(np.unique(reduce(mask, [9, 11]))) == set(range(6))

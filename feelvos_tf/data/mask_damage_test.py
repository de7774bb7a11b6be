import math

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import mask_damage

NOBODY = np.zeros((60, 80), bool)


def _square(size=61, top=20, left=24, side=14) -> tf.Tensor:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return tf.constant(mask)


def _move(mask, shift=(0.0, 0.0), scale=1.0, rotation=0.0) -> np.ndarray:
    arguments = (tf.constant(shift), tf.constant(scale), tf.constant(rotation))
    return mask_damage.move_mask(mask, *arguments).numpy()


def test_no_change_gives_the_mask_back():
    np.testing.assert_array_equal(_move(_square()), _square())
    assert not _move(tf.zeros([5, 6], tf.bool), (0.1, 0.1), 1.1, 0.1).any()


def test_shift_is_in_units_of_the_object_s_size():
    moved = _move(_square(side=14), shift=(0.5, -1.0))
    np.testing.assert_array_equal(moved, np.roll(_square(side=14), (7, -14), (0, 1)))


def test_what_leaves_the_frame_does_not_come_back_on_the_other_side():
    moved = _move(_square(top=40, side=20), shift=(1.0, 0.0))
    assert moved.sum() == 20
    assert moved[60].sum() == 20


def test_scale_and_rotation_follow_an_independent_drawing_of_the_square():
    center, side = np.array([26.5, 30.5]), 14
    rows, columns = np.mgrid[:61, :61]
    for scale, rotation in [(1.4, 0.0), (1.0, 0.3), (0.8, -0.7)]:
        moved = _move(_square(), scale=scale, rotation=rotation)
        down, right = rows - center[0], columns - center[1]
        along = (math.cos(rotation) * down + math.sin(rotation) * right) / scale
        across = (-math.sin(rotation) * down + math.cos(rotation) * right) / scale
        inside = (np.abs(along) < side / 2) & (np.abs(across) < side / 2)
        assert (moved != inside).sum() <= 4
        assert moved.sum() == pytest.approx((scale * side) ** 2, rel=0.1)


def test_damage_is_small_and_keeps_void_and_ids():
    labels = np.zeros((80, 90), np.int32)
    labels[10:50, 5:45] = 1
    labels[30:70, 50:80] = 2
    labels[:, 88:] = 255
    for seed in range(5):
        damaged = mask_damage.damage_labels(tf.constant(labels), tf.constant(3), [seed, 1]).numpy()
        assert set(np.unique(damaged)) == {0, 1, 2, 255}
        np.testing.assert_array_equal(damaged == 255, labels == 255)
        for index in (1, 2):
            both = ((damaged == index) & (labels == index)).sum()
            either = ((damaged == index) | (labels == index)).sum()
            assert 0.75 < both / either < 1.0


def test_damage_repeats_with_the_seed_and_differs_without():
    labels = tf.cast(_square(), tf.int32)
    first, again, other = (
        mask_damage.damage_labels(labels, tf.constant(2), [seed, 0]).numpy() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_amount_of_damage_can_be_set():
    labels = tf.cast(_square(), tf.int32)
    amounts = {"max_shift": 0.0, "max_scale_change": 0.0, "max_rotation": 0.0}
    none = mask_damage.damage_labels(labels, tf.constant(2), [1, 0], **amounts)
    np.testing.assert_array_equal(none, labels)
    far = mask_damage.damage_labels(labels, tf.constant(2), [1, 0], **{**amounts, "max_shift": 0.8})
    little = mask_damage.damage_labels(labels, tf.constant(2), [1, 0])
    assert (far != labels).numpy().sum() > 3 * (little != labels).numpy().sum() > 0
    with pytest.raises(InputError, match="damage_labels.max_shift: expected float of 0.0 or more"):
        mask_damage.damage_labels(labels, tf.constant(2), [1, 0], max_shift=-1.0)


def drawn_labels():
    labels = np.zeros((60, 80), np.uint8)
    labels[10:40, 10:40] = 1
    labels[10:40, 45:70] = 2
    labels[55:] = 255
    return labels


def erroneous(kind, bystanders=NOBODY, seed=0):
    inside = drawn_labels() == 1
    return inside, mask_damage._changed(inside, bystanders, kind, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(20))
def test_an_error_changes_one_object_and_leaves_void_and_the_other_alone(seed):
    before = drawn_labels()
    after = mask_damage.draw_error(before, 3, NOBODY, np.random.default_rng(seed))
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(after == 255, before == 255)
    touched = [i for i in (1, 2) if ((after == i) != (before == i)).any()]
    assert len(touched) <= 1
    again = mask_damage.draw_error(before, 3, NOBODY, np.random.default_rng(seed))
    np.testing.assert_array_equal(after, again)


def test_every_kind_of_error_does_what_it_is_called():
    for seed in range(10):
        inside, changed = erroneous("part_lost", seed=seed)
        assert not (changed & ~inside).any() and 0 < changed.sum() < inside.sum()
        inside, changed = erroneous("leak", seed=seed)
        assert (changed | inside == changed).all() and changed.sum() > inside.sum()
        inside, changed = erroneous("outline", seed=seed)
        assert 0.3 < changed.sum() / inside.sum() < 2.0 and changed.sum() != inside.sum()
        assert not erroneous("lost", seed=seed)[1].any()


def test_a_bystander_is_caught():
    bystanders = NOBODY.copy()
    bystanders[45:50, 20:30] = True
    inside, changed = erroneous("bystander", bystanders)
    np.testing.assert_array_equal(changed, inside | bystanders)


def test_a_mask_without_objects_stays_as_it_is():
    labels = np.zeros((20, 20), np.uint8)
    result = mask_damage.draw_error(labels, 2, NOBODY[:20, :20], np.random.default_rng(0))
    np.testing.assert_array_equal(result, labels)

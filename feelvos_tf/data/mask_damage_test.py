import math

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import mask_damage

NOBODY = np.zeros((60, 80), bool)


def _drawing(seed, size=(19, 23)):
    """Returns a random blob that may touch the border."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((5, 6)) < 0.4
    return coarse.repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]


def _extent_of(mask):
    rows, columns = np.nonzero(mask)
    return np.array([np.ptp(rows), np.ptp(columns)]) if len(rows) else np.zeros(2)


def _pixel(mask, y, x):
    inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
    return float(mask[y, x]) if inside else 0.0


def _bilinear(mask, y, x):
    top, left = math.floor(y), math.floor(x)
    return sum(
        (1 - abs(y - top - i)) * (1 - abs(x - left - j)) * _pixel(mask, top + i, left + j)
        for i in (0, 1)
        for j in (0, 1)
    )


def _warp(mask, place):
    """Returns the mask with every pixel looked up at `place(y, x)`."""
    result = np.zeros_like(mask)
    for y, x in np.ndindex(*mask.shape):
        result[y, x] = _bilinear(mask, *place(y, x)) > 0.5
    return result


def release_damage(mask, shift, scale, rotation, radius):
    """Applies the release's rule pixel by pixel: shift, scale, rotation, then dilation."""
    off = np.array(shift) * math.sqrt(np.prod(_extent_of(mask)))
    shifted = np.zeros_like(mask)
    for y, x in np.ndindex(*mask.shape):
        row, column = y - off[0], x - off[1]
        if 0 <= row <= mask.shape[0] - 1 and 0 <= column <= mask.shape[1] - 1:
            shifted[y, x] = mask[math.floor(row + 0.5), math.floor(column + 0.5)]
    cy, cx = _extent_of(shifted) / 2
    scaled = _warp(shifted, lambda y, x: ((y - cy) / scale + cy, (x - cx) / scale + cx))
    my, mx = mask.shape[0] / 2, mask.shape[1] / 2
    c, s = math.cos(rotation), math.sin(rotation)
    rotated = _warp(
        scaled, lambda y, x: (my - s * (x - mx) + c * (y - my), mx + c * (x - mx) + s * (y - my))
    )
    grown = rotated.copy()
    for y, x in zip(*np.nonzero(rotated)):
        for i, j in np.ndindex(2 * radius + 1, 2 * radius + 1):
            near = (i - radius) ** 2 + (j - radius) ** 2 <= radius**2
            if near and 0 <= y + i - radius < len(mask) and 0 <= x + j - radius < mask.shape[1]:
                grown[y + i - radius, x + j - radius] = True
    return grown


def _damaged(mask, shift, scale, rotation, radius=0):
    numbers = (tf.constant(n, tf.float32) for n in (shift, scale, rotation))
    return mask_damage.damage_mask(tf.constant(mask), *numbers, radius).numpy()


@pytest.mark.parametrize("seed", range(6))
def test_each_change_matches_the_release_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    mask = _drawing(seed)
    # Larger than ever drawn, so that a different rule would show.
    changes = rng.uniform(-0.4, 0.4, 2), rng.uniform(0.6, 1.5), rng.uniform(-0.8, 0.8)
    for radius in (0, 2):
        found = _damaged(mask, *changes, radius)
        expected = release_damage(mask, *changes, radius)
        # In float32, a value of exactly 0.5 may fall on the other side.
        assert (found != expected).sum() <= 1
        assert expected.any() and (expected != mask).sum() > 20


def test_no_change_returns_the_same_mask_and_an_empty_mask_stays_empty():
    np.testing.assert_array_equal(_damaged(_drawing(0), (0, 0), 1, 0), _drawing(0))
    assert not _damaged(np.zeros((5, 6), bool), (0.1, 0.1), 1.1, 0.1, 2).any()
    assert not _damaged(_drawing(0), (3.0, 0.0), 1.0, 0.0).any()


def test_labels_are_damaged_at_the_decoder_resolution_in_random_order():
    labels = np.zeros((33, 41), np.int32)
    labels[4:25, 3:22], labels[8:30, 20:38] = 1, 2
    labels[:, 39:] = 255
    rows, columns = np.arange(9) * 4, np.arange(11) * 4
    on_top = set()
    for seed in range(12):
        strong = {"max_shift": 0.4, "max_scale_change": 0.3, "max_rotation": 25.0}
        arguments = (tf.constant(labels), tf.constant(3), tf.constant([seed, 1]), 4)
        damaged = mask_damage.damage_labels(*arguments, **strong).numpy()
        np.testing.assert_array_equal(damaged == 255, labels == 255)
        draws = tf.random.stateless_uniform([3, 4], [seed, 1], -1.0, 1.0).numpy()
        small = labels[rows][:, columns]
        moved = [
            release_damage(
                small == i,
                draws[i, :2] * 0.4,
                1 + draws[i, 2] * 0.3,
                draws[i, 3] * math.radians(25.0),
                0,
            )
            for i in (1, 2)
        ]
        orders = {}
        for order in ((1, 2), (2, 1)):
            expected = np.zeros_like(small)
            for i in order:
                expected[moved[i - 1]] = i
            expected[small == 255] = 255
            orders[order] = (expected != damaged[rows][:, columns]).sum()
        assert min(orders.values()) <= 1
        if (moved[0] & moved[1]).sum() > 2:
            on_top.add(min(orders, key=orders.get))
    assert on_top == {(1, 2), (2, 1)}


def test_damage_is_small_and_keeps_void_and_ids():
    labels = np.zeros((81, 93), np.int32)
    labels[10:50, 5:45] = 1
    labels[30:70, 50:80] = 2
    labels[:, 88:] = 255
    for seed in range(3):
        arguments = (tf.constant(labels), tf.constant(3), tf.constant([seed, 1]), 4)
        damaged, again = (mask_damage.damage_labels(*arguments).numpy() for _ in range(2))
        np.testing.assert_array_equal(damaged, again)
        assert set(np.unique(damaged)) == {0, 1, 2, 255}
        for index in (1, 2):
            both = ((damaged == index) & (labels == index)).sum()
            either = ((damaged == index) | (labels == index)).sum()
            assert 0.6 < both / either < 1.0


@pytest.mark.parametrize("num_objects", [0, 1])
def test_a_clip_without_objects_is_not_damaged(num_objects):
    labels = tf.fill([9, 9], 255)
    damaged = mask_damage.damage_labels(labels, tf.constant(num_objects), [1, 0], 4)
    np.testing.assert_array_equal(damaged, labels)


def test_amounts_out_of_range_are_refused():
    with pytest.raises(InputError, match="damage_labels.max_shift: expected float of 0.0 or more"):
        mask_damage.damage_labels(tf.zeros([9, 9], tf.int32), 2, [1, 0], 4, max_shift=-1.0)


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
def test_an_error_changes_one_object_but_not_void_or_the_other_object(seed):
    before = drawn_labels()
    after = mask_damage.draw_error(before, 3, NOBODY, np.random.default_rng(seed))
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(after == 255, before == 255)
    touched = [i for i in (1, 2) if ((after == i) != (before == i)).any()]
    assert len(touched) <= 1
    again = mask_damage.draw_error(before, 3, NOBODY, np.random.default_rng(seed))
    np.testing.assert_array_equal(after, again)


def test_every_kind_of_error_does_what_its_name_says():
    for seed in range(10):
        inside, changed = erroneous("part_lost", seed=seed)
        assert not (changed & ~inside).any() and 0 < changed.sum() < inside.sum()
        inside, changed = erroneous("leak", seed=seed)
        assert (changed | inside == changed).all() and changed.sum() > inside.sum()
        inside, changed = erroneous("outline", seed=seed)
        assert 0.3 < changed.sum() / inside.sum() < 2.0 and changed.sum() != inside.sum()
        assert not erroneous("lost", seed=seed)[1].any()


def test_a_bystander_is_added_to_an_object():
    bystanders = NOBODY.copy()
    bystanders[45:50, 20:30] = True
    inside, changed = erroneous("bystander", bystanders)
    np.testing.assert_array_equal(changed, inside | bystanders)


def test_a_mask_without_objects_is_unchanged():
    labels = np.zeros((20, 20), np.uint8)
    result = mask_damage.draw_error(labels, 2, NOBODY[:20, :20], np.random.default_rng(0))
    np.testing.assert_array_equal(result, labels)

import numpy as np
import pytest

from feelvos_tf.data import prediction_errors

NOBODY = np.zeros((60, 80), bool)


def drawn_labels():
    labels = np.zeros((60, 80), np.uint8)
    labels[10:40, 10:40] = 1
    labels[10:40, 45:70] = 2
    labels[55:] = 255
    return labels


def mistake(kind, bystanders=NOBODY, seed=0):
    inside = drawn_labels() == 1
    return inside, prediction_errors._changed(inside, bystanders, kind, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(20))
def test_a_mistake_changes_one_object_and_leaves_void_and_the_other_alone(seed):
    before = drawn_labels()
    after = prediction_errors.draw_error(before, 3, NOBODY, np.random.default_rng(seed))
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(after == 255, before == 255)
    touched = [i for i in (1, 2) if ((after == i) != (before == i)).any()]
    assert len(touched) <= 1
    again = prediction_errors.draw_error(before, 3, NOBODY, np.random.default_rng(seed))
    np.testing.assert_array_equal(after, again)


def test_every_kind_does_what_it_is_called():
    for seed in range(10):
        inside, changed = mistake("part_lost", seed=seed)
        assert not (changed & ~inside).any() and 0 < changed.sum() < inside.sum()
        inside, changed = mistake("leak", seed=seed)
        assert (changed | inside == changed).all() and changed.sum() > inside.sum()
        inside, changed = mistake("outline", seed=seed)
        assert 0.3 < changed.sum() / inside.sum() < 2.0 and changed.sum() != inside.sum()
        assert not mistake("lost", seed=seed)[1].any()


def test_a_bystander_is_caught():
    bystanders = NOBODY.copy()
    bystanders[45:50, 20:30] = True
    inside, changed = mistake("bystander", bystanders)
    np.testing.assert_array_equal(changed, inside | bystanders)


def test_a_mask_without_objects_stays_as_it_is():
    labels = np.zeros((20, 20), np.uint8)
    result = prediction_errors.draw_error(labels, 2, NOBODY[:20, :20], np.random.default_rng(0))
    np.testing.assert_array_equal(result, labels)

import numpy as np
import tensorflow as tf

from feelvos_tf.data.clip_source import ClipOrder


def turns(order: ClipOrder, first: int, count: int) -> np.ndarray:
    """Returns (data set, video) of consecutive clips, [count, 2]."""
    numbers = tf.data.Dataset.range(first, first + count)
    return np.array(list(numbers.map(lambda n: order.turn(n)[:2]).as_numpy_iterator()))


def test_every_video_has_one_turn_in_every_round_and_rounds_differ():
    rounds = turns(ClipOrder([7], [1.0], seed=3), 0, 35)[:, 1].reshape(5, 7)
    assert (np.sort(rounds, 1) == np.arange(7)).all()
    assert len({tuple(order) for order in rounds}) > 1


def test_the_video_of_a_clip_does_not_depend_on_the_first_clip_read():
    for order in (ClipOrder([7], [1.0], 3), ClipOrder([7, 5], [0.5, 0.5], 3)):
        np.testing.assert_array_equal(turns(order, 0, 60)[41:], turns(order, 41, 19))


def test_data_sets_get_their_shares_and_videos_equal_turns():
    found = turns(ClipOrder([3, 4, 2], [0.2, 0.0, 0.8], seed=5), 10_000, 10_000)
    shares = np.bincount(found[:, 0], minlength=3)
    assert list(shares) == [2000, 0, 8000]
    assert list(np.bincount(found[found[:, 0] == 2, 1])) == [4000, 4000]
    # They are mixed: no long stretch comes from a single data set.
    assert 10 < (found[:100, 0] == 0).sum() < 35


def test_different_seeds_give_different_orders():
    one, other = (turns(ClipOrder([20], [1.0], seed), 0, 20) for seed in (1, 2))
    assert (one != other).any()


def test_turns_know_whether_they_belong_to_the_first_round():
    order = ClipOrder([4], [1.0], seed=0)
    first = [bool(order.turn(tf.constant(n, tf.int64))[2]) for n in range(8)]
    assert first == [True] * 4 + [False] * 4

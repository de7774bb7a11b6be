from collections import Counter

import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import paper_clips
from feelvos_tf.data.paper_clips import ClipSettings


def _draw(num_frames, count, **settings):
    clips = ClipSettings(**settings)
    draw = tf.function(lambda seed: paper_clips.draw_frames(tf.constant(num_frames), seed, clips))
    return [tuple(draw(tf.constant([5, i])).numpy()) for i in range(count)]


def _rows_of_the_release(num_frames, length):
    """Returns where `length - 1` frames in a row may begin, the reference being drawn apart."""
    return [tuple(range(start, start + length - 1)) for start in range(num_frames - length + 1)]


def test_frames_are_those_that_the_release_may_draw_all_as_often():
    drawn = _draw(5, 400)
    rows = _rows_of_the_release(5, 3)
    assert rows == [(0, 1), (1, 2), (2, 3)]
    assert {frames[1:] for frames in drawn} == set(rows)
    assert {reference for reference, *_ in drawn} == set(range(5))
    combinations = Counter(drawn)
    assert len(combinations) == 15
    assert max(combinations.values()) < 60


def test_following_frames_are_drawn_as_one_row_with_the_others():
    drawn = _draw(8, 300, rollout_steps=2)
    assert {frames[1:] for frames in drawn} == set(_rows_of_the_release(8, 5))
    assert ClipSettings(rollout_steps=2).num_frames == 5
    assert ClipSettings(rollout_steps=2).frames_needed == 5
    assert {frames[1:] for frames in _draw(5, 5, rollout_steps=2)} == {(0, 1, 2, 3)}


def test_the_mask_of_two_frames_before_is_the_first_of_the_release_s_row_of_four():
    """Line 3 of table 6: the frame between is read by the release, and not used."""
    gap = {"min_frame_gap": 2, "max_frame_gap": 2}
    drawn = _draw(7, 300, **gap)
    assert {frames[1:] for frames in drawn} == {(r[0], r[2]) for r in _rows_of_the_release(7, 4)}
    assert ClipSettings(**gap).frames_needed == 4


def test_fine_tuning_uses_the_first_frame_for_all():
    assert set(_draw(9, 5, first_frame_only=True)) == {(0, 0, 0)}
    assert set(_draw(9, 2, first_frame_only=True, rollout_steps=1)) == {(0, 0, 0, 0)}


def test_a_larger_gap_draws_every_distance_up_to_it_and_stays_inside_short_videos():
    drawn = _draw(7, 400, max_frame_gap=3)
    assert {current - previous for _, previous, current in drawn} == {1, 2, 3}
    assert {current for _, _, current in drawn} == {1, 2, 3, 4, 5}
    assert {frames[1:] for frames in _draw(3, 20, max_frame_gap=5)} == {(0, 1)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_frame_gap": 3}, "expected min_frame_gap <= max_frame_gap, found 3 and 1"),
        ({"max_resize_value": 9}, "max_resize_value: expected None without a min_resize_value"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ClipSettings(**settings)

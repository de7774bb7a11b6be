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


def _runs_of_the_release(num_frames, length):
    """Returns the release's runs of `length - 1` frames; the reference is drawn separately."""
    return [tuple(range(start, start + length - 1)) for start in range(num_frames - length + 1)]


def test_frames_are_drawn_as_often_as_in_the_release():
    drawn = _draw(5, 400)
    runs = _runs_of_the_release(5, 3)
    assert runs == [(0, 1), (1, 2), (2, 3)]
    assert {frames[1:] for frames in drawn} == set(runs)
    assert {reference for reference, *_ in drawn} == set(range(5))
    combinations = Counter(drawn)
    assert len(combinations) == 15
    assert max(combinations.values()) < 60


def test_following_frames_continue_the_run_of_previous_and_current():
    drawn = _draw(8, 300, rollout_steps=2)
    assert {frames[1:] for frames in drawn} == set(_runs_of_the_release(8, 5))
    assert ClipSettings(rollout_steps=2).num_frames == 5
    assert ClipSettings(rollout_steps=2).frames_needed == 5
    assert {frames[1:] for frames in _draw(5, 5, rollout_steps=2)} == {(0, 1, 2, 3)}


def test_a_gap_of_two_matches_the_release_s_run_of_four_frames():
    """Line 3 of table 6: the release reads the frame in between but does not use it."""
    gap = {"min_frame_gap": 2, "max_frame_gap": 2}
    drawn = _draw(7, 300, **gap)
    assert {frames[1:] for frames in drawn} == {(r[0], r[2]) for r in _runs_of_the_release(7, 4)}
    assert ClipSettings(**gap).frames_needed == 4


def test_fine_tuning_uses_the_first_frame_for_all():
    assert set(_draw(9, 5, first_frame_only=True)) == {(0, 0, 0)}
    assert set(_draw(9, 2, first_frame_only=True, rollout_steps=1)) == {(0, 0, 0, 0)}


def test_gaps_up_to_the_maximum_are_drawn_and_stay_inside_short_videos():
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
def test_contradictory_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ClipSettings(**settings)

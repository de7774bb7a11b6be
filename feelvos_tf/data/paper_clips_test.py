from collections import Counter

import tensorflow as tf

from feelvos_tf.data import paper_clips


def _draw(num_frames, count, **options):
    return [
        tuple(
            paper_clips.draw_frames(tf.constant(num_frames), tf.constant([5, i]), **options).numpy()
        )
        for i in range(count)
    ]


def test_previous_and_current_are_adjacent_and_the_reference_is_anywhere():
    drawn = _draw(4, 300)
    assert {current - previous for _, previous, current in drawn} == {1}
    assert {reference for reference, _, _ in drawn} == {0, 1, 2, 3}
    assert {previous for _, previous, _ in drawn} == {0, 1, 2}
    combinations = Counter((reference, previous) for reference, previous, _ in drawn)
    assert len(combinations) == 12
    assert max(combinations.values()) < 60


def test_the_shortest_video_still_gives_a_clip():
    assert set(_draw(2, 20)) == {(0, 0, 1), (1, 0, 1)}


def test_fine_tuning_uses_the_first_frame_three_times():
    assert set(_draw(9, 5, first_frame_only=True)) == {(0, 0, 0)}


def test_a_larger_gap_draws_every_distance_up_to_it_and_stays_inside_short_videos():
    drawn = _draw(6, 400, max_frame_gap=3)
    assert {current - previous for _, previous, current in drawn} == {1, 2, 3}
    assert {current for _, _, current in drawn} == {1, 2, 3, 4, 5}
    assert set(_draw(2, 20, max_frame_gap=5)) == {(0, 0, 1), (1, 0, 1)}

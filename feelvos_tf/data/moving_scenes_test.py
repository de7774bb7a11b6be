import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import moving_scenes
from feelvos_tf.data.moving_scenes import MovingScenes


def test_frames_follow_one_another_at_one_gap_forwards_and_backwards():
    scenes = MovingScenes(max_frame_gap=4)
    gaps = set()
    for seed in range(200):
        frames = moving_scenes.draw_frames(20, 5, np.random.default_rng(seed), scenes)
        assert frames.min() >= 0 and frames.max() < 20 and len(frames) == 5
        steps = np.diff(frames[1:])
        assert (steps == steps[0]).all()
        gaps.add(int(steps[0]))
    assert gaps == {-4, -3, -2, -1, 1, 2, 3, 4}
    reach = moving_scenes.draw_frames(5, 5, np.random.default_rng(0), scenes)
    assert abs(reach[-1] - reach[1]) == 3


def test_stills_and_too_short_videos_give_a_single_frame():
    rng = np.random.default_rng(0)
    assert len(moving_scenes.draw_frames(1, 4, rng, MovingScenes())) == 1
    assert len(moving_scenes.draw_frames(3, 4, rng, MovingScenes())) == 1
    always = MovingScenes(still_probability=1.0)
    assert len(moving_scenes.draw_frames(30, 4, rng, always)) == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"min_scale": 2.0}, "0 < min_scale <= max_scale, got 2.0 and 1.6"),
        ({"paste_probability": 1.5}, "paste_probability must be between 0 and 1, got 1.5"),
        ({"cut_probability": 0.8}, "sum to at most 1, got 0.8 and 0.3"),
        ({"max_frame_gap": 0}, "max_frame_gap must be 1 or more, got 0"),
        ({"count_shares": ()}, "count_shares must be numbers of 0 or more"),
    ],
)
def test_settings_out_of_range_are_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence.replace("(", r"\(")):
        MovingScenes(**settings)

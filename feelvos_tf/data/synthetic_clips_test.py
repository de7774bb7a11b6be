import re

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import synthetic_clips
from feelvos_tf.data.synthetic_clips import MovingScenes


def test_frames_run_forward_or_backward_with_one_gap():
    scenes = MovingScenes(max_frame_gap=4)
    gaps = set()
    for seed in range(200):
        frames = synthetic_clips.draw_frames(20, 5, np.random.default_rng(seed), scenes)
        assert frames.min() >= 0 and frames.max() < 20 and len(frames) == 5
        steps = np.diff(frames[1:])
        assert (steps == steps[0]).all()
        gaps.add(int(steps[0]))
    assert gaps == {-4, -3, -2, -1, 1, 2, 3, 4}
    reach = synthetic_clips.draw_frames(5, 5, np.random.default_rng(0), scenes)
    assert abs(reach[-1] - reach[1]) == 3


def test_stills_and_too_short_videos_give_a_single_frame():
    rng = np.random.default_rng(0)
    assert len(synthetic_clips.draw_frames(1, 4, rng, MovingScenes())) == 1
    assert len(synthetic_clips.draw_frames(3, 4, rng, MovingScenes())) == 1
    always = MovingScenes(still_probability=1.0)
    assert len(synthetic_clips.draw_frames(30, 4, rng, always)) == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"min_scale": 2.0}, "0 < min_scale <= max_scale, found 2.0 and 1.6"),
        ({"paste_probability": 1.5}, "paste_probability: expected float of 0.0 to 1.0, found 1.5"),
        ({"cut_probability": 0.8}, "sum to at most 1, found 0.8 and 0.3"),
        ({"max_frame_gap": 0}, "max_frame_gap: expected int of 1 or more, found 0"),
        ({"count_shares": (-1.0, 2.0)}, "count_shares: expected Sequence[float of 0.0 or more]"),
        ({"light": -1.0}, "light: expected float of 0.0 or more, found -1.0"),
        ({"count_shares": ()}, "count_shares: expected numbers with a positive sum"),
    ],
)
def test_settings_out_of_range_give_one_line_errors(settings, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        MovingScenes(**settings)

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page import propagation
from feelvos_tf.demo_page.clip_files import ClipFiles
from feelvos_tf.demo_page.limits import Limits
from feelvos_tf.inference.numpy_predictor import NumpyPredictor
from feelvos_tf.testing import color_model, drawn_videos

SIZE = (48, 80)


@pytest.mark.parametrize(
    ("direction", "forward", "backward"),
    [("both", [5, 6], [3, 2]), ("forward", [5, 6], []), ("backward", [], [3, 2])],
)
def test_a_run_ends_at_the_next_painted_frames(direction, forward, backward):
    found = propagation.frames_to_segment(4, {1, 4, 7}, 10, direction)
    assert [list(each) for each in found] == [forward, backward]


def test_without_other_painted_frames_it_goes_to_both_ends():
    found = propagation.frames_to_segment(1, {1}, 4, "both")
    assert [list(each) for each in found] == [[2, 3], [0]]


@pytest.fixture
def clip(tmp_path):
    images = (drawn_videos.draw(frame, [3, 7], SIZE)[0] for frame in range(6))
    return ClipFiles(tmp_path, images, 10.0, Limits())


def test_objects_of_all_painted_frames_are_followed(clip):
    """Object 3 is painted in frame 1 alone, 7 in frame 4; the run begins at 4."""
    truth = [drawn_videos.draw(frame, [3, 7], SIZE)[1] for frame in range(6)]
    clip.write_mask(1, np.where(truth[1] == 3, truth[1], 0))
    clip.write_mask(4, truth[4])
    done = []
    propagation.propagate(
        NumpyPredictor(color_model.ColorModel()),
        clip,
        {1, 4},
        4,
        "both",
        lambda position: done.append(position) or True,
        contextlib.nullcontext(),
    )
    assert done == [5, 3, 2]
    for position in done:
        assert np.mean(clip.mask(position) != truth[position]) < 0.02
    assert set(np.unique(clip.mask(1))) == {0, 3}
    assert clip.masked() == [1, 2, 3, 4, 5]


def test_a_run_stops_when_it_is_told_to(clip):
    clip.write_mask(0, drawn_videos.draw(0, [3, 7], SIZE)[1])
    predictor = NumpyPredictor(color_model.ColorModel())
    end = [], contextlib.nullcontext()
    propagation.propagate(predictor, clip, {0}, 0, "both", lambda p: bool(end[0].append(p)), end[1])
    assert end[0] == [1]


def test_a_run_without_objects_is_refused(clip):
    with pytest.raises(InputError, match="paint an object first"):
        propagation.propagate(
            NumpyPredictor(color_model.ColorModel()),
            clip,
            {0},
            0,
            "both",
            lambda _: True,
            contextlib.nullcontext(),
        )


def test_a_clip_is_cut_scaled_and_refused_by_its_limits(tmp_path):
    images = [np.zeros((40, 100, 3), np.uint8)] * 5
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    found = ClipFiles(tmp_path / "a", images, 10.0, Limits(frames=3, side=50))
    assert (found.count, found.size, found.is_cut) == (3, (20, 50), True)
    with pytest.raises(InputError, match="found none"):
        ClipFiles(tmp_path / "b", [], 10.0, Limits())
    with pytest.raises(InputError, match="usual shape, found 5000x2"):
        ClipFiles(tmp_path / "c", [np.zeros((2, 5000, 3), np.uint8)], 10.0, Limits())

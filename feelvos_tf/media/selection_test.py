"""Parts of videos: which frames, their size and their names."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.media import live_frames, video
from feelvos_tf.media.selection import SelectedFrames, Selection


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        Image.new("RGB", (64, 48), (20 * number, 0, 0)).save(tmp_path / f"shot{number}.png")
    return video.open_frames(tmp_path)


def live(count=10):
    frames = (
        video.Frame(n, Fraction(n, 10), np.full((48, 64, 3), 20 * n, np.uint8))
        for n in range(count)
    )
    return live_frames.LiveFrames(frames, 10)


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection(), range(10)),
        (Selection(3), range(3, 10)),
        (Selection(3, 8, 2), [3, 5, 7]),
        (Selection(0, 99, 4), [0, 4, 8]),
        (Selection(12), []),
    ],
)
def test_chosen_frames_keep_their_numbers_times_and_names(folder, is_live, selection, numbers):
    source = live() if is_live else folder
    chosen = SelectedFrames(source, selection)
    first = chosen.first()
    assert first is None if not numbers else first[0, 0, 0] == 20 * numbers[0]
    frames = list(chosen)
    assert [frame.number for frame in frames] == list(numbers)
    assert [frame.image[0, 0, 0] for frame in frames] == [20 * n for n in numbers]
    rate = 10 if is_live else 24
    assert [frame.time for frame in frames] == [Fraction(n, rate) for n in numbers]
    assert chosen.length == (None if is_live else len(numbers))
    assert chosen.frames_per_second == rate / selection.every
    if numbers:
        name = f"{numbers[-1]:05d}" if is_live else f"shot{numbers[-1]}"
        assert chosen.name(len(numbers) - 1) == name


def test_large_frames_are_scaled_down_and_small_ones_are_not(folder):
    assert SelectedFrames(folder, Selection(max_side=32)).first().shape == (24, 32, 3)
    assert SelectedFrames(folder, Selection(max_side=100)).first().shape == (48, 64, 3)
    assert Selection(max_side=100).size(1, 9000) == (1, 100)


def test_a_live_video_ends_when_it_is_stopped():
    source = live()
    seen = []
    for frame in SelectedFrames(source, Selection()):
        seen.append(frame.number)
        if frame.number == 3:
            source.stop()
    assert seen == [0, 1, 2, 3]

"""One video, frame by frame: later objects, corrections, what is held in memory."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest

from feelvos_tf.inference import input_video, segmenting
from feelvos_tf.inference.segmenting import Timing, segmented
from feelvos_tf.media import masks, video
from feelvos_tf.testing import drawn_videos
from feelvos_tf.testing.by_color import ByColor, ByColorState, with_later_object


def test_object_that_appears_later_is_followed_from_its_own_mask_on(tmp_path):
    given, truth = with_later_object(tmp_path)
    for frame, expected in zip(segmented(ByColor(), given, Timing()), truth):
        np.testing.assert_array_equal(frame.ids, expected)


def test_a_mask_given_later_shows_all_of_known_objects_and_adds_new_ones(tmp_path):
    given, _ = with_later_object(tmp_path)
    ids = np.zeros((48, 80), np.uint8)
    ids[10:20, 10:20], ids[10:20, 30:40] = 1, 2
    mask = np.zeros_like(ids)
    mask[12:22, 10:20], mask[40:, 60:], mask[0, 0] = 1, 9, 255
    state = ByColor().start(next(iter(given.frames)).image, ids)
    result = segmenting._taken(state, mask, ids)
    expected = np.where(ids == 2, 2, np.where(mask == 255, 0, mask))
    np.testing.assert_array_equal(result, expected)
    assert sorted(state.object_ids) == [0, 1, 2, 9]
    # Nothing is said of where object 1 was not before and is not now.
    assert (state.corrected[12:22, 10:20] == 1).all() and (state.corrected[10:12, 10:20] == 0).all()
    assert (state.corrected == 255).sum() == state.corrected.size - 120


def test_objects_compete_wherever_they_come_from(tmp_path):
    given, truth = with_later_object(tmp_path)

    class LaterObjectEverywhere(ByColorState):
        def add_objects(self, mask):
            # The color of what is object 1: were the later object laid on top, it would win.
            self._ids.append(4)
            self._colors.append(drawn_videos.COLORS[1] + 3.0)

    class Segmenter:
        def start(self, image, mask):
            return LaterObjectEverywhere(image, mask)

    last = list(segmented(Segmenter(), given, Timing()))[-1]
    np.testing.assert_array_equal(last.ids == 1, truth[-1] == 1)


def test_every_frame_goes_through_one_state_once(tmp_path):
    given, truth = with_later_object(tmp_path)
    calls = []

    class Counting(ByColorState):
        def step(self, image):
            calls.append("step")
            return super().step(image)

    class Segmenter:
        def start(self, image, mask):
            calls.append("start")
            return Counting(image, mask)

    list(segmented(Segmenter(), given, Timing()))
    assert calls == ["start"] + ["step"] * (len(truth) - 1)


class BlankFrames:
    """Frames that exist only while somebody holds them."""

    length, paths, frames_per_second, is_live = None, [], 24, False

    def __init__(self, count, on_frame=lambda frame: frame):
        self._count, self._on_frame = count, on_frame

    def timed(self, start=0, end=None, every=1):
        """Yields all frames."""
        for number in range(self._count):
            yield video.Frame(number, number / 24, self._on_frame(np.zeros((8, 8, 3), np.uint8)))


@pytest.fixture
def blank_mask(tmp_path):
    masks.write_mask(tmp_path / "mask.png", np.ones((8, 8), np.uint8))
    return tmp_path / "mask.png"


def test_a_handful_of_frames_is_alive_however_long_the_video(blank_mask):
    alive, most = weakref.WeakSet(), 0

    class Frame(np.ndarray):
        __hash__ = object.__hash__

    def watched(frame):
        frame = frame.view(Frame)
        alive.add(frame)
        return frame

    given = input_video.InputVideo("long", BlankFrames(100, watched), blank_mask)
    for _ in segmented(ByColor(), given, Timing()):
        most = max(most, len(alive))
    assert 1 <= most <= 5


def test_next_frame_is_read_while_the_model_runs(blank_mask):
    read, second_read = [], threading.Event()

    def noticed(frame):
        read.append(frame)
        if len(read) == 2:
            second_read.set()
        return frame

    class Waiting(ByColor):
        def start(self, image, mask):
            assert second_read.wait(timeout=20)
            return super().start(image, mask)

    given = input_video.InputVideo("video", BlankFrames(2, noticed), blank_mask)
    assert len(list(segmented(Waiting(), given, Timing()))) == 2

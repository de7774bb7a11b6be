from __future__ import annotations

import contextlib
from fractions import Fraction

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page.clip_files import ClipFiles
from feelvos_tf.demo_page.propagation import frames_to_propagate, propagate
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media.live_frames import LiveFrames
from feelvos_tf.media.video import Frame
from feelvos_tf.testing import color_model, drawn_videos

SIZE = (48, 80)


@pytest.mark.parametrize(
    ("direction", "forward", "backward"),
    [("both", [5, 6], [3, 2]), ("forward", [5, 6], []), ("backward", [], [3, 2])],
)
def test_a_run_ends_at_the_next_painted_frames(direction, forward, backward):
    found = frames_to_propagate(4, {1, 4, 7}, 10, direction)
    assert [list(each) for each in found] == [forward, backward]


def test_without_other_painted_frames_a_run_reaches_both_ends():
    found = frames_to_propagate(1, {1}, 4, "both")
    assert [list(each) for each in found] == [[2, 3], [0]]


@pytest.fixture
def clip(tmp_path):
    images = (drawn_videos.draw(frame, [3, 7], SIZE)[0] for frame in range(6))
    return ClipFiles(tmp_path, frames_of(images), max_frames=9, max_side=960)


def frames_of(images):
    timed = (Frame(number, Fraction(number, 10), image) for number, image in enumerate(images))
    return LiveFrames(timed, 10.0)


def masks_of(clip, given, position) -> dict[int, np.ndarray]:
    """Returns position -> mask of a run in both directions, with a model that tracks colors."""
    predictor = VideoPredictor(color_model.ColorModel())
    return dict(propagate(predictor, clip, given, position, "both", contextlib.nullcontext))


def test_objects_of_all_painted_frames_are_propagated(clip):
    """Object 3 is painted only in frame 1, object 7 in frame 4; the run starts at 4."""
    truth = [drawn_videos.draw(frame, [3, 7], SIZE)[1] for frame in range(6)]
    clip.write_mask(1, np.where(truth[1] == 3, truth[1], 0))
    clip.write_mask(4, truth[4])
    found = masks_of(clip, {1, 4}, 4)
    assert list(found) == [5, 3, 2]
    for position, mask in found.items():
        assert np.mean(mask != truth[position]) < 0.02
    assert clip.masked() == [1, 4]


def test_a_run_without_objects_is_refused(clip):
    with pytest.raises(InputError, match="at least one object, found none"):
        masks_of(clip, {0}, 0)


def test_the_network_is_released_after_every_frame(clip):
    """Three painted frames with one between them: nobody has to wait for all references."""
    for position in (0, 2, 3):
        clip.write_mask(position, drawn_videos.draw(position, [3, 7], SIZE)[1])
    turns = []
    turn = contextlib.contextmanager(lambda: iter([turns.append(1)]))
    predictor = VideoPredictor(color_model.ColorModel())
    assert len(list(propagate(predictor, clip, {0, 2, 3}, 2, "both", turn))) == 1
    assert len(turns) == 3 + 1


def test_a_clip_is_cut_scaled_or_refused_at_its_limits(tmp_path):
    images = [np.zeros((40, 100, 3), np.uint8)] * 5
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    found = ClipFiles(tmp_path / "a", frames_of(images), max_frames=3, max_side=50)
    assert (found.count, found.size, found.is_cut) == (3, (20, 50), True)
    with pytest.raises(InputError, match="found none"):
        ClipFiles(tmp_path / "b", frames_of([]), 9, 960)
    with pytest.raises(InputError, match="ratio of at most 20, found 5000x2"):
        ClipFiles(tmp_path / "c", frames_of([np.zeros((2, 5000, 3), np.uint8)]), 9, 960)

"""--points: clicks and boxes from a file start a video and correct it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from feelvos_tf import predict
from feelvos_tf.inference import model_loading
from feelvos_tf.media import masks
from feelvos_tf.testing import color_model, drawn_videos, in_this_process

SIZE, FRAMES = (48, 80), 4
CLICK = {"object_id": 7, "points": [[14, 10]]}


@pytest.fixture
def program(tmp_path, monkeypatch, eagerly):
    """Returns a function that runs predict on a drawn clip with a list of marked objects."""
    monkeypatch.setattr(model_loading, "load_saved_model", lambda _: color_model.ColorModel())
    monkeypatch.setattr(model_loading, "choose", lambda *_: CHOICE)
    (tmp_path / "frames").mkdir()
    for frame in range(FRAMES):
        image, _ = drawn_videos.draw(frame, [7, 3], SIZE)
        Image.fromarray(image).save(tmp_path / f"frames/{frame}.png")

    def run(objects, *more):
        (tmp_path / "objects.json").write_text(json.dumps(objects))
        return in_this_process.run(
            predict,
            f"--video={tmp_path / 'frames'}",
            f"--points={tmp_path / 'objects.json'}",
            f"--output_dir={tmp_path / 'masks'}",
            *more,
        )

    return run


CHOICE = model_loading.ModelChoice("somewhere", None, "colors")


def test_objects_are_followed_from_the_frames_they_are_marked_in(program, tmp_path):
    box = {"object_id": 3, "frame": 2, "box": [30, 14, 52, 34]}
    done = program([CLICK, box])
    assert done.returncode == 0, done.stderr
    for frame in range(FRAMES):
        found = masks.read_annotation(tmp_path / f"masks/{frame}.png")
        truth = drawn_videos.draw(frame, [7, 3], SIZE)[1]
        shown = [7, 3] if frame >= 2 else [7]
        assert np.mean(found != np.where(np.isin(truth, shown), truth, 0)) < 0.02, frame
    assert "1 of 1 sequences were already complete" in program([CLICK, box]).stdout


@pytest.mark.parametrize("flags", [(), ("--max_side=40",)])
def test_a_later_click_adds_to_the_tracked_mask(program, tmp_path, flags):
    later = {"object_id": 7, "frame": 2, "points": [[40, 24]]}  # On the other disk.
    done = program([CLICK, later], *flags)
    assert done.returncode == 0, done.stderr
    both = drawn_videos.draw(2, [7, 3], SIZE)[1] > 0
    found = masks.read_annotation(tmp_path / "masks/2.png")
    assert set(np.unique(found)) == {0, 7}
    step = both.shape[0] // found.shape[0]
    assert np.mean((found > 0) != both[::step, ::step]) < 0.03
    other = {**later, "points": [[40, 23]]}
    assert "already complete" not in program([CLICK, other], *flags).stdout


def test_a_later_click_outside_the_object_suffices(program, tmp_path):
    done = program([CLICK, {"object_id": 7, "frame": 2, "points": [[70, 40]], "labels": [0]}])
    assert done.returncode == 0, done.stderr
    found = masks.read_annotation(tmp_path / "masks/2.png")
    assert np.mean((found == 7) != (drawn_videos.draw(2, [7, 3], SIZE)[1] == 7)) < 0.02


def test_marks_without_a_frame_are_for_the_first_selected_one(program, tmp_path):
    done = program([{**CLICK, "points": [[16, 10]]}], "--start=1")
    assert done.returncode == 0, done.stderr
    found = masks.read_annotation(tmp_path / "masks/3.png")
    assert np.mean((found == 7) != (drawn_videos.draw(3, [7, 3], SIZE)[1] == 7)) < 0.02


@pytest.mark.parametrize(
    ("objects", "flags", "sentence"),
    [
        ([{**CLICK, "points": [[99, 0]]}], (), "object 7 in frame 0: expected points inside"),
        ([{**CLICK, "labels": [0]}], (), "objects.json: object 7 in frame 0: expected a point on"),
        (
            [CLICK, {**CLICK, "frame": 1, "points": [[99, 0]]}],
            (),
            "objects.json: object 7 in frame 1: expected points inside",
        ),
        ([{**CLICK, "frame": 1}], (), "expected an object in the first frame (0)"),
        ([CLICK, {**CLICK, "frame": 9}], (), "expected frames of the video, found frame 9"),
        (
            [CLICK, {**CLICK, "frame": 1}],
            ("--every=2",),
            "objects.json: expected marks in selected frames, found some in frame 1",
        ),
        ([CLICK], ("--mask=mask.png",), "--mask (of its first frame) or --points"),
        ([CLICK], ("--mask_at=1:mask.png",), "--mask_at needs --mask"),
    ],
)
def test_invalid_points_are_reported(program, tmp_path, objects, flags, sentence):
    done = program(objects, *flags)
    assert done.returncode == 1 and sentence in done.stderr, done.stderr
    assert not (tmp_path / "masks").exists()

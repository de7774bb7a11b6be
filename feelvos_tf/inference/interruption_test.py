"""Interrupted runs and how the next run resumes them."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import propagation
from feelvos_tf.media import mask_folder, masks, video
from feelvos_tf.testing import drawn_videos
from feelvos_tf.testing.by_color import ByColor, davis_videos, run


class InterruptedAfter(ByColor):
    """Is interrupted in the `count`-th step; collects their images in `steps`."""

    def __init__(self, count):
        self.steps, self._count = [], count

    def another(self):
        return self

    def step(self, image):
        self.steps.append(image)
        if len(self.steps) == self._count:
            raise KeyboardInterrupt
        return super().step(image)


def test_interrupted_run_keeps_complete_sequences_and_continues(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})

    class Interrupted(ByColor):
        def start(self, image, mask):
            if 2 in mask:
                raise KeyboardInterrupt
            super().start(image, mask)

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(davis_videos(root), output, make_predictor=Interrupted)
    assert [path.name for path in output.iterdir()] == ["bear"]
    assert run(davis_videos(root), output).done == ["cows"]


def test_an_interrupted_run_resumes_where_it_stopped_with_the_same_results(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, 9)
    output, look = tmp_path / "out", tmp_path / "look"
    with pytest.raises(KeyboardInterrupt):
        run(davis_videos(root), output, make_predictor=lambda: InterruptedAfter(4), look=look)
    assert not list(look.iterdir())
    assert [path.name for path in output.iterdir()] == ["bear.partial"]
    assert len(list((output / "bear.partial").glob("*.png"))) == 4
    second = InterruptedAfter(99)
    run(davis_videos(root), output, make_predictor=lambda: second, look=look)
    assert len(second.steps) == 5
    run(davis_videos(root), tmp_path / "at once")
    assert [path.name for path in output.iterdir()] == ["bear"]
    assert len(list(video.open_frames(look / "bear.mp4"))) == 9
    for frame in range(9):
        name = f"bear/{frame:05d}.png"
        assert (output / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()
    assert mask_folder.is_complete(output / "bear", stamp_of(output / "bear"))


def test_a_killed_run_resumes_from_its_last_saved_state(tmp_path, monkeypatch):
    monkeypatch.setattr(propagation, "SECONDS_BETWEEN_STATES", 0.0)
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, 9)
    with pytest.raises(KeyboardInterrupt):
        run(davis_videos(root), tmp_path / "out", make_predictor=lambda: InterruptedAfter(6))
    partial = tmp_path / "out/bear.partial"
    # As if the process was killed after writing this mask and before saving the next state.
    masks.write_mask(partial / "00006.png", np.zeros((48, 80), np.uint8))
    run(davis_videos(root), tmp_path / "out")
    run(davis_videos(root), tmp_path / "at once")
    one, two = (
        masks.read_annotation(tmp_path / out / "bear/00006.png") for out in ("out", "at once")
    )
    np.testing.assert_array_equal(one, two)


def test_an_interrupted_run_is_not_resumed_with_other_settings_or_frames(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, 6)
    for settings, change in (({"size": 1}, None), ({}, root / "JPEGImages/480p/bear/00005.jpg")):
        output = tmp_path / f"out{len(settings)}"
        with pytest.raises(KeyboardInterrupt):
            run(davis_videos(root), output, make_predictor=lambda: InterruptedAfter(4))
        if change:
            change.write_bytes((root / "JPEGImages/480p/bear/00004.jpg").read_bytes())
        second = InterruptedAfter(99)
        run(davis_videos(root), output, settings, make_predictor=second.another)
        assert len(second.steps) == 5


def test_a_full_disk_is_reported_and_the_result_is_not_complete(tmp_path, monkeypatch):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, 6)
    written = []
    save = Image.Image.save

    def save_while_there_is_space(image, *arguments, **options):
        written.append(image)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", save_while_there_is_space)
    with pytest.raises(InputError, match="00003.png: cannot be written, no space is left.*3 masks"):
        run(davis_videos(root), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bear.partial"]
    second = InterruptedAfter(99)
    run(davis_videos(root), tmp_path / "out", make_predictor=lambda: second)
    assert len(second.steps) == 3
    assert mask_folder.is_complete(tmp_path / "out/bear", stamp_of(tmp_path / "out/bear"))


def stamp_of(folder):
    return json.loads((folder / mask_folder.STAMP).read_text())["settings"]

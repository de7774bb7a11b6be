"""Overlay videos and contact sheets."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video
from feelvos_tf.media import masks, pictures, video, video_writing
from feelvos_tf.testing import drawn_videos
from feelvos_tf.testing.by_color import davis_videos, run


def test_overlays_show_every_frame_under_its_mask(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, num_frames=8)
    run(davis_videos(root), tmp_path / "out", look=tmp_path / "look")
    shown = list(video.open_frames(tmp_path / "look" / "bear.mp4"))
    assert len(shown) == 8
    for frame, image in enumerate(shown):
        picture, mask = drawn_videos.draw(frame, [1, 2])
        difference = np.abs(image.astype(int) - picture).sum(axis=-1)
        assert difference[mask > 0].mean() > 4 * difference[mask == 0].mean()
    sheet = pictures.read_image(tmp_path / "look" / "bear.jpg")
    assert sheet.shape == (2 * 256 + 6, 3 * 427 + 2 * 6, 3)


def test_an_overlay_has_the_pixel_aspect_of_its_video(tmp_path):
    with video_writing.writing_video(tmp_path / "wide.mp4", 10, pixel_aspect=Fraction(4, 3)) as w:
        for frame in range(2):
            w(drawn_videos.draw(frame, [1])[0])
    masks.write_mask(tmp_path / "mask.png", drawn_videos.draw(0, [1])[1])
    wide = input_video.from_video(tmp_path / "wide.mp4", tmp_path / "mask.png", name="wide")
    run([wide], tmp_path / "out", look=tmp_path / "look")
    assert video.open_frames(tmp_path / "look" / "wide.mp4").pixel_aspect == Fraction(4, 3)


@pytest.mark.parametrize("target", ["clip.mp4", "clip.jpg"])
def test_an_overlay_does_not_replace_the_video_or_a_mask_beside_it(tmp_path, target):
    image, ids = drawn_videos.draw(0, [1])
    drawn_videos.write_video(tmp_path / "clip.mp4", [image] * 2, 10)
    pictures.write_image(tmp_path / "clip.jpg", 255 * ids)
    video_path = tmp_path / "clip.mp4"
    if target == "clip.jpg":  # Only the contact sheet has the name of a file that is read.
        video_path = video_path.rename(tmp_path / "clip.mov")
    given = input_video.from_video(video_path, tmp_path / "clip.jpg", name="clip")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        InputError, match=f"{target}: expected a file to write, found one with frames"
    ):
        run([given], tmp_path / "out", look=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_short_video_has_a_small_contact_sheet(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]}, num_frames=2)
    run(davis_videos(root), tmp_path / "out", look=tmp_path / "look")
    assert pictures.read_image(tmp_path / "look" / "bear.jpg").shape == (256, 2 * 427 + 6, 3)


def test_frames_and_masks_are_read_once_even_with_overlays(tmp_path, monkeypatch):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, num_frames=6)
    frames, read = [], []
    read_image, read_annotation = pictures.read_image, masks.read_annotation
    monkeypatch.setattr(pictures, "read_image", lambda p: frames.append(p.stem) or read_image(p))
    monkeypatch.setattr(
        masks, "read_annotation", lambda p, **k: read.append(p) or read_annotation(p, **k)
    )
    run(davis_videos(root), tmp_path / "out", look=tmp_path / "look")
    # The first frame is also read once when the videos are checked.
    assert sorted(frames) == ["00000", "00000", "00001", "00002", "00003", "00004", "00005"]
    assert read == [root / "Annotations/480p/bear/00000.png"]


def test_only_missing_or_outdated_overlays_are_drawn(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2], "cows": [1]}, 6)
    output, look = tmp_path / "out", tmp_path / "look"
    run(davis_videos(root), output)
    masks.write_mask(output / "bear" / "zz_of_somebody.png", np.ones((4, 4), np.uint8))
    run(davis_videos(root), output, look=look)
    assert len(list(video.open_frames(look / "bear.mp4"))) == 6
    before = {path.name: path.stat().st_mtime_ns for path in look.iterdir()}
    assert len(before) == 4
    (look / "cows.jpg").unlink()
    run(davis_videos(root), output, look=look)
    after = {path.name: path.stat().st_mtime_ns for path in look.iterdir()}
    assert {name for name in before if before[name] == after[name]} == {"bear.mp4", "bear.jpg"}
    run(davis_videos(root), output, {"inference_size": 240}, look=look)
    last = {path.name: path.stat().st_mtime_ns for path in look.iterdir()}
    assert all(last[name] > after[name] for name in after)

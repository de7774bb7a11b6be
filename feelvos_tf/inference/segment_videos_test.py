"""The loop over videos, with a segmenter that goes by color: no model needed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video
from feelvos_tf.media import masks, video, video_writing
from feelvos_tf.testing import drawn_videos
from feelvos_tf.testing.by_color import davis_videos, run, with_later_object


def test_every_frame_gets_its_mask_and_the_first_is_the_given_one(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 5], "cows": [2]})
    report = run(davis_videos(root), tmp_path / "out")
    timing = report.timing
    assert report.done == ["bear", "cows"]
    assert len(timing.step_seconds) == 8 and timing.total_seconds > sum(timing.step_seconds)
    for name in ("bear", "cows"):
        for frame in range(5):
            expected = root / "Annotations/480p" / name / f"{frame:05d}.png"
            result = masks.read_mask(tmp_path / "out" / name / f"{frame:05d}.png")
            different = result != masks.read_mask(expected)
            assert different.mean() < (0.01 if frame else 1e-9)


def test_masks_are_called_like_pictures_or_numbered_like_video_frames(tmp_path):
    images, given = zip(*(drawn_videos.draw(frame, [1]) for frame in range(3)))
    (tmp_path / "folder").mkdir()
    for number, image in zip((9, 10, 11), images):
        Image.fromarray(image).save(tmp_path / "folder" / f"shot{number}.png")
    video_writing.write_video(tmp_path / "video.mp4", images, 24)
    masks.write_mask(tmp_path / "first.png", given[0])
    for source, names in {
        "folder": ["shot9", "shot10", "shot11"],
        "video.mp4": ["00000", "00001", "00002"],
    }.items():
        run([input_video.from_video(tmp_path / source, tmp_path / "first.png")], tmp_path / "out")
        for name, expected in zip(names, given):
            ids = masks.read_mask(tmp_path / "out" / source / f"{name}.png")
            assert (ids == expected).mean() > 0.98


def test_only_what_is_missing_or_made_otherwise_is_segmented_again(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})
    found, output = davis_videos(root), tmp_path / "out"
    run(found, output)
    (output / "cows" / "00003.png").unlink()
    names = [run(found, output, {}, flag).done for flag in (False, True)]
    assert names == [["cows"], ["bear", "cows"]]
    changed = masks.read_mask(output / "bear" / "00002.png")
    masks.write_mask(output / "bear" / "00002.png", np.roll(changed, 1))
    assert run(found, output).done == ["bear"]
    frame = root / "JPEGImages/480p/cows/00001.jpg"
    content = bytearray(frame.read_bytes())
    content[-10] ^= 1
    frame.write_bytes(content)
    assert run(davis_videos(root), output).done == ["cows"]
    found = davis_videos(root)

    def no_segmenter():
        raise AssertionError("everything is complete")

    assert run(found, output, make_segmenter=no_segmenter).done == []
    assert len(run(found, output, {"inference_size": 240}).done) == 2


def test_all_videos_are_checked_before_the_first_is_segmented(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})
    masks.write_mask(root / "Annotations/480p/cows/00000.png", np.ones((24, 40), np.uint8))
    found = davis_videos(root)
    with pytest.raises(InputError, match="cows/00000.png: expected a mask of 80x48 pixels"):
        run(found[1:], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_broken_video_of_several_is_reported_and_does_not_stop_the_others(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2], "dog": [3]})
    masks.write_mask(root / "Annotations/480p/bear/00000.png", np.ones((24, 40), np.uint8))
    (root / "JPEGImages/480p/cows/00002.jpg").write_bytes(b"damaged")
    report = run(davis_videos(root), tmp_path / "out")
    assert report.done == ["dog"] and set(report.failed) == {"bear", "cows"}
    assert "expected a mask of 80x48" in report.failed["bear"]
    assert "00002.jpg: cannot be read as a picture" in report.failed["cows"]
    assert not (tmp_path / "out/bear").exists() and not (tmp_path / "out/cows").exists()
    assert len(list((tmp_path / "out/cows.partial").glob("*.png"))) == 2


def test_damaged_or_smaller_frame_is_named_and_leaves_the_masks_before_it(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]})
    frame = root / "JPEGImages/480p/bear/00003.jpg"
    Image.new("RGB", (40, 24)).save(frame)
    sizes = "bear: expected frames of 80x48 pixels .* found 40x24 at frame 3"
    with pytest.raises(InputError, match=sizes):
        run(davis_videos(root), tmp_path / "out")
    frame.write_bytes(frame.read_bytes()[:100])
    told = "00003.jpg: cannot be read as a picture.*the 3 masks before it are in .*bear.partial"
    for _ in range(2):
        with pytest.raises(InputError, match=told):
            run(davis_videos(root), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bear.partial"]


def test_a_later_mask_that_changes_is_segmented_again(tmp_path):
    given, _ = with_later_object(tmp_path)
    assert len(run([given], tmp_path / "out").done) == 1
    path, _ = given.later_masks[2]
    again = input_video.InputVideo("video", given.source, given.mask_path, None, given.later_masks)
    assert run([again], tmp_path / "out").done == []
    masks.write_mask(path, np.roll(masks.read_mask(path), 1, axis=0))
    again = input_video.InputVideo("video", given.source, given.mask_path, None, given.later_masks)
    assert len(run([again], tmp_path / "out").done) == 1


def test_masks_that_youtube_vos_does_not_ask_for_are_not_left(tmp_path):
    given, _ = with_later_object(tmp_path)
    asked = dataclasses.replace(given, asked=frozenset({0, 2, 4}))
    run([asked], tmp_path / "out", look=tmp_path / "look")
    names = sorted(path.name for path in (tmp_path / "out/video").glob("*.png"))
    assert names == ["00000.png", "00002.png", "00004.png"]
    assert run([asked], tmp_path / "out").complete == ["video"]
    assert len(list(video.open_frames(tmp_path / "look/video.mp4"))) == 5

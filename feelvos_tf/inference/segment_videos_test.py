"""The loop over clips, with a segmenter that thresholds: no model needed."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.inference import input_video, segment_videos
from feelvos_tf.media import masks, video
from feelvos_tf.testing import drawn_videos


class ByColour:
    """Follows the objects of `drawn_clips.draw` by the colours of the first frame."""

    def start(self, image, mask):
        """Returns a track."""
        ids = np.unique(mask)
        colours = np.stack([image[mask == value].mean(axis=0) for value in ids])
        return _ByColourTrack(ids, colours)


class _ByColourTrack:
    def __init__(self, ids, colours):
        self._ids, self._colours = ids, colours

    def step(self, image):
        distances = ((image[:, :, None] - self._colours) ** 2).sum(axis=-1)
        return self._ids[distances.argmin(axis=-1)]


def davis_clips(root):
    return input_video.from_sequences(datasets.list_sequences(root, require_masks="first"))


def run(found, output, settings=None, overwrite=False, make_segmenter=ByColour):
    return segment_videos.segment_clips(
        make_segmenter, found, lambda clip: output / clip.name, settings or {}, overwrite
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_every_frame_gets_its_mask_and_the_first_is_the_given_one(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 5], "cows": [2]})
    done, timing = run(davis_clips(root), tmp_path / "out")
    assert [clip.name for clip in done] == ["bear", "cows"]
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
    video.write_video(tmp_path / "video.mp4", images, 24)
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
    found, output = davis_clips(root), tmp_path / "out"
    run(found, output)
    (output / "cows" / "00003.png").unlink()
    names = [[clip.name for clip in run(found, output, {}, flag)[0]] for flag in (False, True)]
    assert names == [["cows"], ["bear", "cows"]]

    def no_segmenter():
        raise AssertionError("everything is complete")

    assert run(found, output, make_segmenter=no_segmenter)[0] == []
    assert len(run(found, output, {"inference_size": 240})[0]) == 2


def test_interrupted_run_keeps_whole_sequences_and_goes_on(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})

    class Interrupted(ByColour):
        def start(self, image, mask):
            if 2 in mask:
                raise KeyboardInterrupt
            return super().start(image, mask)

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(davis_clips(root), output, make_segmenter=Interrupted)
    assert [path.name for path in output.iterdir()] == ["bear"]
    assert [clip.name for clip in run(davis_clips(root), output)[0]] == ["cows"]


def test_all_clips_are_checked_before_the_first_is_segmented(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})
    masks.write_mask(root / "Annotations/480p/cows/00000.png", np.ones((24, 40), np.uint8))
    with pytest.raises(InputError, match="cows/00000.png: expected a mask of 80x48 pixels"):
        run(davis_clips(root), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_or_smaller_frame_is_named_and_leaves_no_half_sequence(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]})
    frame = root / "JPEGImages/480p/bear/00003.jpg"
    Image.new("RGB", (40, 24)).save(frame)
    sizes = "bear: expected frames of 80x48 pixels .* found 40x24 at frame 3"
    with pytest.raises(InputError, match=sizes):
        run(davis_clips(root), tmp_path / "out")
    frame.write_bytes(frame.read_bytes()[:100])
    with pytest.raises(InputError, match="00003.jpg: cannot be read as a picture"):
        run(davis_clips(root), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_object_that_appears_later_is_followed_from_its_own_mask_on(tmp_path):
    (tmp_path / "frames").mkdir()
    for frame in range(5):
        image, mask = drawn_videos.draw(frame, [1, 4] if frame >= 2 else [1])
        Image.fromarray(image).save(tmp_path / "frames" / f"{frame:05d}.png")
        masks.write_mask(tmp_path / "masks" / f"{frame:05d}.png", mask)
    clip = input_video.InputVideo(
        "clip",
        video.open_frames(tmp_path / "frames"),
        tmp_path / "masks" / "00000.png",
        new_objects={2: (tmp_path / "masks" / "00002.png", (4,))},
    )
    results = list(segment_videos.segmented(ByColour(), clip, segment_videos.Timing()))
    for frame in (0, 1, 2, 3, 4):
        np.testing.assert_array_equal(
            results[frame] == 4, masks.read_mask(tmp_path / "masks" / f"{frame:05d}.png") == 4
        )
    assert (results[4] == 1).any()


def test_a_handful_of_frames_is_alive_however_long_the_clip():
    alive, most = weakref.WeakSet(), 0

    class Frame(np.ndarray):
        __hash__ = object.__hash__

    class Frames:
        names, length, paths, frames_per_second = None, None, [], 24

        def __iter__(self):
            for _ in range(100):
                frame = np.zeros((8, 8, 3), np.uint8).view(Frame)
                alive.add(frame)
                yield frame

    clip = input_video.InputVideo("long", Frames(), None)
    object.__setattr__(clip, "first_mask", lambda: np.ones((8, 8), np.uint8))
    for _ in segment_videos.segmented(ByColour(), clip, segment_videos.Timing()):
        most = max(most, len(alive))
    assert 1 <= most <= 4


def test_next_frame_is_read_while_the_model_runs(tmp_path):
    second_read = threading.Event()

    class Frames:
        names, length, paths, frames_per_second = None, None, [], 24

        def __iter__(self):
            yield np.zeros((8, 8, 3), np.uint8)
            second_read.set()
            yield np.zeros((8, 8, 3), np.uint8)

    class Waiting(ByColour):
        def start(self, image, mask):
            assert second_read.wait(timeout=20)
            return super().start(image, mask)

    clip = input_video.InputVideo("clip", Frames(), None)
    object.__setattr__(clip, "first_mask", lambda: np.ones((8, 8), np.uint8))
    assert len(list(segment_videos.segmented(Waiting(), clip, segment_videos.Timing()))) == 2


def test_overlays_show_every_frame_under_its_mask(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, num_frames=8)
    [clip] = davis_clips(root)
    run([clip], tmp_path / "out")
    segment_videos.write_overlays(
        clip, tmp_path / "out/bear", tmp_path / "bear.mp4", tmp_path / "bear.jpg"
    )
    shown = list(video.open_frames(tmp_path / "bear.mp4"))
    assert len(shown) == 8
    for frame, image in enumerate(shown):
        picture, mask = drawn_videos.draw(frame, [1, 2])
        difference = np.abs(image.astype(int) - picture).sum(axis=-1)
        assert difference[mask > 0].mean() > 4 * difference[mask == 0].mean()
    sheet = video.read_image(tmp_path / "bear.jpg")
    assert sheet.shape == (2 * 256 + 6, 3 * 427 + 2 * 6, 3)


def test_short_clip_has_a_short_contact_sheet(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]}, num_frames=2)
    [clip] = davis_clips(root)
    run([clip], tmp_path / "out")
    segment_videos.write_overlays(
        clip, tmp_path / "out/bear", tmp_path / "bear.mp4", tmp_path / "bear.jpg"
    )
    assert video.read_image(tmp_path / "bear.jpg").shape == (256, 2 * 427 + 6, 3)

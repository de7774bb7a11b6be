"""The loop over videos, with a segmenter that goes by color: no model needed."""

from __future__ import annotations

import dataclasses
import errno
import json
import threading
import weakref

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.inference import input_video, segmenting
from feelvos_tf.inference import segment_videos as segment_videos_module
from feelvos_tf.inference.segment_videos import Outputs, segment_videos
from feelvos_tf.inference.segmenting import Timing, segmented
from feelvos_tf.media import mask_folder, masks, pictures, video, video_writing
from feelvos_tf.media.overlay_files import OverlayFiles
from feelvos_tf.testing import drawn_videos


class ByColor:
    """Follows the objects of `drawn_videos.draw` by the colors they are given with."""

    def start(self, image, mask):
        """Returns the state of a new video."""
        return _ByColorState(image, mask)

    def restore(self, arrays):
        """Returns a state as it was."""
        return _ByColorState(arrays["last"], None, list(arrays["ids"]), list(arrays["colors"]))


class _ByColorState:
    def __init__(self, image, mask, ids=(), colors=()):
        self._ids, self._colors, self._last = list(ids), list(colors), image
        if mask is not None:
            self._learn(mask, np.unique(mask))

    @property
    def object_ids(self):
        """The ids that are followed."""
        return self._ids

    def correct(self, mask, background=False):
        """Takes the colors of known objects anew."""
        for value in np.setdiff1d(mask, [0, 255]):
            self._colors[self._ids.index(value)] = self._last[mask == value].mean(axis=0)
        self.corrected = mask

    def snapshot(self):
        """Returns a function that gives the state as it is now."""
        arrays = {"ids": np.array(self._ids), "colors": np.stack(self._colors), "last": self._last}
        return lambda: arrays

    def step(self, image):
        """Returns the ids of the next frame."""
        self._last = image
        distances = ((image[:, :, None] - np.stack(self._colors)) ** 2).sum(axis=-1)
        return np.array(self._ids, np.uint8)[distances.argmin(axis=-1)]

    def add_objects(self, mask):
        """Takes further objects."""
        self._learn(mask, np.setdiff1d(mask, [0, 255]))

    def _learn(self, mask, ids):
        self._ids += list(ids)
        self._colors += [self._last[mask == value].mean(axis=0) for value in ids]


def davis_videos(root):
    return input_video.from_dataset(datasets.list_sequences(root, require_masks="first"))


def run(found, output, settings=None, overwrite=False, make_segmenter=ByColor, look=None):
    def outputs_of(video):
        overlays = look and OverlayFiles(look / f"{video.name}.mp4", look / f"{video.name}.jpg")
        return Outputs(output / video.name, (overlays,) if look else ())

    return segment_videos(make_segmenter, found, outputs_of, settings or {}, overwrite)


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


def test_interrupted_run_keeps_whole_sequences_and_goes_on(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})

    class Interrupted(ByColor):
        def start(self, image, mask):
            if 2 in mask:
                raise KeyboardInterrupt
            return super().start(image, mask)

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(davis_videos(root), output, make_segmenter=Interrupted)
    assert [path.name for path in output.iterdir()] == ["bear"]
    assert run(davis_videos(root), output).done == ["cows"]


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


def with_later_object(folder, frames=5, first=2):
    """Returns a video in which object 4 appears later, and the truth of its frames."""
    (folder / "frames").mkdir()
    truth = []
    for frame in range(frames):
        image, mask = drawn_videos.draw(frame, [1, 4] if frame >= first else [1])
        Image.fromarray(image).save(folder / "frames" / f"{frame:05d}.png")
        masks.write_mask(folder / "masks" / f"{frame:05d}.png", mask)
        truth.append(mask)
    later = {first: (folder / "masks" / f"{first:05d}.png", (4,))}
    frames = video.open_frames(folder / "frames")
    first_mask = folder / "masks" / "00000.png"
    return input_video.InputVideo("video", frames, first_mask, later_masks=later), truth


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

    class LaterObjectEverywhere(_ByColorState):
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

    class Counting(_ByColorState):
        def step(self, image):
            calls.append("step")
            return super().step(image)

    class Segmenter:
        def start(self, image, mask):
            calls.append("start")
            return Counting(image, mask)

    list(segmented(Segmenter(), given, Timing()))
    assert calls == ["start"] + ["step"] * (len(truth) - 1)


def test_a_later_mask_that_changes_is_segmented_again(tmp_path):
    given, _ = with_later_object(tmp_path)
    assert len(run([given], tmp_path / "out").done) == 1
    path, _ = given.later_masks[2]
    again = input_video.InputVideo("video", given.source, given.mask_path, None, given.later_masks)
    assert run([again], tmp_path / "out").done == []
    masks.write_mask(path, np.roll(masks.read_mask(path), 1, axis=0))
    again = input_video.InputVideo("video", given.source, given.mask_path, None, given.later_masks)
    assert len(run([again], tmp_path / "out").done) == 1


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


def test_short_video_has_a_short_contact_sheet(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]}, num_frames=2)
    run(davis_videos(root), tmp_path / "out", look=tmp_path / "look")
    assert pictures.read_image(tmp_path / "look" / "bear.jpg").shape == (256, 2 * 427 + 6, 3)


def test_a_frame_is_decoded_once_and_a_mask_read_once_overlays_included(tmp_path, monkeypatch):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, num_frames=6)
    frames, read = [], []
    read_image, read_mask = pictures.read_image, masks.read_mask
    monkeypatch.setattr(pictures, "read_image", lambda p: frames.append(p.stem) or read_image(p))
    monkeypatch.setattr(masks, "read_mask", lambda p, **k: read.append(p) or read_mask(p, **k))
    run(davis_videos(root), tmp_path / "out", look=tmp_path / "look")
    # The first frame is looked at once more, before the first video is segmented.
    assert sorted(frames) == ["00000", "00000", "00001", "00002", "00003", "00004", "00005"]
    assert read == [root / "Annotations/480p/bear/00000.png"]


def test_overlays_that_are_there_are_left_alone_and_others_are_drawn(tmp_path):
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


class InterruptedAfter:
    """Is interrupted in the `count`-th step; counts them in `steps`."""

    def __init__(self, count):
        self.steps, self._count = [], count

    def myself(self):
        """Returns the segmenter."""
        return self

    def start(self, image, mask):
        """Returns the state of a new video."""
        return self._interrupted(_ByColorState(image, mask))

    def restore(self, arrays):
        """Returns a state as it was."""
        return self._interrupted(ByColor().restore(arrays))

    def _interrupted(self, state):
        step = state.step

        def counted(image):
            self.steps.append(image)
            if len(self.steps) == self._count:
                raise KeyboardInterrupt
            return step(image)

        state.step = counted
        return state


def test_an_interrupted_run_goes_on_where_it_stopped_with_the_same_results(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, 9)
    output, look = tmp_path / "out", tmp_path / "look"
    with pytest.raises(KeyboardInterrupt):
        run(davis_videos(root), output, make_segmenter=lambda: InterruptedAfter(4), look=look)
    assert not list(look.iterdir())
    assert [path.name for path in output.iterdir()] == ["bear.partial"]
    assert len(list((output / "bear.partial").glob("*.png"))) == 4
    second = InterruptedAfter(99)
    run(davis_videos(root), output, make_segmenter=lambda: second, look=look)
    assert len(second.steps) == 5
    run(davis_videos(root), tmp_path / "at once")
    assert [path.name for path in output.iterdir()] == ["bear"]
    assert len(list(video.open_frames(look / "bear.mp4"))) == 9
    for frame in range(9):
        name = f"bear/{frame:05d}.png"
        assert (output / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()
    assert mask_folder.is_complete(output / "bear", stamp_of(output / "bear"))


def test_a_run_that_was_killed_goes_on_from_the_last_state_it_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(segment_videos_module, "SECONDS_BETWEEN_STATES", 0.0)
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, 9)
    with pytest.raises(KeyboardInterrupt):
        run(davis_videos(root), tmp_path / "out", make_segmenter=lambda: InterruptedAfter(6))
    partial = tmp_path / "out/bear.partial"
    # Written after the last state: by a process that is killed before it saves the next.
    masks.write_mask(partial / "00006.png", np.zeros((48, 80), np.uint8))
    run(davis_videos(root), tmp_path / "out")
    run(davis_videos(root), tmp_path / "at once")
    one, two = (masks.read_mask(tmp_path / out / "bear/00006.png") for out in ("out", "at once"))
    np.testing.assert_array_equal(one, two)


def test_what_an_interrupted_run_left_is_not_used_with_other_settings_or_frames(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]}, 6)
    for settings, change in (({"size": 1}, None), ({}, root / "JPEGImages/480p/bear/00005.jpg")):
        output = tmp_path / f"out{len(settings)}"
        with pytest.raises(KeyboardInterrupt):
            run(davis_videos(root), output, make_segmenter=lambda: InterruptedAfter(4))
        if change:
            change.write_bytes((root / "JPEGImages/480p/bear/00004.jpg").read_bytes())
        second = InterruptedAfter(99)
        run(davis_videos(root), output, settings, make_segmenter=second.myself)
        assert len(second.steps) == 5


def test_a_full_disk_is_told_and_what_was_written_is_not_complete(tmp_path, monkeypatch):
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
    run(davis_videos(root), tmp_path / "out", make_segmenter=lambda: second)
    assert len(second.steps) == 3
    assert mask_folder.is_complete(tmp_path / "out/bear", stamp_of(tmp_path / "out/bear"))


def test_masks_that_youtube_vos_does_not_ask_for_are_not_left(tmp_path):
    given, _ = with_later_object(tmp_path)
    asked = dataclasses.replace(given, asked=frozenset({0, 2, 4}))
    run([asked], tmp_path / "out", look=tmp_path / "look")
    names = sorted(path.name for path in (tmp_path / "out/video").glob("*.png"))
    assert names == ["00000.png", "00002.png", "00004.png"]
    assert run([asked], tmp_path / "out").complete == ["video"]
    assert len(list(video.open_frames(tmp_path / "look/video.mp4"))) == 5


def stamp_of(folder):
    return json.loads((folder / mask_folder.STAMP).read_text())["settings"]

"""Propagation through one and many videos, by color instead of a model."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
import weakref

import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video, propagation
from feelvos_tf.inference.propagation import Outputs, Timing, propagate_videos, propagated
from feelvos_tf.inference.video_predictor import take_mask
from feelvos_tf.media import masks, video
from feelvos_tf.media.result_files import ObjectTable, ObjectVideos, RunLengths
from feelvos_tf.media.selection import Selection
from feelvos_tf.testing import drawn_videos
from feelvos_tf.testing.by_color import ByColor, davis_videos, run


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


def test_an_object_that_appears_later_is_followed_from_its_mask_on(tmp_path):
    given, truth = with_later_object(tmp_path)
    for (result, _), expected in zip(propagated(ByColor(), given, Timing()), truth):
        np.testing.assert_array_equal(result.ids, expected)


def test_a_later_mask_replaces_known_objects_and_adds_new_ones(tmp_path):
    given, _ = with_later_object(tmp_path)
    ids = np.zeros((48, 80), np.uint8)
    ids[10:20, 10:20], ids[10:20, 30:40] = 1, 2
    mask = np.zeros_like(ids)
    mask[12:22, 10:20], mask[40:, 60:], mask[0, 0] = 1, 9, 255
    predictor = ByColor()
    predictor.start(next(iter(given.frames)).image, ids)
    result = take_mask(predictor, mask, ids)
    expected = np.where(ids == 2, 2, np.where(mask == 255, 0, mask))
    np.testing.assert_array_equal(result, expected)
    assert sorted(predictor.object_ids) == [0, 1, 2, 9]
    # Pixels outside the old and the new mask of object 1 are not marked.
    corrected = predictor.corrected
    assert (corrected[12:22, 10:20] == 1).all() and (corrected[10:12, 10:20] == 0).all()
    assert (corrected == 255).sum() == corrected.size - 120


def test_early_and_late_objects_compete_for_pixels(tmp_path):
    given, truth = with_later_object(tmp_path)

    class LaterObjectEverywhere(ByColor):
        def add_objects(self, mask):
            # The color of object 1: pasted on top, the later object would win.
            self._ids.append(4)
            self._colors.append(drawn_videos.COLORS[1] + 3.0)

    last, _ = list(propagated(LaterObjectEverywhere(), given, Timing()))[-1]
    np.testing.assert_array_equal(last.ids == 1, truth[-1] == 1)


def test_every_frame_goes_through_the_predictor_once(tmp_path):
    given, truth = with_later_object(tmp_path)
    calls = []

    class Counting(ByColor):
        def start(self, image, mask):
            calls.append("start")
            super().start(image, mask)

        def step(self, image):
            calls.append("step")
            return super().step(image)

    list(propagated(Counting(), given, Timing()))
    assert calls == ["start"] + ["step"] * (len(truth) - 1)


class BlankFrames(video.Frames):
    """Frames that exist only while they are referenced."""

    length, paths, frames_per_second = None, [], 24

    def __init__(self, count, on_frame=lambda frame: frame):
        self._count, self._on_frame = count, on_frame

    def timed(self, start=0, end=None, every=1):
        """Yields all frames."""
        for number in range(self._count):
            yield video.Frame(number, number / 24, self._on_frame(np.zeros((8, 8, 3), np.uint8)))

    def name(self, number):
        return str(number)


@pytest.fixture
def blank_mask(tmp_path):
    masks.write_mask(tmp_path / "mask.png", np.ones((8, 8), np.uint8))
    return tmp_path / "mask.png"


def test_only_a_few_frames_are_in_memory_however_long_the_video(blank_mask):
    alive, most = weakref.WeakSet(), 0

    class Frame(np.ndarray):
        __hash__ = object.__hash__

    def watched(frame):
        frame = frame.view(Frame)
        alive.add(frame)
        return frame

    given = input_video.InputVideo("long", BlankFrames(100, watched), blank_mask)
    for _ in propagated(ByColor(), given, Timing()):
        most = max(most, len(alive))
    assert 1 <= most <= 5


def test_the_next_frame_is_read_while_the_model_runs(blank_mask):
    read, second_read = [], threading.Event()

    def noticed(frame):
        read.append(frame)
        if len(read) == 2:
            second_read.set()
        return frame

    class Waiting(ByColor):
        def start(self, image, mask):
            assert second_read.wait(timeout=20)
            super().start(image, mask)

    given = input_video.InputVideo("video", BlankFrames(2, noticed), blank_mask)
    assert len(list(propagated(Waiting(), given, Timing()))) == 2


def test_stalled_frames_do_not_delay_an_error(blank_mask):
    class Stalled(BlankFrames):
        """A camera that hangs after two frames until it is stopped."""

        is_live = True
        stopped, was_stopped = threading.Event(), []

        def timed(self, start=0, end=None, every=1):
            yield from super().timed()
            self.was_stopped.append(self.stopped.wait(60))

        def stop(self):
            self.stopped.set()

    class Broken(ByColor):
        def step(self, image):
            raise InputError("no such thing")

    given = input_video.InputVideo("video", Stalled(2), blank_mask)
    with pytest.raises(InputError, match="no such thing"):
        run([given], blank_mask.parent / "out", make_predictor=Broken)
    assert Stalled.was_stopped == [True]


def test_a_mask_that_a_live_video_did_not_reach_does_not_lose_the_others(blank_mask, capsys):
    class Live(BlankFrames):
        is_live = True

        def stop(self):
            pass

    given = input_video.InputVideo("clip", Live(3), blank_mask, None, {9: (blank_mask, None)})
    assert len(list(propagated(ByColor(), given, Timing()))) == 3
    assert "found one for frame 9" in capsys.readouterr().err


def test_a_mask_beyond_the_last_frame_is_reported(blank_mask):
    later = {3: (blank_mask, None)}
    given = input_video.InputVideo("clip", BlankFrames(3), blank_mask, None, later)
    BlankFrames.length = 1  # A low estimate must not cause an error.
    try:
        with pytest.raises(InputError, match="ends with frame 2, found one for frame 3"):
            run([given], blank_mask.parent / "out")
        given = input_video.InputVideo("clip", BlankFrames(4), blank_mask, None, later)
        assert run([given], blank_mask.parent / "out").done == ["clip"]
    finally:
        BlankFrames.length = None


def test_a_mask_beyond_the_end_of_a_file_is_reported_before_any_work(tmp_path, blank_mask):
    drawn_videos.write_video(tmp_path / "clip.mp4", [np.zeros((8, 8, 3), np.uint8)] * 8, 10)
    every_other = Selection(start=1, every=2)
    for number in (5, 7, 9):
        later = {number: blank_mask}
        given = input_video.from_video(tmp_path / "clip.mp4", blank_mask, later, every_other)
        if number < 9:
            input_video.check(given)
    with pytest.raises(InputError, match="ends with frame 7, found one for frame 9"):
        input_video.check(given)


def test_every_frame_gets_its_mask_and_the_first_is_the_given_one(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 5], "cows": [2]})
    report = run(davis_videos(root), tmp_path / "out")
    timing = report.timing
    assert report.done == ["bear", "cows"]
    assert len(timing.step_seconds) == 8 and timing.total_seconds > sum(timing.step_seconds)
    for name in ("bear", "cows"):
        for frame in range(5):
            expected = root / "Annotations/480p" / name / f"{frame:05d}.png"
            result = masks.read_annotation(tmp_path / "out" / name / f"{frame:05d}.png")
            different = result != masks.read_annotation(expected)
            assert different.mean() < (0.01 if frame else 1e-9)


def test_masks_are_named_like_pictures_or_numbered_like_video_frames(tmp_path):
    images, given = zip(*(drawn_videos.draw(frame, [1]) for frame in range(3)))
    (tmp_path / "folder").mkdir()
    for number, image in zip((9, 10, 11), images):
        Image.fromarray(image).save(tmp_path / "folder" / f"shot{number}.png")
    drawn_videos.write_video(tmp_path / "video.mp4", images, 24)
    masks.write_mask(tmp_path / "first.png", given[0])
    for source, names in {
        "folder": ["shot9", "shot10", "shot11"],
        "video.mp4": ["00000", "00001", "00002"],
    }.items():
        run([input_video.from_video(tmp_path / source, tmp_path / "first.png")], tmp_path / "out")
        for name, expected in zip(names, given):
            ids = masks.read_annotation(tmp_path / "out" / source / f"{name}.png")
            assert (ids == expected).mean() > 0.98


def test_only_missing_or_outdated_results_are_redone(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})
    found, output = davis_videos(root), tmp_path / "out"
    run(found, output)
    (output / "cows" / "00003.png").unlink()
    names = [run(found, output, {}, flag).done for flag in (False, True)]
    assert names == [["cows"], ["bear", "cows"]]
    changed = masks.read_annotation(output / "bear" / "00002.png")
    masks.write_mask(output / "bear" / "00002.png", np.roll(changed, 1))
    assert run(found, output).done == ["bear"]
    frame = root / "JPEGImages/480p/cows/00001.jpg"
    content = bytearray(frame.read_bytes())
    content[-10] ^= 1
    frame.write_bytes(content)
    assert run(davis_videos(root), output).done == ["cows"]
    found = davis_videos(root)

    def no_predictor():
        raise AssertionError("everything is complete")

    assert run(found, output, make_predictor=no_predictor).done == []
    assert len(run(found, output, {"inference_size": 240}).done) == 2


def test_all_videos_are_checked_before_the_first_is_propagated(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})
    masks.write_mask(root / "Annotations/480p/cows/00000.png", np.ones((24, 40), np.uint8))
    found = davis_videos(root)
    with pytest.raises(InputError, match="cows/00000.png: expected 80x48 pixels"):
        run(found[1:], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_broken_video_of_several_is_reported_and_does_not_stop_the_others(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2], "dog": [3]})
    masks.write_mask(root / "Annotations/480p/bear/00000.png", np.ones((24, 40), np.uint8))
    (root / "JPEGImages/480p/cows/00002.jpg").write_bytes(b"damaged")
    report = run(davis_videos(root), tmp_path / "out")
    assert report.done == ["dog"] and set(report.failed) == {"bear", "cows"}
    assert "expected 80x48 pixels" in report.failed["bear"]
    assert "00002.jpg: expected a picture" in report.failed["cows"]
    assert not (tmp_path / "out/bear").exists() and not (tmp_path / "out/cows").exists()
    assert len(list((tmp_path / "out/cows.partial").glob("*.png"))) == 2


def test_an_unreadable_frame_fails_only_its_video(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})
    run(davis_videos(root), tmp_path / "out")
    frame = root / "JPEGImages/480p/bear/00002.jpg"
    frame.unlink()
    frame.symlink_to("nowhere")
    report = run(davis_videos(root), tmp_path / "out")
    assert report.complete == ["cows"] and list(report.failed) == ["bear"]
    assert "00002.jpg: cannot be read (No such file" in report.failed["bear"]


def test_a_pipe_in_place_of_a_frame_is_reported_without_waiting(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]})
    frame = root / "JPEGImages/480p/bear/00002.jpg"
    frame.unlink()
    os.mkfifo(frame)
    with pytest.raises(InputError, match="00002.jpg: expected a picture, found something that is"):
        run(davis_videos(root), tmp_path / "out")


def test_picture_names_may_contain_line_breaks(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]})
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        path = root / kind / "480p/bear" / f"00004.{suffix}"
        path.rename(path.with_name(f"00004\n.{suffix}"))
    assert run(davis_videos(root), tmp_path / "out").done == ["bear"]
    assert run(davis_videos(root), tmp_path / "out").complete == ["bear"]
    assert run(davis_videos(root), tmp_path / "out", {"other": 1}).done == ["bear"]


def test_a_damaged_or_smaller_frame_is_named_and_earlier_masks_are_kept(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]})
    frame = root / "JPEGImages/480p/bear/00003.jpg"
    Image.new("RGB", (40, 24)).save(frame)
    sizes = "bear: frame 00003: expected 80x48 pixels like the first one, found 40x24"
    with pytest.raises(InputError, match=sizes):
        run(davis_videos(root), tmp_path / "out")
    frame.write_bytes(frame.read_bytes()[:100])
    message = "00003.jpg: expected a picture.*the 3 masks before it are in .*bear.partial"
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            run(davis_videos(root), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bear.partial"]


def test_a_failed_run_leaves_no_empty_folder_beside_the_partial_one(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1]})
    (root / "JPEGImages/480p/bear/00003.jpg").write_bytes(b"damaged")
    folder = tmp_path / "out/bear"
    outputs = Outputs(folder, (RunLengths(folder / "masks.json"), ObjectVideos(folder)))
    with pytest.raises(InputError, match="the 3 masks before it are in"):
        propagate_videos(ByColor, davis_videos(root), lambda video: outputs, {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bear.partial"]


def test_a_lost_object_is_reported_with_its_last_frame(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [1, 2, 3]})

    class Losing(ByColor):
        count = 0

        def step(self, image):
            ids = super().step(image)
            self.count += 1
            lost = {2: 2, 3: 1} if len(self.object_ids) > 2 else {}
            for value, after in lost.items():
                ids[(ids == value) & (self.count > after)] = 0
            return ids

    report = run(davis_videos(root), tmp_path / "out", make_predictor=Losing)
    assert report.lost == {
        "cows": "object 3 was last seen in frame 00001, object 2 in 00002, "
        "object 1 in 00004 (the last)"
    }


def test_changed_files_of_complete_masks_are_written_again(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 2]})
    folder = tmp_path / "out/bear"

    def again(settings=None):
        kinds = (RunLengths(folder / "masks.json"), ObjectVideos(folder))
        propagate_videos(
            ByColor, davis_videos(root), lambda video: Outputs(folder, kinds), settings or {}
        )
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    before = again()
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert again() == before
    assert times == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "masks.json").write_text("{}")
    (folder / "object_2.mkv").unlink()
    after = again()
    assert after["masks.json"] == before["masks.json"] and "object_2.mkv" in after


def test_further_files_show_the_frames_that_youtube_vos_asks_for_whenever_written(tmp_path):
    given, _ = with_later_object(tmp_path)
    asked = dataclasses.replace(given, asked=frozenset({0, 2, 4}))
    table, folder = tmp_path / "out/objects.csv", tmp_path / "out"
    contents = []
    for _ in range(2):
        propagate_videos(ByColor, [asked], lambda _: Outputs(folder, (ObjectTable(table),)), {})
        contents.append(table.read_text())
        table.unlink()
    assert contents[0] == contents[1] and "00002" in contents[0] and "00001" not in contents[0]


def test_a_video_whose_other_files_cannot_be_written_has_failed(tmp_path):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1], "cows": [2]})
    run(davis_videos(root), tmp_path / "out")
    (tmp_path / "out/bear/masks.json").mkdir()

    def outputs_of(video):
        folder = tmp_path / "out" / video.name
        return Outputs(folder, (RunLengths(folder / "masks.json"),))

    report = propagate_videos(ByColor, davis_videos(root), outputs_of, {})
    assert report.complete == ["cows"] and list(report.failed) == ["bear"]


def test_a_changed_later_mask_is_propagated_again(tmp_path):
    given, _ = with_later_object(tmp_path)
    assert len(run([given], tmp_path / "out").done) == 1
    path, _ = given.later_masks[2]
    again = input_video.InputVideo("video", given.source, given.mask_path, None, given.later_masks)
    assert run([again], tmp_path / "out").done == []
    masks.write_mask(path, np.roll(masks.read_annotation(path), 1, axis=0))
    again = input_video.InputVideo("video", given.source, given.mask_path, None, given.later_masks)
    assert len(run([again], tmp_path / "out").done) == 1


def test_masks_that_youtube_vos_does_not_ask_for_are_removed(tmp_path):
    given, _ = with_later_object(tmp_path)
    asked = dataclasses.replace(given, asked=frozenset({0, 2, 4}))
    run([asked], tmp_path / "out", look=tmp_path / "look")
    names = sorted(path.name for path in (tmp_path / "out/video").glob("*.png"))
    assert names == ["00000.png", "00002.png", "00004.png"]
    assert run([asked], tmp_path / "out").complete == ["video"]
    assert len(list(video.open_frames(tmp_path / "look/video.mp4"))) == 3


def test_the_timing_sentence_reports_duration_and_frames_per_second():
    timing = Timing([9.0, 2.0, 2.0, 2.0], total_seconds=206.4)
    timing.waiting.seconds = 5.0
    assert timing.sentence() == (
        "4 frames in 3 min 26 s (0.02 per second): 2.00 s per frame in the network (median), "
        "25.0 % of the time waiting for reading and writing"
    )
    assert Timing([0.5], 1.6).sentence().startswith("1 frame in 2 s (0.62 per second): 0.50 s per")
    assert Timing().sentence() == "no frame was propagated"


def test_the_estimated_time_left_ignores_the_first_frames(monkeypatch):
    """Six frames of an earlier run and the given one take 0 s, three slow ones 10 s each."""
    now = [100.0]
    monkeypatch.setattr(propagation.time, "time", lambda: now[0])
    progress = propagation._Progress(total=40, file=io.StringIO(), mininterval=0)
    progress._time, progress.start_t = (lambda: now[0]), 100.0
    for seconds, is_of_this_run in [(0, False)] * 6 + [(0, True)] + [(10, True)] * 3:
        now[0] += seconds
        progress.advance(is_of_this_run)
    for _ in range(10):
        now[0] += 2
        progress.advance(is_of_this_run=True)
    assert progress.n == 20 and "/40 [00:50<00:40" in str(progress)

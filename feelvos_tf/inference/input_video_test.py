"""Videos to segment: all forms of the first mask, and objects that appear later."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.inference import input_video
from feelvos_tf.media import masks
from feelvos_tf.media.selection import Selection
from feelvos_tf.testing import drawn_videos


@pytest.fixture
def folder(tmp_path):
    """Returns a folder of three pictures; tests write their masks next to it."""
    (tmp_path / "frames").mkdir()
    for frame in range(3):
        image, _ = drawn_videos.draw(frame, [1])
        Image.fromarray(image).save(tmp_path / "frames" / f"{frame:05d}.png")
    return tmp_path / "frames"


def video_with(folder, mask):
    path = folder.parent / "first.png"
    Image.fromarray(mask).save(path)
    return input_video.from_video(folder, path)


def test_drawn_mask_of_0_and_255_is_one_object(folder):
    _, mask = drawn_videos.draw(0, [1])
    np.testing.assert_array_equal(video_with(folder, mask * 255).first_mask(), mask)


def test_void_stays_void_beside_objects(folder):
    _, mask = drawn_videos.draw(0, [5])
    mask[0] = 255
    np.testing.assert_array_equal(video_with(folder, mask).first_mask(), mask)


def test_davis_2016_masks_are_binary_and_those_of_2017_are_not(tmp_path):
    for year in ("2016", "2017"):
        root = drawn_videos.write_davis(tmp_path / year, {"bear": [1]}, year=year)
        [video] = input_video.from_dataset(datasets.list_sequences(root, f"davis_{year}"))
        assert masks.object_ids(video.first_mask()) == [1]
        input_video.check(video)
    (tmp_path / "2016/ImageSets/2016").rename(tmp_path / "2016/ImageSets/2017")
    [video] = input_video.from_dataset(datasets.list_sequences(tmp_path / "2016", "davis_2017"))
    with pytest.raises(
        InputError, match=r"bear/00000.png: expected .* found only the values 0 and"
    ):
        video.first_mask()


def test_unusable_masks_are_reported_in_one_sentence(folder):
    empty = np.zeros((48, 80), np.uint8)
    with pytest.raises(
        InputError, match="first.png: .*at least one object, found only the value 0"
    ):
        input_video.check(video_with(folder, empty))
    smooth = np.arange(48 * 80, dtype=np.int64).reshape(48, 80).astype(np.uint8)
    with pytest.raises(InputError, match="one color per object, .* found 256 colors"):
        input_video.check(video_with(folder, smooth))
    with pytest.raises(
        InputError, match="expected 80x48 pixels like the first frame of frames, fou"
    ):
        input_video.check(video_with(folder, np.ones((24, 40), np.uint8)))


def test_a_mask_among_the_frames_would_be_one_and_is_refused(folder):
    mask = drawn_videos.draw(0, [1])[1]
    masks.write_mask(folder.parent / "first.png", mask)
    masks.write_mask(folder / "mask.png", mask)
    for first, later in (
        ("frames/mask.png", {}),
        ("first.png", {1: folder / "../frames/mask.png"}),
        (("first.png", "frames/mask.png"), {}),
    ):
        paths = [folder.parent / each for each in np.atleast_1d(first)]
        video = input_video.from_video(folder, paths, later)
        with pytest.raises(InputError, match="mask.png: expected a mask, found a frame of frames"):
            input_video.check(video)


def test_objects_with_a_void_outline_are_unchanged(folder):
    _, mask = drawn_videos.draw(0, [1, 2, 3])
    edge = cv2.dilate(mask, np.ones((3, 3), np.uint8)) != cv2.erode(mask, np.ones((3, 3), np.uint8))
    mask[edge] = 255
    np.testing.assert_array_equal(video_with(folder, mask).first_mask(), mask)


def smoothed_disk():
    """Returns a white disk with smoothed edges, as drawn by paint programs."""
    y, x = np.mgrid[: 4 * 48, : 4 * 80]
    disk = ((y - 80) ** 2 + (x - 120) ** 2 < 50**2).astype(np.uint8) * 255
    return np.asarray(Image.fromarray(disk).resize((80, 48), Image.Resampling.BOX))


def test_a_white_object_with_a_smoothed_outline_is_thresholded_and_reported(folder):
    drawn = smoothed_disk()
    assert 3 < len(np.unique(drawn)) < 100
    given = video_with(folder, drawn)
    np.testing.assert_array_equal(given.first_mask(), drawn >= 128)
    assert given.reading() == "soft edges cut at half"
    sharp = video_with(folder, np.where(drawn >= 128, 255, 0).astype(np.uint8))
    np.testing.assert_array_equal(sharp.first_mask(), given.first_mask())
    assert not sharp.reading()


def photographs(folder):
    """Replaces the pictures with textured ones."""
    rng = np.random.default_rng(0)
    for path in folder.iterdir():
        noise = rng.integers(0, 256, (48, 80, 3), dtype=np.uint8)
        Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 1.5)).save(path)


@pytest.mark.parametrize("max_side", [None, 40])
def test_masks_may_be_drawn_on_their_frames(folder, max_side):
    photographs(folder)
    paths = []
    for position, (rows, color) in enumerate(((slice(8, 24), (255, 0, 0)), (slice(24, 40), "b"))):
        frame = np.array(Image.open(folder / f"0000{position}.png"))
        frame[rows, 16:40] = (0, 0, 255) if color == "b" else color
        paths.append(folder.parent / f"drawn{position}.png")
        Image.fromarray(frame).save(paths[-1])
    chosen = Selection(max_side=max_side)
    given = input_video.from_video(folder, paths[0], {1: paths[1]}, chosen)
    input_video.check(given)
    step = 1 if max_side is None else 2
    expected = np.zeros((48 // step, 80 // step), np.uint8)
    expected[8 // step : 24 // step, 16 // step : 40 // step] = 1
    np.testing.assert_array_equal(given.first_mask(), expected)
    np.testing.assert_array_equal(given.later_mask(1), 2 * np.roll(expected, 16 // step, 0))
    assert given.reading() == "1 = (255, 0, 0), 2 = (0, 0, 255)"


def test_a_mask_drawn_on_another_frame_is_refused(folder):
    photographs(folder)
    other = (folder / "00002.png").rename(folder.parent / "other.png")
    with pytest.raises(InputError, match="on black or on the frame itself"):
        input_video.check(input_video.from_video(folder, other))


def test_every_object_may_have_its_own_file(folder):
    image, mask = drawn_videos.draw(0, [1, 2])
    paths = []
    for value in (1, 2):
        paths.append(folder.parent / f"{value}.png")
        Image.fromarray(np.where(mask == value, 255, 0).astype(np.uint8)).save(paths[-1])
    given = input_video.from_video(folder, paths)
    input_video.check(given)
    np.testing.assert_array_equal(given.first_mask(), mask)
    again = input_video.from_video(folder, paths[::-1])
    assert again.fingerprint() != given.fingerprint()


def test_an_object_that_reaches_all_borders_causes_a_warning(folder, capsys):
    _, mask = drawn_videos.draw(0, [1])
    colors = np.array([[255, 255, 255], [255, 0, 0]], np.uint8)
    assert masks.object_ids(video_with(folder, colors[mask]).first_mask()) == [1, 2]
    [line] = capsys.readouterr().err.splitlines()
    assert "first.png: object 2 reaches all four borders" in line and "paint that black" in line
    video_with(folder, mask * 255).first_mask()
    assert not capsys.readouterr().err


def test_fingerprint_changes_with_mask_and_frames(folder):
    _, mask = drawn_videos.draw(0, [1])
    first = video_with(folder, mask).fingerprint()
    assert video_with(folder, mask).fingerprint() == first
    assert video_with(folder, 2 * mask).fingerprint() != first
    (folder / "00001.png").rename(folder / "00009.png")
    assert video_with(folder, mask).fingerprint() != first


def test_a_later_mask_without_objects_is_refused(folder):
    first = video_with(folder, drawn_videos.draw(0, [1])[1])
    masks.write_mask(folder.parent / "later.png", np.zeros_like(drawn_videos.draw(0, [1])[1]))
    given = {1: (folder.parent / "later.png", None)}
    video = input_video.InputVideo("video", first.source, first.mask_path, later_masks=given)
    with pytest.raises(InputError, match="later.png: expected a mask with at least one object"):
        input_video.check(video)


def test_an_object_missing_from_its_mask_is_named_and_skipped(folder, capsys):
    _, mask = drawn_videos.draw(0, [1])
    first = video_with(folder, mask)
    given = {}
    for position, ids in ((1, (4, 5)), (2, (6,))):
        path = folder.parent / f"later{position}.png"
        masks.write_mask(path, drawn_videos.draw(position, [1, 4])[1])
        given[position] = (path, ids)
    video = input_video.InputVideo("video", first.source, first.mask_path, later_masks=given)
    input_video.check(video)
    assert set(np.unique(video.later_mask(1))) == {0, 4}
    assert video.later_mask(2) is None
    assert video.object_ids() == [1, 4]
    assert video.fingerprint() != first.fingerprint()
    line_1, line_2 = capsys.readouterr().err.splitlines()
    assert "later1.png: expected pixels of" in line_1 and "found none of 5" in line_1
    assert "later2.png: expected pixels of" in line_2 and "found none of 6" in line_2


def test_youtube_vos_objects_that_appear_later_have_their_own_mask(tmp_path):
    base = tmp_path / "valid"
    for frame, ids in enumerate([[1], [1], [1, 4], [1, 4]]):
        image, mask = drawn_videos.draw(frame, ids)
        path = base / "JPEGImages" / "video" / f"{5 * frame:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        if frame in (0, 2):
            masks.write_mask(base / "Annotations" / "video" / f"{5 * frame:05d}.png", mask)
    objects = {
        "1": {"frames": ["00000", "00005", "00010", "00015"]},
        "4": {"frames": ["00010", "00015"]},
    }
    (base / "meta.json").write_text(json.dumps({"videos": {"video": {"objects": objects}}}))
    sequences = datasets.list_sequences(tmp_path, "youtube_vos", "val", require_masks="first")
    [video] = input_video.from_dataset(sequences)
    assert {position: ids for position, (_, ids) in video.later_masks.items()} == {2: (4,)}
    assert set(np.unique(video.later_mask(2))) == {0, 4}
    assert video.later_mask(1) is None
    (base / "Annotations" / "video" / "00010.png").unlink()
    sequences = datasets.list_sequences(tmp_path, "youtube_vos", "val", require_masks="first")
    with pytest.raises(
        InputError, match="video: objects 4 appear in frame 00010, which has no mask"
    ):
        input_video.from_dataset(sequences)

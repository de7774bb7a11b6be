"""Files for editors and scripts, read back by other libraries where possible."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from fractions import Fraction

import numpy as np
import pytest

from feelvos_tf.media import pictures, result_files, rle, video
from feelvos_tf.media.result_files import Result, VideoFacts


def results():
    """Yields three frames: object 3 moves, 7 appears in the last; void belongs to no object."""
    for frame in range(3):
        ids = np.zeros((32, 48), np.uint8)
        ids[4:10, 5 + frame : 12 + frame] = 3
        ids[20, :5] = 255
        if frame == 2:
            ids[20:30, 30:40] = 7
        image = np.full((32, 48, 3), 50 * frame + 20, np.uint8)
        yield Result(f"{10 + frame:05d}", Fraction(frame, 10), image, ids)


def write(files):
    with files.writing(VideoFacts(10.0, 3, [3, 7])) as write_result:
        for result in results():
            write_result(result)
    return files.paths()


def test_run_lengths_boxes_and_areas_are_read_by_pycocotools(tmp_path):
    [path] = write(result_files.RunLengths(tmp_path / "masks.json"))
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    with contextlib.redirect_stdout(None):
        dataset = coco.COCO(str(path))
    assert [image["file_name"] for image in dataset.loadImgs([1, 2, 3])] == [
        "00010.png",
        "00011.png",
        "00012.png",
    ]
    for image, result in zip((1, 2, 3), results()):
        annotations = dataset.loadAnns(dataset.getAnnIds(imgIds=[image]))
        assert [a["category_id"] for a in annotations] == ([3, 7] if image == 3 else [3])
        for annotation in annotations:
            expected = result.ids == annotation["object_id"]
            np.testing.assert_array_equal(dataset.annToMask(annotation), expected)
            assert annotation["area"] == expected.sum()
            assert annotation["bbox"] == coco.maskUtils.toBbox(annotation["segmentation"]).tolist()


def test_run_lengths_list_all_frames_even_without_objects(tmp_path):
    files = result_files.RunLengths(tmp_path / "masks.json")
    with files.writing(VideoFacts(10.0, 1, [3])) as write_result:
        ids = np.zeros((4, 4), np.uint8)
        write_result(Result("a", Fraction(0), np.zeros((4, 4, 3), np.uint8), ids))
    content = json.loads((tmp_path / "masks.json").read_text())
    assert content["annotations"] == [] and len(content["images"]) == 1
    assert content["categories"] == [{"id": 3, "name": "object 3"}]


def test_table_has_a_row_for_every_object_and_frame(tmp_path):
    [path] = write(result_files.ObjectTable(tmp_path / "objects.csv"))
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == result_files.COLUMNS
    assert [(row["frame"], row["object"]) for row in rows] == [
        (f"0001{frame}", value) for frame in range(3) for value in "37"
    ]
    measures = ["00011", "0.1", "3", "42", "6", "4", "7", "6", "9.00", "6.50", "00011"]
    assert list(rows[2].values()) == measures
    assert list(rows[3].values()) == ["00011", "0.1", "7", "0"] + [""] * 7


def test_table_shows_where_an_object_was_last_seen(tmp_path):
    files = result_files.ObjectTable(tmp_path / "objects.csv")
    with files.writing(VideoFacts(10.0, 3, [1])) as write_result:
        for frame, value in enumerate((1, 0, 0)):
            ids = np.full((4, 4), value, np.uint8)
            write_result(Result(f"f{frame}", Fraction(0), np.zeros((4, 4, 3), np.uint8), ids))
    with open(tmp_path / "objects.csv", newline="") as file:
        assert [row["last_seen"] for row in csv.DictReader(file)] == ["f0"] * 3


def test_every_object_has_its_own_lossless_video(tmp_path):
    paths = write(result_files.ObjectVideos(tmp_path))
    assert [path.name for path in paths] == ["object_3.mkv", "object_7.mkv"]
    for path, value in zip(paths, (3, 7)):
        for image, result in zip(video.open_frames(path), results()):
            np.testing.assert_array_equal(image[..., 0], np.where(result.ids == value, 255, 0))


def test_cutout_has_as_many_frames_as_the_video(tmp_path):
    [path] = write(result_files.Cutout(tmp_path / "cutout.webm"))
    frames = list(video.open_frames(path))
    assert len(frames) == 3 and frames[0].shape == (32, 48, 3)


@pytest.mark.parametrize("kind", ["RunLengths", "ObjectTable"])
def test_a_failure_leaves_no_files(tmp_path, kind):
    files = getattr(result_files, kind)(tmp_path / "file")
    with pytest.raises(RuntimeError), files.writing(VideoFacts(10.0, 3, [3, 7])):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_the_runs_of_a_written_annotation_decode_without_pycocotools(tmp_path):
    [path] = write(result_files.RunLengths(tmp_path / "masks.json"))
    first = json.loads(path.read_text())["annotations"][0]["segmentation"]
    np.testing.assert_array_equal(
        rle.decode(first["counts"], *first["size"]), next(results()).ids == 3
    )


def test_names_that_are_not_utf_8_are_kept_in_tables(tmp_path):
    files = result_files.ObjectTable(tmp_path / "objects.csv")
    name = os.fsdecode(b"caf\xe9")
    with files.writing(VideoFacts(10.0, 1, [3])) as write_result:
        write_result(next(results())._replace(name=name))
    assert b"\ncaf\xe9,0.0,3," in (tmp_path / "objects.csv").read_bytes()


def test_the_contact_sheet_of_narrow_frames_stays_small(tmp_path):
    files = result_files.OverlayFiles(tmp_path / "a.mp4", tmp_path / "sheet.png")
    with files.writing(VideoFacts(10.0, 1, [3])) as write_result:
        image = np.zeros((500, 1, 3), np.uint8)
        write_result(Result("0", Fraction(0), image, np.zeros((500, 1), np.uint8)))
    assert pictures.read_image(tmp_path / "sheet.png").shape == (2000, 4, 3)


@pytest.mark.parametrize(("announced", "count"), [(None, 100), (100, 100), (None, 4), (100, 30)])
def test_the_contact_sheet_spans_videos_of_known_and_unknown_length(tmp_path, announced, count):
    files = result_files.OverlayFiles(tmp_path / "a.mp4", tmp_path / "sheet.png")
    with files.writing(VideoFacts(10.0, announced, [3])) as write_result:
        for frame in range(count):
            image = np.full((32, 48, 3), 2 * frame, np.uint8)
            ids = np.zeros((32, 48), np.uint8)
            write_result(Result(f"{frame:05d}", Fraction(frame, 10), image, ids))
    tile_height, tile_width = round(32 * 427 / 48) + 6, 427 + 6
    sheet = pictures.read_image(tmp_path / "sheet.png")
    shown = sheet[10::tile_height, 10::tile_width, 0].ravel() // 2
    if announced == count:
        np.testing.assert_array_equal(shown, [0, 20, 40, 59, 79, 99])
    elif count < 6:
        assert [n for n in shown if n < count] == [0, 1, 2, 3]
    elif announced is None:
        assert len(shown) == 6 and shown[0] == 0 and shown[-1] >= 90
        assert (np.diff(shown.astype(int)) >= 15).all()
    else:  # Fewer frames than announced: the chosen ones among them.
        assert list(shown)[:2] == [0, 20]

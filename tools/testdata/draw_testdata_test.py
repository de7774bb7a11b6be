import pathlib

import cv2
import draw_testdata
import numpy as np
from drawing import Background, Part, draw, plain
from scenes import SCENES

from feelvos_tf.data import datasets
from feelvos_tf.media import masks

TESTDATA = pathlib.Path(__file__).resolve().parents[2] / "testdata"
MEGABYTE = 2**20


def sequences():
    return [
        sequence
        for split in ("train", "val")
        for sequence in datasets.list_sequences(TESTDATA, "davis_2017", split)
    ]


def test_the_bundled_pictures_match_what_the_program_draws():
    scene = SCENES[0]
    for index in (0, scene.frames - 1):
        picture, ids = draw_testdata.draw_frame(scene, index)
        name = f"480p/{scene.name}/{index:05d}"
        bundled = cv2.imread(str(TESTDATA / f"JPEGImages/{name}.jpg"))[..., ::-1]
        # JPEG is lossy, and versions of OpenCV may differ slightly.
        assert np.abs(bundled.astype(int) - picture).mean() < 4
        assert (masks.read_annotation(TESTDATA / f"Annotations/{name}.png") != ids).mean() < 1e-3


def test_every_scene_is_bundled_completely():
    found = {sequence.name: len(sequence.frames) for sequence in sequences()}
    assert found == {scene.name: scene.frames for scene in SCENES}


def test_the_first_frame_holds_all_objects_with_ids_from_1():
    for sequence in sequences():
        ids = [masks.object_ids(masks.read_annotation(path)) for path in sequence.masks]
        assert ids[0] == list(range(1, len(ids[0]) + 1)), sequence.name
        assert 1 <= len(ids[0]) <= 3
        assert all(set(later) <= set(ids[0]) for later in ids)


def test_every_object_is_large_enough_to_train_on():
    for sequence in sequences():
        ids = masks.read_annotation(sequence.masks[0])[::4, ::4]
        assert np.bincount(ids.ravel())[1:].min() >= 20, sequence.name


def test_one_object_leaves_the_frame_for_good():
    gone = []
    for sequence in sequences():
        last = masks.object_ids(masks.read_annotation(sequence.masks[-1]))
        first = masks.object_ids(masks.read_annotation(sequence.masks[0]))
        gone += [(sequence.name, object_id) for object_id in first if object_id not in last]
    assert gone == [("playground", 2)]


def test_objects_occlude_each_other():
    covered = 0
    for sequence in sequences():
        sizes = [np.bincount(masks.read_annotation(p).ravel(), minlength=4) for p in sequence.masks]
        covered += np.sum(np.min(sizes, axis=0)[1:] < 0.5 * np.max(sizes, axis=0)[1:])
    assert covered >= 5


def test_the_data_set_stays_small():
    pictures = [p for p in TESTDATA.rglob("*") if p.is_file() and "golden" not in p.parts]
    assert sum(path.stat().st_size for path in pictures) < 4 * MEGABYTE


def test_a_later_object_covers_an_earlier_one():
    square = {"radii": (20, 20), "squareness": 40.0}
    below = Part(plain((1, 0, 0)), (100, 80), **square)
    above = Part(plain((0, 1, 0)), (120, 80), **square)
    picture, ids = draw(Background(plain((0, 0, 0))), [[below], [above]], time=0.0)
    assert ids[80, 90] == 1
    assert ids[80, 110] == ids[80, 130] == 2
    assert ids[80, 150] == ids[10, 10] == 0
    assert picture[80, 110].argmax() == 1


def test_half_covered_pixels_are_antialiased():
    part = Part(plain((1, 1, 1)), (100.5, 80), (20, 20), squareness=60.0, dome=0.0)
    picture, ids = draw(Background(plain((0, 0, 0))), [[part]], time=0.0)
    edge = picture[80, 120, 0]
    assert 80 < edge < 180
    assert ids[80, 119] == 1
    assert ids[80, 121] == 0


def test_drawing_is_deterministic():
    first, second = (draw_testdata.draw_frame(SCENES[-1], 5) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])

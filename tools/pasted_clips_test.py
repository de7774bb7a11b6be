"""Clips of pasted objects: a data set that predict and eval_davis read, determined by the seed."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from feelvos_tf.data import datasets
from feelvos_tf.evaluation import protocols, score_predictions
from feelvos_tf.media import masks, pictures
from feelvos_tf.testing import drawn_videos

PROGRAM = pathlib.Path(__file__).with_name("pasted_clips.py")
CLIPS, FRAMES = 6, 5


def run(root, folder, *more):
    flags = [f"--dataset_root={root}", f"--output_dir={folder}", "--year=2016", "--split=val"]
    flags += [f"--clips={CLIPS}", f"--frames={FRAMES}", *more]
    return subprocess.run([sys.executable, PROGRAM, *flags], capture_output=True, text=True)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Returns the folders of the data set and of the clips."""
    folder = tmp_path_factory.mktemp("pasted")
    root = drawn_videos.write_davis(folder / "davis", {"a": [1], "b": [1, 2]}, year="2016")
    done = run(root, folder / "clips")
    assert done.returncode == 0, done.stderr
    return root, folder / "clips"


def test_objects_come_from_all_sides_and_meet(drawn):
    counts = set()
    for video in datasets.list_sequences(drawn[1]):
        ids = [masks.read_annotation(path) for path in video.masks]
        assert len(ids) == len(video.frames) == FRAMES
        objects = masks.object_ids(ids[0])
        assert objects == list(range(1, len(objects) + 1))
        counts.add(len(objects))
        image = pictures.read_image(video.frames[0])
        # Pixels differ from the background's color exactly where there is an object.
        background = drawn_videos.COLORS[0].astype(int)
        away = np.abs(image.astype(int) - background).sum(-1) > 120
        assert np.mean(away == (ids[0] > 0)) > 0.97

        def spread(mask, objects=objects):
            centers = [np.mean(np.nonzero(mask == i), 1) for i in objects if (mask == i).any()]
            return np.mean(np.linalg.norm(np.array(centers) - np.mean(centers, 0), axis=1))

        assert spread(ids[FRAMES // 2]) < 0.5 * spread(ids[0])
    assert len(counts) > 1 and counts <= {2, 3, 4, 5}


def test_the_seed_determines_the_clips(drawn, tmp_path):
    root, clips = drawn
    assert run(root, tmp_path / "again").returncode == 0
    assert run(root, tmp_path / "other", "--seed=1").returncode == 0
    files = [path.relative_to(clips) for path in sorted(clips.rglob("*.*"))]
    assert len(files) == 2 * CLIPS * FRAMES + 1
    for name, is_same in (("again", True), ("other", False)):
        equal = [(tmp_path / name / f).read_bytes() == (clips / f).read_bytes() for f in files]
        assert all(equal) == is_same


def test_pixels_of_swapped_objects_are_counted_as_confused(drawn, tmp_path):
    [video, *_] = datasets.list_sequences(drawn[1])
    for path in video.masks:
        ids = masks.read_annotation(path)
        exchanged = np.where(ids == 1, 2, np.where(ids == 2, 1, ids)).astype(np.uint8)
        masks.write_mask(tmp_path / video.name / path.name, exchanged)
    scores = score_predictions.score_folder(
        protocols.dataset_ground_truths(drawn[1], sequences=[video.name]), tmp_path
    )
    scored = [masks.read_annotation(path) for path in video.masks[1:-1]]
    expected = sum(((m == 1) | (m == 2)).sum() for m in scored) / sum((m > 0).sum() for m in scored)
    assert scores.confused_share == pytest.approx(expected) and expected > 0.2


def test_an_existing_folder_is_left_unchanged(drawn, tmp_path):
    done = run(drawn[0], tmp_path)
    assert done.returncode == 1 and "expected a folder that does not exist" in done.stderr
    assert not list(tmp_path.iterdir())

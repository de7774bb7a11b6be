"""The examples of this folder run and write what their first line says."""

from __future__ import annotations

import json
import pathlib
import re
import runpy

import numpy as np
import pytest

import feelvos_tf
from feelvos_tf.media import pictures, video

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parents[2]


@pytest.fixture(scope="module")
def model():
    """Returns the bundled model at a small size, to save time."""
    return feelvos_tf.load(inference_size=160, window=0)


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """Returns a function that runs an example in a temporary folder."""
    (tmp_path / "testdata").symlink_to(ROOT / "testdata")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(feelvos_tf, "load", lambda **_: model.another())
    return lambda name: runpy.run_path(str(FOLDER / name))


def test_all_examples_are_on_the_page():
    named = re.findall(r"examples/(\w+\.py)`", (FOLDER / "README.md").read_text())
    assert sorted(named) == sorted(p.name for p in FOLDER.glob("*.py") if "_test" not in p.name)


def test_a_clip_is_segmented_and_shown(run, capsys):
    ids = run("segment_clip.py")["ids"]
    assert ids.shape == (36, 240, 426) and set(np.unique(ids)) == {0, 1}
    assert re.search(r"36 masks; the rabbit covers \d+\.\d % of", capsys.readouterr().out)
    assert pictures.read_image("examples_output/clip.jpg").shape[1] == 5 * 240 + 4 * 6


def test_objects_are_added_corrected_and_removed(run, capsys):
    found = run("add_and_correct.py")
    seen = [set(np.unique(ids)) - {0} for ids in found["ids"]]
    assert seen[6] == {1} and seen[7] == {1, 2} and seen[11] == {1, 2, 3} and 3 not in seen[21]
    np.testing.assert_array_equal(found["ids"][16], found["drawn"](16, 1, 2, 3))
    assert "followed in the end: [0, 1, 2]" in capsys.readouterr().out
    assert pictures.read_image("examples_output/add_and_correct.jpg").shape[0] == 160


def test_the_state_of_a_stream_has_bounded_size(run):
    sizes = run("stream.py")["sizes"]
    # The memory holds at most 1024 pixels of the rabbit and 3072 of the background, of 100 numbers.
    assert len(sizes) == 36 and max(sizes) <= sizes[0] + 4 * 1024 * 100 * 4
    assert len(list(video.open_frames("examples_output/stream.mp4"))) == 36


def test_run_lengths_of_many_videos_can_be_read_back(run, capsys):
    pytest.importorskip("pycocotools", reason="pip install pycocotools")
    run("many_videos.py")
    lines = capsys.readouterr().out.splitlines()
    assert sum("object" in line and ".png" in line for line in lines) >= 3
    run("many_videos.py")
    assert "no frame was propagated" in capsys.readouterr().out


def test_the_notebook_runs_cell_by_cell(model, tmp_path, monkeypatch, capsys):
    shells = pytest.importorskip("IPython.core.interactiveshell", reason="pip install ipython")
    (tmp_path / "testdata").symlink_to(ROOT / "testdata")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(feelvos_tf, "load", lambda **_: model.another())
    shell = shells.InteractiveShell.instance()
    notebook = json.loads((FOLDER / "first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    results = []
    for cell in cells:
        done = shell.run_cell("".join(cell["source"]))
        done.raise_error()
        results.append(done.result)
    clip = next(each for each in results if type(each).__name__ == "Video")
    assert "video/mp4" in clip._repr_html_() and len(clip._repr_html_()) > 10_000  # Embedded.
    found = shell.user_ns
    assert len(found["ids"]) == 36 and found["six"].any()
    assert (found["corrected"][100, 200], len(found["backward"])) == (1, 3)
    assert found["found"].shape[0] == len(found["truth"]) == 24
    printed = capsys.readouterr().out
    assert re.search(r"six clicks: J 0\.\d+ and F 0\.\d+", printed)
    assert len(re.findall(r"object \d: J \d\.\d+, F \d\.\d+", printed)) == 3

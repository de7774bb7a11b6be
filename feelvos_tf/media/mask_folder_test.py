"""Mask folders appear atomically, are recognized, and never replace other files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import mask_folder

SETTINGS = {"saved_model": "abc", "inference_size": None}


def write(folder, names, settings):
    with mask_folder.replacing(folder, settings) as temporary:
        for name in names:
            (temporary / f"{name}.png").write_text(settings["saved_model"])


def test_folder_appears_atomically_and_is_complete_only_for_its_settings(tmp_path):
    folder = tmp_path / "out" / "bear"
    with mask_folder.replacing(folder, SETTINGS) as temporary:
        (temporary / "00000.png").write_text("first")
        assert not folder.exists()
        (temporary / "00001.png").write_text("second")
    assert sorted(p.name for p in folder.iterdir()) == ["00000.png", "00001.png", mask_folder.STAMP]
    assert mask_folder.is_complete(folder, SETTINGS)
    assert not mask_folder.is_complete(folder, {**SETTINGS, "inference_size": 240})
    assert list(folder.parent.iterdir()) == [folder]


def test_folder_with_a_mask_removed_is_incomplete(tmp_path):
    folder = tmp_path / "bear"
    write(folder, ["00000", "00001"], SETTINGS)
    (folder / "00001.png").unlink()
    assert not mask_folder.is_complete(folder, SETTINGS)


def test_a_folder_with_a_mask_that_could_not_be_read_back_is_incomplete(tmp_path):
    folder = tmp_path / "bear"
    write(folder, ["00000"], SETTINGS)
    stamp = json.loads((folder / mask_folder.STAMP).read_text())
    (folder / mask_folder.STAMP).write_text(json.dumps({**stamp, "masks": {"00000": None}}))
    (folder / "00000.png").unlink()
    assert not mask_folder.is_complete(folder, SETTINGS)


def test_failure_keeps_the_masks_so_far_and_an_earlier_prediction(tmp_path):
    folder = tmp_path / "bear"
    for earlier in (False, True):
        if earlier:
            write(folder, ["00000"], SETTINGS)
        with pytest.raises(RuntimeError), mask_folder.replacing(folder, {"other": 1}) as temporary:
            (temporary / "00000.png").write_text("half")
            raise RuntimeError
        assert mask_folder.is_complete(folder, SETTINGS) == earlier
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == ["bear"] * earlier + ["bear.partial"]
        partial = tmp_path / "bear.partial"
        assert sorted(p.name for p in partial.iterdir()) == ["00000.png", mask_folder.STAMP]
        assert not mask_folder.is_complete(partial, {"other": 1})


def test_a_failure_before_the_first_mask_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), mask_folder.replacing(tmp_path / "bear", SETTINGS):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_folder_with_a_changed_or_truncated_mask_is_incomplete(tmp_path):
    folder = tmp_path / "bear"
    for change in ("other", "ab", ""):
        write(folder, ["00000"], SETTINGS)
        assert mask_folder.is_complete(folder, SETTINGS)
        (folder / "00000.png").write_text(change)
        assert not mask_folder.is_complete(folder, SETTINGS)


def test_an_interrupted_run_is_kept_only_for_the_same_settings(tmp_path):
    folder = tmp_path / "bear"
    arrays = {"colors": np.arange(6, dtype=np.float32).reshape(2, 3), "ids": np.array([0, 7])}
    for settings, kept in ((SETTINGS, True), ({"other": 1}, False)):
        with pytest.raises(RuntimeError), mask_folder.replacing(folder, SETTINGS) as working:
            (working / "00000.png").write_text("first")
            mask_folder.save_state(working, 0, arrays)
            raise RuntimeError
        with pytest.raises(RuntimeError), mask_folder.replacing(folder, settings) as working:
            state = mask_folder.load_state(working)
            assert (working / "00000.png").exists() == kept
            assert (state is not None) == kept
            if kept:
                position, found = state
                assert position == 0
                np.testing.assert_array_equal(found["colors"], arrays["colors"])
                assert found["colors"].dtype == np.float32
            raise RuntimeError


def test_a_damaged_state_is_ignored(tmp_path):
    for content in (b"", b"PK\3\4", b"no zip"):
        (tmp_path / mask_folder.STATE).write_bytes(content)
        assert mask_folder.load_state(tmp_path) is None


def test_leftovers_of_a_killed_run_are_not_included(tmp_path):
    with pytest.raises(RuntimeError), mask_folder.replacing(tmp_path / "bear", {}) as working:
        (working / "00009.png").write_text("from a killed run")
        raise RuntimeError
    write(tmp_path / "bear", ["00000"], SETTINGS)
    assert not (tmp_path / "bear" / "00009.png").exists()


def test_replacing_removes_old_masks_and_keeps_other_files(tmp_path):
    folder = tmp_path / "bear"
    write(folder, ["00000", "00001", "00002"], SETTINGS)
    (folder / "overlay.mp4").write_text("somebody's")
    new = {"saved_model": "new"}
    write(folder, ["00000", "00001"], new)
    assert mask_folder.is_complete(folder, new)
    assert (folder / "00000.png").read_text() == "new"
    assert not (folder / "00002.png").exists()
    assert (folder / "overlay.mp4").read_text() == "somebody's"


def test_a_half_replaced_folder_is_ours_but_incomplete(tmp_path):
    folder = tmp_path / "bear"
    write(folder, ["00000"], SETTINGS)
    stamp = json.loads((folder / mask_folder.STAMP).read_text())
    (folder / mask_folder.STAMP).write_text(json.dumps({**stamp, "complete": False}))
    assert not mask_folder.is_complete(folder, SETTINGS)
    write(folder, ["00000"], {"saved_model": "new"})


def test_a_folder_of_other_files_is_refused_and_an_empty_one_accepted(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", ["00000"], SETTINGS)
    foreign = tmp_path / "ground_truth"
    foreign.mkdir()
    (foreign / "00000.png").write_text("precious")
    with pytest.raises(
        InputError, match="ground_truth holds files that are not an earlier prediction"
    ):
        write(foreign, ["00000"], SETTINGS)
    assert (foreign / "00000.png").read_text() == "precious"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder to write masks to, found a file"):
        mask_folder.check_replaceable(tmp_path / "file")


def test_another_unfinished_output_in_the_folder_is_kept(tmp_path):
    folder = tmp_path / "bear"
    folder.mkdir()
    (folder / ".overlay-123.mp4").write_text("half")
    write(folder, ["00000"], SETTINGS)
    assert mask_folder.is_complete(folder, SETTINGS)
    assert (folder / ".overlay-123.mp4").exists()


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path):
    folder = tmp_path / "bear"
    program = (
        "import pathlib, sys\n"
        "from feelvos_tf.core.errors import InputError\n"
        "from feelvos_tf.media import mask_folder\n"
        "try:\n"
        "    with mask_folder.replacing(pathlib.Path(sys.argv[1]), {}):\n"
        "        print('written')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with mask_folder.replacing(folder, SETTINGS) as temporary:
        (temporary / "00000.png").write_text("first")
        other = subprocess.run(command, capture_output=True, text=True)
        assert "bear: another process is writing masks there" in other.stdout, other
    assert (folder / "00000.png").read_text() == "first"
    assert mask_folder.is_complete(folder, SETTINGS)
    assert "written" in subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "stamp",
    [
        '{"masks": {"../precious": ""}}',
        '{"masks": {"/precious": ""}}',
        '{"masks": {"\\u0000": ""}}',
        '{"masks": {"\\ud800": ""}}',
        '{"masks": ["00000"]}',
        '{"masks": "00000"}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_malformed_stamp_is_not_trusted(tmp_path, stamp):
    folder = tmp_path / "bear"
    folder.mkdir()
    (tmp_path / "precious.png").write_text("precious")
    (folder / mask_folder.STAMP).write_text(stamp, errors="surrogateescape")
    assert not mask_folder.is_complete(folder, SETTINGS)
    with pytest.raises(InputError, match="holds files that are not an earlier prediction"):
        write(folder, ["00000"], SETTINGS)
    assert (tmp_path / "precious.png").exists()


def test_files_next_to_the_masks_are_identified_by_their_content(tmp_path):
    folder = tmp_path / "bear"
    write(folder, ["00000"], SETTINGS)
    runs, overlay = folder / "masks.json", tmp_path / "overlay.mp4"
    assert not mask_folder.has_files(folder, "runs", [runs])
    for path in (runs, overlay):
        path.write_text("whole")
    mask_folder.note_files(folder, "runs", [runs])
    mask_folder.note_files(folder, "overlay", [overlay])
    assert mask_folder.has_files(folder, "runs", [runs])
    assert mask_folder.has_files(folder, "overlay", [overlay])
    assert not mask_folder.has_files(folder, "overlay", [tmp_path / "another.mp4"])
    runs.write_text("{}")
    assert not mask_folder.has_files(folder, "runs", [runs])
    overlay.unlink()
    assert not mask_folder.has_files(folder, "overlay", [])
    assert mask_folder.is_complete(folder, SETTINGS)


def test_files_of_earlier_masks_are_removed_with_them(tmp_path):
    folder = tmp_path / "bear"
    write(folder, ["00000"], SETTINGS)
    for path in (folder / "objects.csv", folder / "notes.txt", tmp_path / "overlay.mp4"):
        path.write_text("of the masks")
    mask_folder.note_files(folder, "table", [folder / "objects.csv"])
    mask_folder.note_files(folder, "overlay", [tmp_path / "overlay.mp4"])
    write(folder, ["00000"], {"saved_model": "new"})
    assert not (folder / "objects.csv").exists()
    assert (folder / "notes.txt").exists() and (tmp_path / "overlay.mp4").exists()


@pytest.mark.parametrize("name", ["a\nb", "a\tb", " ", "\udc80"])
def test_frames_may_have_odd_names(tmp_path, name):
    for value in ("one", "two"):
        write(tmp_path / "bear", [name], {"saved_model": value})
        assert mask_folder.is_complete(tmp_path / "bear", {"saved_model": value})

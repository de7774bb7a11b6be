"""Folders of masks appear whole, are recognised, and never swallow other files."""

from __future__ import annotations

import json

import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import mask_folder

SETTINGS = {"saved_model": "abc", "inference_size": None}


def write(folder, names, settings):
    with mask_folder.replacing(folder, settings) as temporary:
        for name in names:
            (temporary / f"{name}.png").write_text(settings["saved_model"])


def test_folder_appears_whole_and_is_complete_only_for_its_settings(tmp_path):
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


def test_failure_leaves_nothing_and_an_earlier_prediction_as_it_was(tmp_path):
    folder = tmp_path / "bear"
    for earlier in (False, True):
        if earlier:
            write(folder, ["00000"], SETTINGS)
        with pytest.raises(RuntimeError), mask_folder.replacing(folder, {"other": 1}) as temporary:
            (temporary / "00000.png").write_text("half")
            raise RuntimeError
        assert mask_folder.is_complete(folder, SETTINGS) == earlier
        assert [path.name for path in tmp_path.iterdir()] == ["bear"] * earlier


def test_leftovers_of_a_killed_run_do_not_slip_in(tmp_path):
    (tmp_path / ".bear.partial").mkdir()
    (tmp_path / ".bear.partial" / "00009.png").write_text("from a killed run")
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


def test_folder_half_replaced_when_the_machine_stops_is_ours_but_incomplete(tmp_path):
    folder = tmp_path / "bear"
    write(folder, ["00000"], SETTINGS)
    stamp = json.loads((folder / mask_folder.STAMP).read_text())
    (folder / mask_folder.STAMP).write_text(json.dumps({**stamp, "complete": False}))
    assert not mask_folder.is_complete(folder, SETTINGS)
    write(folder, ["00000"], {"saved_model": "new"})


def test_folder_of_other_files_is_refused_and_an_empty_one_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", ["00000"], SETTINGS)
    foreign = tmp_path / "ground_truth"
    foreign.mkdir()
    (foreign / "00000.png").write_text("precious")
    with pytest.raises(InputError, match="ground_truth holds files that are no earlier prediction"):
        write(foreign, ["00000"], SETTINGS)
    assert (foreign / "00000.png").read_text() == "precious"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder to write masks to, found a file"):
        mask_folder.check_replaceable(tmp_path / "file")

import errno
import os
import stat
import subprocess
import sys

import pytest

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError


def test_a_file_appears_whole_with_its_parents(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with atomic_files.replacing(target) as temporary:
        temporary.write_text("all of it")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "all of it"
    assert [p.name for p in target.parent.iterdir()] == ["b.txt"]
    assert stat.S_IMODE(target.stat().st_mode) & stat.S_IRUSR


def test_a_failing_block_keeps_the_old_file_and_leaves_no_leftovers(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_files.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_a_new_file_has_the_permissions_that_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_files.replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_the_umask_of_the_process_is_left_alone(tmp_path, monkeypatch):
    """It applies to all threads: a file that another one creates would be open to everybody."""
    changes = []
    monkeypatch.setattr(os, "umask", lambda mask: changes.append(mask) or 0o022)
    with atomic_files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("text")
    assert not changes


def test_a_full_disk_gives_one_sentence_and_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written, no space is left"),
        atomic_files.replacing(target),
        open("/dev/full", "w") as full,
    ):
        full.write("text")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_read_only_folder_gives_one_sentence(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written, the folder is not"),
        atomic_files.replacing(tmp_path / "a.txt"),
    ):
        pass


def test_a_file_in_place_of_a_folder_gives_one_sentence(tmp_path):
    (tmp_path / "folder").write_text("no folder")
    for path in ("folder/a.txt", "folder/inner/a.txt"):
        with (
            pytest.raises(InputError, match="cannot be written, a part of the path is a file"),
            atomic_files.replacing(tmp_path / path),
        ):
            pass


def test_other_errors_in_the_block_are_passed_on(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_files.replacing(tmp_path / "a.txt"):
        (tmp_path / "nowhere.txt").read_text()


def test_a_folder_in_place_of_the_file_gives_one_sentence(tmp_path):
    with (
        pytest.raises(InputError, match="expected a file to write, found a folder; name one in it"),
        atomic_files.replacing(tmp_path),
    ):
        pass


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    begin = f"""
import os, signal
from feelvos_tf.core import atomic_files
with atomic_files.replacing({str(tmp_path / "video.mp4")!r}) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", begin], check=False)
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".video.writing-") and left.suffix == ".mp4"
    for name in (".video-1234abcd.mp4", ".notes.writing-1.mp4", left.name.replace("writing-", "w")):
        (tmp_path / name).write_text("somebody's")
    (tmp_path / "sub").mkdir()
    # A running process's file is kept: here this process's, in practice another's.
    with atomic_files.replacing(tmp_path / "sub" / "a.txt") as living:
        atomic_files._cleared.clear()
        with atomic_files.replacing(tmp_path / "sub" / "b.txt"):
            assert living.exists()
    with atomic_files.replacing(tmp_path / "other.txt") as temporary:
        temporary.write_text("whole")
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 5


def test_a_folder_left_by_a_killed_process_is_removed(tmp_path):
    begin = f"""
import os, signal
from feelvos_tf.core import atomic_files
with atomic_files.new_folder({str(tmp_path / "model.v1")!r}) as folder:
    folder.mkdir()
    (folder / "part").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", begin], check=False)
    assert [path.name for path in tmp_path.rglob("part*")] == ["part"]
    # A running process's folder is kept.
    with atomic_files.new_folder(tmp_path / "living") as living:
        living.mkdir()
        atomic_files._cleared.clear()
        with atomic_files.replacing(tmp_path / "other.txt") as temporary:
            temporary.write_text("whole")
        assert living.is_dir()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["living", "other.txt"]


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_files.new_folder(tmp_path / "a/new") as folder:
        folder.mkdir()
        (folder / "part").touch()
        assert not (tmp_path / "a/new").exists()
        raise KeyboardInterrupt
    assert not list((tmp_path / "a").iterdir())
    with atomic_files.new_folder(tmp_path / "a/new") as folder:
        folder.mkdir()
        (folder / "part").touch()
    assert [path.name for path in (tmp_path / "a").rglob("*")] == ["new", "part"]
    with (
        pytest.raises(InputError, match="new: expected a folder that does not exist yet, found"),
        atomic_files.new_folder(tmp_path / "a/new"),
    ):
        raise AssertionError("the block must not begin")

import stat

import pytest

from feelvos_tf.core import atomic_files


def test_a_file_appears_whole_with_its_parents(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with atomic_files.replacing(target) as temporary:
        temporary.write_text("all of it")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "all of it"
    assert [p.name for p in target.parent.iterdir()] == ["b.txt"]
    assert stat.S_IMODE(target.stat().st_mode) & stat.S_IRUSR


def test_a_failing_block_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_files.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]

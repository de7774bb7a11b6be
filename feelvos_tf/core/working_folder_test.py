"""A working folder belongs to one process; it starts empty and is gone at the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.working_folder import only_process

HOLD = """
import pathlib, sys
from feelvos_tf.core.working_folder import only_process
folder = pathlib.Path(sys.argv[1])
with only_process(folder, "in use"):
    (folder / "half").write_text("half")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_leftovers_of_a_killed_one_are_removed(tmp_path):
    folder = tmp_path / "new/working"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="^in use$"), only_process(folder, "in use"):
        pass
    assert (folder / "half").exists()
    first.kill()
    first.communicate()
    (folder / "of an earlier version").mkdir()
    with only_process(folder, "in use"):
        assert not list(folder.iterdir())
        (folder / "more").write_text("more")
    assert not folder.exists()


def test_a_block_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), only_process(tmp_path / "working", "in use"):
        raise KeyError
    assert not list(tmp_path.iterdir())

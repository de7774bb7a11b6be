"""A working folder belongs to one process, which can empty it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.working_folder import empty, locked

HOLD = """
import pathlib, sys
from feelvos_tf.core.working_folder import locked
folder = pathlib.Path(sys.argv[1])
with locked(folder, "in use"):
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
    with pytest.raises(InputError, match="^in use$"), locked(folder, "in use"):
        pass
    assert (folder / "half").exists()
    first.kill()
    first.communicate()
    (folder / "of an earlier version").mkdir()
    with locked(folder, "in use"):
        empty(folder)
        assert not list(folder.iterdir())


def test_a_hidden_folder_that_a_user_chose_is_named(tmp_path):
    (tmp_path / ".runs").write_text("")
    refused = pytest.raises(InputError, match="/.runs: cannot be written, ")
    with refused, locked(tmp_path / ".runs", "in use"):
        pass

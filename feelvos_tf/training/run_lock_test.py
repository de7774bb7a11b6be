import errno
import subprocess
import sys
from unittest import mock

import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.training.run_lock import only_process

HOLD = """
import sys
from feelvos_tf.training.run_lock import only_process
with only_process(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_in_one_folder_is_refused_until_the_first_is_gone(tmp_path):
    folder = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another process is training"), only_process(folder):
        pass
    with only_process(tmp_path / "other"):
        pass
    first.kill()
    first.communicate()
    with only_process(folder):
        pass


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "run").write_text("a file")
    for folder in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(InputError, match="a part of the path is a file"), only_process(folder):
            pass


def test_a_file_system_without_locks_is_trained_on_as_well(tmp_path):
    no_locks = OSError(errno.ENOLCK, "No locks available")
    with mock.patch("fcntl.flock", side_effect=no_locks), only_process(tmp_path / "run"):
        pass

import os
import subprocess
import sys

import pytest

from feelvos_tf.core import cli

PROGRAM = """
from absl import flags, logging
from feelvos_tf.core import cli, gin_flags
from feelvos_tf.core.errors import InputError

_FLAGS = cli.flag_values(__name__)
_WHAT = flags.DEFINE_string("what", None, "What to do.", flag_values=_FLAGS)
gin_flags.define(_FLAGS, "Settings", "a.b = 1")


class ResourceExhaustedError(Exception):
    '''Like TensorFlow's.'''

    __module__ = "tensorflow.python.framework.errors_impl"


def main(argv):
    logging.info("a library's note")
    if _WHAT.value == "input":
        raise InputError("a.png: expected a mask, found a cat")
    if _WHAT.value == "memory":
        raise ResourceExhaustedError("OOM when allocating tensor with shape[2,3] and type float")
    if _WHAT.value == "disk":
        raise ResourceExhaustedError("{{node SaveV2}} /runs/ckpt; No space left on device [Op]")
    if _WHAT.value == "bug":
        raise RuntimeError("not foreseen")
    with open(_WHAT.value, "w") as file:
        file.write("text")


if __name__ == "__main__":
    cli.run(main)
"""


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)

    def start(*arguments):
        return subprocess.run([sys.executable, path, *arguments], capture_output=True, text=True)

    return start


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--what=input"], "a.png: expected a mask, found a cat"),
        (["--what=/nowhere/a"], "/nowhere/a: No such file or directory"),
        (["--what=/dev/full"], "no space left on the disk while writing output"),
        (["--what=disk"], "no space left on the disk while writing /runs/ckpt"),
        (["what=input"], "unexpected argument 'what=input': options are given as --name=value"),
        (["--what=memory"], "out of memory (no room for a tensor of shape[2,3]); README.md says"),
    ],
)
def test_bad_input_and_full_machines_are_one_sentence(run, arguments, sentence):
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {sentence}")
    assert done.stderr.count("\n") == 1


def test_a_defect_keeps_its_traceback(run):
    done = run("--what=bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_help_shows_the_flags_that_shared_modules_define(run):
    shown = run("--help").stdout
    assert all(f"--{name}" in shown for name in ("what", "gin_file", "gin_param"))


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("flags\t\t: fpu avx avx2 bmi2\n", None, "1"),
        ("flags\t\t: fpu avx avx512f\n", None, None),
        ("flags\t\t: fpu avx2x\nbugs: avx2\n", None, None),
        ("flags\t\t: fpu avx2\n", "0", "0"),
        (None, None, None),
    ],
)
def test_onednn_is_on_with_avx2_unless_the_user_decided(tmp_path, monkeypatch, text, before, after):
    # A stand-in: what is set in the real one would reach programs that later tests start.
    monkeypatch.setattr(os, "environ", {} if before is None else {cli.ONEDNN: before})
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    cli.use_onednn_where_it_is_faster(tmp_path / "cpuinfo")
    assert os.environ.get(cli.ONEDNN) == after


def test_nothing_is_chosen_once_tensorflow_is_imported(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    cli.prepare_tensorflow()
    assert not os.environ


def test_one_thing_is_told_as_one():
    assert [cli.count(n, "videos") for n in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]

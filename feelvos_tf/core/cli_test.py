import os
import subprocess
import sys

import pytest
from absl import flags

from feelvos_tf.core import cli

PROGRAM = """
from absl import logging
from feelvos_tf.core import cli, gin_settings
from feelvos_tf.core.errors import InputError

_FLAGS = cli.flag_values(__name__)
_WHAT = cli.FlagGroup(_FLAGS, "Deeds").string("what", "What to do.")
gin_settings.define_flags(_FLAGS, "Settings", "a.b = 1")


class ResourceExhaustedError(Exception):
    '''Like TensorFlow's.'''

    __module__ = "tensorflow.python.framework.errors_impl"


def main():
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


def test_a_tilde_inside_an_argument_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    flags.DEFINE_string("mask", None, "", values)
    flags.DEFINE_multi_string("mask_at", [], "", values)
    cli.parsed(
        ["program", "--mask=~/1.png,~/2~.png", "--mask_at=5:~/a.png", "--mask_at=~b"], values
    )
    assert values.mask == f"{tmp_path}/1.png,{tmp_path}/2~.png"
    assert values.mask_at == [f"5:{tmp_path}/a.png", "~b"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--what=input"], "a.png: expected a mask, found a cat"),
        (["--what=/nowhere/a"], "/nowhere/a: No such file or directory"),
        (["--what=/dev/full"], "no space left on the disk while writing output"),
        (["--what=disk"], "no space left on the disk while writing /runs/ckpt"),
        (["what=input"], "unexpected argument 'what=input': options are given as --name=value"),
        (["--what=memory"], "out of memory (no room for a tensor of shape[2,3]); see Trouble"),
    ],
)
def test_bad_input_and_lack_of_resources_give_one_sentence(run, arguments, sentence):
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {sentence}")
    assert done.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(run):
    done = run("--what=bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_group_of_flags_defines_every_kind_and_helps_in_order(run):
    values = flags.FlagValues()
    group = cli.FlagGroup(values, "Numbers")
    group.integer("width", "Pixels.", 5, lower_bound=1)
    group.floating("share", "Part of it.")
    group.enum("kind", "Which.", "a", enum_values=["a", "b"])
    group.comma_list("names", "Several.", [])
    values(["program", "--share=0.5", "--names=c,d", "--kind=b"])
    found = {name: values[name].value for name in group.names}
    assert found == {"width": 5, "share": 0.5, "kind": "b", "names": ["c", "d"]}
    with pytest.raises(flags.Error):
        values(["program", "--width=0"])
    assert "\nDeeds:\n  --what: What to do.\n\nMore:\n  --gin_file" in run("--help").stdout


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
    # A stand-in: variables set in the real one would reach programs that later tests start.
    monkeypatch.setattr(os, "environ", {} if before is None else {cli.ONEDNN: before})
    monkeypatch.setattr(cli, "_CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        cli._CPUINFO.write_text(text)
    cli.use_onednn_where_it_is_faster()
    assert os.environ.get(cli.ONEDNN) == after


def test_nothing_is_chosen_once_tensorflow_is_imported(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    cli.prepare_tensorflow()
    assert not os.environ


_NOISY = """
import gc, os
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called\\n")
os.write(2, b"I0000 00:00:1795526941.145839   23617 port.cc:153] oneDNN is on.\\n")
os.write(2, b"W0000 00:00:1795526941.145839   23617 port.cc:153] a warning\\n")
IS_COLLECTING = gc.isenabled()
"""
_IMPORT = """
from feelvos_tf.core import cli
cli.import_quietly("module")
import module
"""


@pytest.fixture
def run_code(tmp_path):
    """Returns a function that runs code next to a `module.py` in a separate process."""

    def start(module: str, code: str, timeout: float = 60) -> subprocess.CompletedProcess:
        (tmp_path / "module.py").write_text(module)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
        )

    return start


def test_only_start_up_lines_are_dropped_and_only_during_the_import(run_code):
    code = """
import os, sys
from feelvos_tf.core import cli
cli.import_quietly("module")
print("before", file=sys.stderr)
import module
os.write(2, b"I0000 later\\n")
loader = module.__loader__
print(module.__spec__.loader is loader, type(loader).__name__, "exec_module" in vars(loader))
"""
    done = run_code(_NOISY, code)
    lines = done.stderr.splitlines()
    assert lines[0] == "before"
    assert "a warning" in lines[1]
    assert lines[2:] == ["I0000 later"]
    assert done.stdout.split() == ["True", "SourceFileLoader", "False"]


def test_the_garbage_collector_pauses_only_during_the_import(run_code):
    code = f"import gc; gc.{{}}(){_IMPORT}print(module.IS_COLLECTING, gc.isenabled())"
    assert run_code(_NOISY, code.format("enable")).stdout.split() == ["False", "True"]
    assert run_code(_NOISY, code.format("disable")).stdout.split() == ["False", "False"]


def test_the_last_words_of_a_library_that_aborts_get_through(run_code):
    done = run_code("import os; os.write(2, b'needs AVX\\n'); os.abort()", _IMPORT)
    assert done.returncode != 0
    assert "needs AVX" in done.stderr


def test_a_child_started_during_the_import_neither_blocks_it_nor_loses_lines(run_code):
    child = "import os, time; time.sleep(4); os.write(2, b'I0000 x\\nlast words\\n')"
    module = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.DEVNULL)
"""
    code = "import time; begin = time.monotonic()" + _IMPORT + "print(time.monotonic() - begin)"
    done = run_code(module, code)
    assert float(done.stdout) < 3
    assert done.stderr == "last words\n"


def test_a_module_that_is_missing_or_fails_raises_as_usual(run_code):
    failing = run_code("raise RuntimeError('broken inside')", _IMPORT)
    assert failing.returncode == 1 and "broken inside" in failing.stderr
    absent = run_code("", _IMPORT.replace("module", "absent"))
    assert absent.returncode == 1 and "No module named 'absent'" in absent.stderr


def test_programs_import_tensorflow_silently(run_code):
    code = "from feelvos_tf.core import cli; cli.prepare_tensorflow(); import tensorflow"
    assert run_code("", code).stderr == ""


def test_one_thing_is_counted_in_the_singular():
    assert [cli.count(n, "videos") for n in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [(["model_dir"], "expected --model_dir"), (["a", "b", "c"], "expected --a, --b and --c")],
)
def test_missing_flags_are_named_in_plain_english(names, sentence):
    values = flags.FlagValues()
    for name in names:
        flags.DEFINE_string(name, None, "What it is.", required=True, flag_values=values)
    with pytest.raises(flags.Error) as caught:
        values(["program"])
    assert cli._in_english(caught.value) == sentence
    with pytest.raises(flags.Error) as caught:
        values(["program", "--unknown"])
    assert "unknown" in cli._in_english(caught.value)

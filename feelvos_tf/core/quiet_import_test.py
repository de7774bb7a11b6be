import subprocess
import sys
import textwrap

_MODULE = """
import gc, os
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called\\n")
os.write(2, b"I0000 00:00:1795526941.145839   23617 port.cc:153] oneDNN is on.\\n")
os.write(2, b"W0000 00:00:1795526941.145839   23617 port.cc:153] a warning\\n")
VALUE = 7
COLLECTING = gc.isenabled()
"""


def run(code: str, folder) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_only_start_up_lines_are_left_out_and_only_during_the_import(tmp_path):
    (tmp_path / "noisy.py").write_text(_MODULE)
    result = run(
        """
        import os, sys
        from feelvos_tf.core.quiet_import import import_quietly
        import_quietly("noisy")
        print("before", file=sys.stderr)
        import noisy
        os.write(2, b"I0000 later\\n")
        loader = noisy.__loader__
        print(noisy.VALUE, noisy.__spec__.loader is loader, type(loader).__name__)
        """,
        tmp_path,
    )
    lines = result.stderr.splitlines()
    assert lines[0] == "before"
    assert "a warning" in lines[1]
    assert lines[2:] == ["I0000 later"]
    assert result.stdout.split() == ["7", "True", "SourceFileLoader"]


def test_the_garbage_collector_waits_for_the_import_alone(tmp_path):
    (tmp_path / "noisy.py").write_text(_MODULE)
    code = """
        import gc
        from feelvos_tf.core.quiet_import import import_quietly
        import_quietly("noisy")
        import noisy
        print(noisy.COLLECTING, gc.isenabled())
        """
    assert run(code, tmp_path).stdout.split() == ["False", "True"]
    assert run("import gc; gc.disable()\n" + textwrap.dedent(code), tmp_path).stdout.split() == [
        "False",
        "False",
    ]


def test_the_last_words_of_a_library_that_aborts_are_passed_on(tmp_path):
    (tmp_path / "dying.py").write_text("import os; os.write(2, b'needs AVX\\n'); os.abort()")
    result = run(
        "from feelvos_tf.core.quiet_import import import_quietly as q; q('dying'); import dying",
        tmp_path,
    )
    assert result.returncode != 0
    assert "needs AVX" in result.stderr


def test_a_module_that_is_missing_or_fails_says_so_as_ever(tmp_path):
    (tmp_path / "failing.py").write_text("raise RuntimeError('broken inside')")
    for name, sentence in (("failing", "broken inside"), ("absent", "No module named 'absent'")):
        result = run(
            f"from feelvos_tf.core.quiet_import import import_quietly as q; q('{name}')\n"
            f"import {name}",
            tmp_path,
        )
        assert result.returncode == 1
        assert sentence in result.stderr


def test_programs_load_tensorflow_without_a_word(tmp_path):
    code = "from feelvos_tf.core import cli; cli.prepare_tensorflow(); import tensorflow"
    assert run(code, tmp_path).stderr == ""

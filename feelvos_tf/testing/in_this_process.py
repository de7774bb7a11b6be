"""Runs a program in the test's process, which has loaded TensorFlow already: saves seconds per run.

For what a program does once it runs; that it starts at all is tested separately.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import types

import gin

from feelvos_tf.core import cli


def run(program: types.ModuleType, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a program's `main` with these arguments; returns what `subprocess.run` would.

    Args:
      program: the imported module, with the flags in `_FLAGS`.
    """
    argv = [program.__name__, *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    program._FLAGS.unparse_flags()
    gin.clear_config()
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.call_main(program.main, cli.parsed(argv, program._FLAGS))
    except SystemExit as ended:
        code = ended.code
    finally:
        program._FLAGS.unparse_flags()
        gin.clear_config()
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())

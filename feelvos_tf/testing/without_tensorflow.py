"""Runs a program in which importing TensorFlow is an error, to show that it works without."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import runpy, sys
class Refuse:
    def find_spec(self, name, *_):
        assert name != "tensorflow", "TensorFlow is imported"
sys.meta_path.insert(0, Refuse())
runpy.run_module({module!r}, run_name="__main__")
"""


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module` with these arguments and returns the finished process."""
    command = [sys.executable, "-c", _PROGRAM.format(module=module), *arguments]
    return subprocess.run(command, capture_output=True, text=True)

"""Imports a module without the lines that TensorFlow's libraries write while they are loaded.

From TensorFlow 2.18 on they come before TF_CPP_MIN_LOG_LEVEL counts: six lines about oneDNN and
missing GPUs at every start of every program, which drown what a user must read.

The garbage collector waits meanwhile: a large module makes many objects and leaves hardly any of
them, so that looking for garbage is a tenth of the time of importing TensorFlow.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

# Of the level "information", and the line that stands above the first of them. Warnings and the
# reason why a library ends the process pass.
_START_UP_LINES = ("/^WARNING: All log messages before absl::InitializeLog/d", "/^I[0-9]{4} /d")


def import_quietly(name: str) -> None:
    """Makes the first import of module `name`, whoever imports it, drop start-up lines.

    Nothing changes where the module is loaded already.
    """
    if name not in sys.modules:
        sys.meta_path.insert(0, _Finder(name))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module as Python would, and has it loaded with the lines left out."""

    def __init__(self, name: str):
        self._name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module as the loader in it does, with the lines left out."""

    def __init__(self, loader: importlib.abc.Loader):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        with _start_up_lines_left_out(), _garbage_collector_waiting():
            self._loader.exec_module(module)


@contextlib.contextmanager
def _garbage_collector_waiting() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _start_up_lines_left_out() -> Iterator[None]:
    """Leaves the lines out of what this process, its libraries included, writes to stderr.

    A process of its own reads along: what a library says before it aborts is still passed on.
    """
    sed = shutil.which("sed")
    if sed is None:
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    command = [sed, "-E"] + [part for line in _START_UP_LINES for part in ("-e", line)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stderr) as filtering:
        os.dup2(filtering.stdin.fileno(), 2)
        filtering.stdin.close()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)

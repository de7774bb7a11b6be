"""The direction of imports between the rooms (subpackages), and what importing them costs."""

from __future__ import annotations

import ast
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# What a room's modules may import besides each other.
MAY_IMPORT = {
    "core": set(),
    "media": {"core"},
    "data": {"core", "media"},
    "evaluation": {"core", "media", "data"},
    "models": {"core"},
    "inference": {"core", "models", "media", "data", "evaluation"},
    "training": {"core", "models", "media", "data", "evaluation", "inference"},
    "demo_page": {"core", "media", "inference"},
}
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if not path.name.endswith("_test.py") and path.name != "conftest.py"
)


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(PACKAGE))


def imported(path: pathlib.Path) -> Iterator[str]:
    """Yields the full names that a module imports, including those inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: pathlib.Path) -> set[str]:
    """Returns the rooms and top-level modules that a module imports."""
    parts = (name.split(".") for name in imported(path))
    return {p[1] for p in parts if p[0] == PACKAGE.name and len(p) > 1}


def module_of(name: str) -> pathlib.Path | None:
    """Returns the file of a module of this package, given its name or the name of a member."""
    for parts in (name.split("."), name.split(".")[:-1]):
        path = PACKAGE.parent.joinpath(*parts)
        if parts and parts[0] == PACKAGE.name and path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
    return None


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_below_it(room):
    modules = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] == room]
    assert modules
    for path in modules:
        upward = rooms_imported(path) - {room} - MAY_IMPORT[room]
        assert not upward, f"{name_of(path)} imports {', '.join(sorted(upward))}"


def test_core_imports_nothing_by_a_name_in_a_string():
    """The test above would not see it. `cli` may import what its callers name."""
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] != "core":
            continue
        text = path.read_text()
        called = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Attribute, ast.Name))
        }
        assert not called & {"import_module", "__import__", "exec", "run_module"}, name_of(path)
        rooms = set(MAY_IMPORT) - {"core"}
        dotted = re.findall(rf"""["']{PACKAGE.name}\.(\w+)[\w.]*["']""", text)
        assert not rooms & set(dotted), name_of(path)


def test_configurables_imports_every_module_with_settings():
    seen, waiting = set(), [PACKAGE / "configurables.py"]
    while waiting:
        seen.add(path := waiting.pop())
        waiting += {module_of(name) for name in imported(path)} - seen - {None}
    registers = re.compile(r"^@(?:gin|settings)\.(?:configurable|register)\b", re.M)
    offering = {path for path in MODULES if registers.search(path.read_text())}
    assert len(offering) > 10
    assert not [name_of(path) for path in offering - seen]


def test_every_folder_is_a_known_room():
    folders = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert folders == {*MAY_IMPORT, "testing"}


def test_only_tests_import_the_testing_package():
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] != "testing":
            assert "testing" not in rooms_imported(path), name_of(path)


def test_init_files_import_nothing_heavy():
    for path in MODULES:
        if path.name == "__init__.py" and path.parent != PACKAGE:
            assert set(imported(path)) <= {"__future__.annotations"}, name_of(path)


def test_importing_the_package_imports_nothing_else():
    program = f"import sys; before = set(sys.modules); import {PACKAGE.name}; "
    program += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    new = set(done.stdout.split())
    assert PACKAGE.name in new
    heavy = ("tensorflow", "numpy", "absl", "gin", f"{PACKAGE.name}.")
    assert not [name for name in new if name.startswith(heavy)]


def test_importing_the_package_leaves_the_environment_and_the_import_hooks_alone():
    program = f"""
import os, sys
before = dict(os.environ), list(sys.meta_path)
import {PACKAGE.name}
assert (dict(os.environ), sys.meta_path) == before
try:
    {PACKAGE.name}.load("no such folder")
except Exception as error:
    assert type(error).__name__ == "InputError", error
assert "tensorflow" not in sys.modules
changed = {{name for name, _ in set(os.environ.items()) ^ set(before[0].items())}}
assert not {{name for name in changed if not name.startswith(("LD_", "QT_"))}}, changed  # OpenCV's
ours = [hook for hook in sys.meta_path if hook.__module__.startswith("{PACKAGE.name}")]
assert not ours, ours
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_reading_flags_and_settings_needs_no_tensorflow():
    modules = [p.stem for p in MODULES if p.parent == PACKAGE / "core" and p.stem != "resizing"]
    imports = "; ".join(f"import {PACKAGE.name}.core.{m}" for m in modules if m != "__init__")
    program = f"{imports}; import sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent).returncode == 0

"""setup.py installs all files of the package and requires nothing that it does not use."""

import os
import pathlib
import re
import runpy
import subprocess
import sys

import pytest
import setuptools

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Packages whose modules have other names.
MODULES = {"absl-py": "absl", "gin-config": "gin", "opencv-python-headless": "cv2", "pillow": "PIL"}


@pytest.fixture(scope="module")
def arguments():
    """Yields the arguments that setup.py passes to setuptools, from within its folder."""
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", given.update)
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
        yield given


def test_files_other_than_code_are_installed(arguments):
    installed = {
        path
        for package, patterns in arguments["package_data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    others = {
        path
        for path in (ROOT / "feelvos_tf").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md", ".ipynb")
    }
    assert others
    assert others == {path for path in installed if path.suffix != ".md"}
    assert ROOT / "feelvos_tf/pretrained/MODEL_CARD.md" in installed


# What TensorFlow imports for us, if it is installed.
BY_TENSORFLOW = {"tensorboard"}


def test_every_dependency_is_imported(arguments):
    sources = [p.read_text() for top in ("feelvos_tf", "tools") for p in (ROOT / top).rglob("*.py")]
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", "\n".join(sources), re.M))
    packages = [re.split(r"[<>=\[;]", line)[0] for line in arguments["install_requires"]]
    modules = [MODULES.get(package, package.replace("-", "_")) for package in packages]
    assert not [module for module in modules if module not in imported | BY_TENSORFLOW]


def test_wheels_hold_no_tests(arguments):
    distribution = setuptools.Distribution(
        {"packages": arguments["packages"], "script_name": "setup.py"}
    )
    command = arguments["cmdclass"]["build_py"](distribution)
    command.finalize_options()
    modules = [module for _, module, _ in command.find_all_modules()]
    assert "predictor" in modules and "video_predictor" in modules
    assert not [m for m in modules if m.endswith("_test") or m in ("conftest", "small_model")]


@pytest.fixture(scope="module")
def installed(arguments, tmp_path_factory):
    """Returns a folder with the contents of a wheel."""
    given = {name: arguments[name] for name in ("packages", "package_data")}
    distribution = setuptools.Distribution({**given, "script_name": "setup.py"})
    command = arguments["cmdclass"]["build_py"](distribution)
    command.build_lib = str(tmp_path_factory.mktemp("installed"))
    command.ensure_finalized()
    command.run()
    return pathlib.Path(command.build_lib)


def run_installed(installed, folder, *arguments):
    """Runs Python in an empty folder, so that it imports the installed package."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )


def test_gin_files_are_installed_with_the_package_and_found_by_their_names(installed, tmp_path):
    names = [path.relative_to(ROOT) for path in (ROOT / "gin_configs").rglob("*.gin")]
    assert len(names) >= 20
    program = (  # The files that they include must be found as well.
        "import sys; from feelvos_tf.core import gin_settings\n"
        "for name in sys.argv[1:]:\n"
        "  print(gin_settings.find(name), gin_settings._given([name], [])[-1][0])"
    )
    done = run_installed(installed, tmp_path, "-c", program, *map(str, names))
    assert done.returncode == 0, done.stderr
    package = installed / "feelvos_tf"
    assert done.stdout.split() == [str(package / name) for name in names for _ in range(2)]


def test_tools_are_installed_as_modules(installed, tmp_path):
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"python tools/(\w+)\.py", readme))
    there = {path.stem for path in (installed / "feelvos_tf/tools").iterdir()}
    assert named and named <= there and not any(name.endswith("_test") for name in there)
    name = "feelvos_tf.tools.eval_davis"
    done = run_installed(installed, tmp_path, "-m", name, "--dataset_root=x", "--predictions=y")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr

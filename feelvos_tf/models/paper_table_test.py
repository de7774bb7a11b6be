"""The table in the package's docstring that maps the paper to the code names existing code."""

import importlib
import re

import gin
import pytest

from feelvos_tf import configurables, models  # noqa: F401
from feelvos_tf.core import gin_settings

README = gin_settings.PROJECT_ROOT / "feelvos_tf/models/README.md"
NAMES = re.findall(r"`(feelvos_tf\.[\w.]+)`", models.__doc__)


def find(name: str) -> object:
    """Returns the attribute of a module that a dotted name stands for."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_the_table_has_a_row_for_each_idea():
    rows = [line for line in models.__doc__.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(NAMES) >= 15
    for word in ("equation 1", "equation 2", "equation 3", "equation 4", "1024", "k = 15", "15%"):
        assert word in models.__doc__


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_every_name_of_the_table_exists(name):
    assert find(name) is not None


@pytest.fixture
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.mark.usefixtures("clean_gin")
def test_every_setting_that_the_readme_names_exists():
    settings = set(re.findall(r"`([A-Z]\w+\.[a-z_]+) = ([^`]+)`", README.read_text()))
    assert settings
    gin_settings.parse([], [f"{name} = {value}" for name, value in settings])

"""The documents name files that exist, and commands whose flags and settings are known."""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import re
import shlex
import sys
from unittest import mock

import gin
import pytest
from absl import flags

from feelvos_tf import configurables  # noqa: F401
from feelvos_tf.core import gin_settings

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("feelvos_tf", "tools", "gin_configs", "testdata")
MARKDOWN = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *(p for top in FOLDERS for p in (ROOT / top).rglob("*.md")))
)
GIN_FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "gin_configs").rglob("*.gin"))
PROGRAMS = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("feelvos_tf/*.py"), *ROOT.glob("tools/*.py"))
    if re.search(r"^    cli\.run\(", path.read_text(), re.M)
)


def text_of(path: pathlib.Path) -> str:
    """Returns a document's text; of a gin file or a program, only its header."""
    text = (ROOT / path).read_text()
    if path.suffix == ".gin":
        return "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    if path.suffix == ".py":
        return text.split('"""')[1].replace("\\\\\n", "\\\n")
    return text


def commands(text: str) -> list[list[str]]:
    """Returns the words of every Python command, with continuation lines joined."""
    joined = re.sub(r"\\\n\s*#?", " ", text)
    found = re.findall(r"^\s*(?:\.venv/bin/)?python (?:-m feelvos_tf|tools/).*$", joined, re.M)
    found += re.findall(r"`(?:\.venv/bin/)?(python (?:-m feelvos_tf|tools/)[^`]*)`", joined)
    # Square brackets enclose optional parts.
    return [shlex.split(re.sub(r"[\[\]](?=--|\s|$)", " ", line), comments=True) for line in found]


@functools.cache
def flags_of(*program: str) -> set[str]:
    """Returns the names of a program's flags; programs_test checks that --help shows them."""
    if program[0] == "-m":
        module = importlib.import_module(program[1])
    else:
        path = ROOT / program[0]
        path = path / "__main__.py" if path.is_dir() else path
        spec = importlib.util.spec_from_file_location("_".join(path.parts), path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        with mock.patch.object(sys, "path", [str(path.parent), *sys.path]):
            spec.loader.exec_module(module)
    (defined,) = (each for each in vars(module).values() if isinstance(each, flags.FlagValues))
    return set(defined) | {f"no{name}" for name in defined if defined[name].boolean}


def program_of(words: list[str]) -> tuple[str, ...]:
    return tuple(words[1:3]) if words[1] == "-m" else (words[1],)


@pytest.mark.parametrize("path", MARKDOWN, ids=str)
def test_links_lead_to_files_that_exist(path):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text_of(path))
    local = [link for link in links if not re.match(r"https?:", link)]
    assert not [link for link in local if not (ROOT / path.parent / link).exists()]


@pytest.mark.parametrize("path", MARKDOWN, ids=str)
def test_files_that_are_named_exist(path):
    """Names that begin with a folder of the project or end like its source files."""
    everything = {p.name for top in FOLDERS for p in (ROOT / top).rglob("*")}
    everything |= {p.name for p in ROOT.iterdir()}
    everything |= {gin_settings.OPERATIVE_CONFIG, "train.sh"}  # a run's; the release's
    missing = []
    for name in re.findall(r"`([\w./-]+)`", text_of(path)):
        if name.startswith(tuple(f"{top}/" for top in FOLDERS)):
            missing += [name] if not (ROOT / name).exists() else []
        elif name.endswith((".py", ".gin", ".sh", ".md", ".toml")):
            missing += [name] if pathlib.Path(name).name not in everything else []
    assert not missing


@pytest.mark.parametrize("path", [*MARKDOWN, *GIN_FILES, *PROGRAMS], ids=str)
def test_commands_that_are_named_know_their_flags(path):
    for words in commands(text_of(path)):
        known = flags_of(*program_of(words))
        assert known, words
        named = {re.match(r"--(\w+)", word)[1] for word in words if word.startswith("--")}
        assert named <= known | {"help"}, words


def test_settings_in_commands_are_known():
    """An unknown one is added, to check that it would be found."""
    found = [
        word.split("=", 1)[1]
        for path in (*MARKDOWN, *GIN_FILES, *PROGRAMS)
        for words in commands(text_of(path))
        for word in words
        if word.startswith("--gin_param=") and word != "--gin_param=..."
    ]
    assert len(found) > 20
    # Macros, such as davis_2016_records, are known if a gin file refers to them.
    short = {binding.split("=")[0].strip() for binding in found if "." not in binding.split("=")[0]}
    referred = set(re.findall(r"%(\w+)", "".join((ROOT / path).read_text() for path in GIN_FILES)))
    assert short <= referred
    gin_settings.parse([], [b for b in found if b.split("=")[0].strip() not in short])
    with pytest.raises(gin_settings.InputError):
        gin_settings.parse([], [*found, "Trainer.no_such_setting = 1"])
    gin.clear_config()


def test_the_list_of_settings_names_all_parts_and_no_others():
    table = text_of(pathlib.Path("gin_configs/README.md")).split("| settings |")[1].split("\n\n")[0]
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.M)))
    part = re.compile(
        r"^@(?:gin|settings)\.(?:configurable|register)\n(?:@.*\n)*(?:class|def) (\w+)", re.M
    )
    paths = (p for p in (ROOT / "feelvos_tf").rglob("*.py") if not p.name.endswith("_test.py"))
    assert sorted(listed) == sorted(name for p in paths for name in part.findall(p.read_text()))


def test_all_programs_are_in_the_documents():
    named = {
        program_of(words)[-1].replace(".", "/").removesuffix("/py")
        for path in MARKDOWN
        for words in commands(text_of(path))
    }
    missing = [str(path) for path in PROGRAMS if str(path.with_suffix("")) not in named]
    assert not missing


def test_the_errors_that_the_readme_explains_exist():
    """Those under Troubleshooting, word for word; ... stands for what varies."""
    table = text_of(pathlib.Path("README.md")).split("## Troubleshooting")[1].split("\n## ")[0]
    quoted = re.findall(r"^\| `([^`]+)`", table, re.M)
    assert len(quoted) >= 4
    paths = (p for top in ("feelvos_tf", "tools") for p in (ROOT / top).rglob("*.*"))
    sources = "\n".join(p.read_text() for p in paths if p.suffix in (".py", ".sh"))
    # Long messages span several lines of code.
    sources = re.sub(r'"\s+f?"', "", sources)
    for sentence in quoted:
        for part in sentence.split("..."):
            assert part.strip(" ,") in sources, sentence


def test_the_readme_is_short():
    assert len(text_of(pathlib.Path("README.md")).splitlines()) <= 200

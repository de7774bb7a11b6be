"""Reads settings from gin files and single bindings, and saves those that were used.

Gin knows only what has been imported: programs import `feelvos_tf.configurables` before they parse.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gin
from absl import flags
from gin import config_parser

from feelvos_tf.core import atomic_files, cli, settings, whole_files
from feelvos_tf.core.errors import InputError

_Text = tuple[str, str]  # The file or flag that gin statements come from, and the statements.

PROJECT_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGE = PROJECT_ROOT / "feelvos_tf"  # Holds gin_configs/ if installed from a wheel.
OPERATIVE_CONFIG = "operative_config.gin"
_EVALUATION = "evaluation"
_MACRO_USED = re.compile(r"%([\w/]+)")
_STRING = re.compile(r"""(['"]).*?\1""")
# A binding's name, and its value including indented continuation lines.
_STATEMENT = re.compile(r"^([\w./]+)( = .*(?:\n[ \t]+\S.*)*)", re.MULTILINE)
_ONE_LINE = 1_000_000
_INCLUDE = re.compile(r"""include\s+(['"])(.+)\1\s*(#.*)?""")
_UNKNOWN = re.compile(r"No configurable matching (?:reference )?'@?(?:[\w.]*[/.])?(\w+)")
_LAST_WORD = re.compile(r"[A-Z]?[a-z]*\d*$")
_INNERMOST = re.compile(r"In call to configurable '([^']*)'")
_MISSING_BINDING = ("No values supplied by Gin", "Required bindings for")


def define_flags(
    flag_values: flags.FlagValues, use: str, example: str
) -> tuple[flags.FlagHolder[list[str]], flags.FlagHolder[list[str]]]:
    """Defines a program's flags --gin_file and --gin_param, and returns both.

    Args:
      flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
      use: what the settings do, e.g. "Settings of the model".
      example: one setting, e.g. "Trainer.num_steps = 100".
    """
    group = cli.FlagGroup(flag_values)
    files = group.multi_string("gin_file", f"{use}; later files override earlier ones.", [])
    params = group.multi_string(
        "gin_param", f"One setting, e.g. '{example}'; overrides the files.", []
    )
    return files, params


def parse(gin_files: Sequence[str], gin_params: Sequence[str]) -> None:
    """Binds the settings of files and single bindings; they override those already bound.

    Args:
      gin_files: paths, relative to the working directory or else to the project root, as are the
        `include` statements in them. Later files override earlier ones.
      gin_params: single bindings such as "Trainer.num_steps = 100"; they override the files.

    Raises:
      InputError: a file is missing, a line cannot be parsed, or a name is unknown.
    """
    _bind([], _given(gin_files, gin_params))


def parse_model_dir(
    model_dir: str | os.PathLike[str], gin_params: Sequence[str], gin_files: Sequence[str] = ()
) -> None:
    """Restores the settings of the training run in `model_dir`.

    Args:
      model_dir: folder of a training run.
      gin_params: single bindings that override the saved ones and the files.
      gin_files: files that override the saved settings, including those saved for the
        `evaluation/` scope.

    Raises:
      InputError: the folder holds no operative config, or something cannot be parsed.
    """
    given = _given(gin_files, gin_params)
    _bind(_texts(str(operative_config_of(model_dir).resolve())), given)
    names = [(s.scope, f"{s.selector}.{s.arg_name}") for s in _bindings(given) if s.arg_name]
    with gin.unlock_config():
        for scope, name in names:
            if not scope and (_EVALUATION, name) not in names:
                gin.bind_parameter(f"{_EVALUATION}/{name}", gin.query_parameter(name))


def operative_config_of(model_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the file with the settings of the training run in `model_dir`.

    Raises:
      InputError: there is none.
    """
    path = pathlib.Path(model_dir) / OPERATIVE_CONFIG
    whole_files.check_is_file(path, "the settings of a training run, in the folder it wrote to")
    return path


def save_operative(model_dir: str | os.PathLike[str]) -> None:
    """Writes the settings that were used, including defaults, and those that were only bound.

    The latter are for other programs: training without `Validation` does not use the settings of
    the `Predictor`, but the export of its model will.

    Args:
      model_dir: folder in which `operative_config.gin` is written atomically.
    """
    used = gin.operative_config_str(max_line_length=100)
    names = {name for name, _ in _STATEMENT.findall(used)}
    bound = _STATEMENT.findall(gin.config_str(max_line_length=100))
    unused = [f"{name}{value}" for name, value in bound if name not in names]
    lines = [used, "# Bound, but not used by this program:", *unused, ""]
    atomic_files.write_text(pathlib.Path(model_dir) / OPERATIVE_CONFIG, "\n".join(lines))


def changed_since(model_dir: str | os.PathLike[str]) -> list[str]:
    """Describes the settings in use whose values differ from those of the run in `model_dir`."""
    path = pathlib.Path(model_dir) / OPERATIVE_CONFIG
    before = _values(path.read_text()) if path.is_file() else {}
    now = _values(gin.operative_config_str(max_line_length=100))
    return [
        f"{name} = {value}, was {before[name]}"
        for name, value in now.items()
        if value != before.get(name, value)
    ]


def bound() -> dict[str, str]:
    """Returns the settings bound so far, name -> value as gin writes it on one line."""
    return _values(gin.config_str(max_line_length=_ONE_LINE))


def used() -> dict[str, str]:
    """Returns the settings used so far, including defaults, like `bound`."""
    return _values(gin.operative_config_str(max_line_length=_ONE_LINE))


def _values(config: str) -> dict[str, str]:
    """Returns the settings in gin's text, name -> value without line breaks."""
    return {name: " ".join(value.split()[1:]) for name, value in _STATEMENT.findall(config)}


def evaluation_scope() -> contextlib.AbstractContextManager:
    """Returns the scope in which models are built for prediction or scoring, not training.

    Settings for these alone are bound as `evaluation/Feelvos.atrous_rates = (12, 24, 36)`.
    """
    return gin.config_scope(_EVALUATION)


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turns gin's errors about bad settings into one-sentence `InputError`s.

    Wrap the code that builds configured objects: only there does gin notice that a required binding
    is missing, and it appends its call chain to every exception that passes a configurable.

    Raises:
      InputError: a required binding is missing, or the wrapped code raised one.
    """
    try:
        yield
    except InputError as error:
        raise InputError(_without_call_chain(error)) from error
    except (RuntimeError, TypeError) as error:
        if not any(mark in str(error) for mark in _MISSING_BINDING):
            raise
        found = _INNERMOST.search(str(error))
        name = found[1] if found else "a configurable"
        without = f", or write @{name} without brackets" if f"@{name}()" in gin.config_str() else ""
        raise InputError(
            f"gin settings: {_without_call_chain(error).splitlines()[0]} (of {name}); bind it in a "
            f"--gin_file or with --gin_param{without}"
        ) from error


def find(name: str) -> str:
    """Returns the path of a gin file in the working directory, the project or the package.

    Raises:
      InputError: it is in none of them.
    """
    for folder in (pathlib.Path(), PROJECT_ROOT, _PACKAGE):
        if (folder / name).is_file():
            return str(folder / name)
    raise InputError(f"{name}: expected a gin file, found none here or in {PROJECT_ROOT}")


def _given(gin_files: Sequence[str], gin_params: Sequence[str]) -> list[_Text]:
    """Returns the statements of the files and bindings given."""
    paths = [find(name) for name in gin_files]
    params = [(f"--gin_param={param!r}", param) for param in gin_params]
    return [text for path in paths for text in _texts(path)] + params


def _texts(path: str, including: tuple[str, ...] = ()) -> Iterator[_Text]:
    """Yields the statements of a gin file and of the files it includes, in order.

    Gin's own `include` also searches Python packages, mistakes our folder of gin files for one and
    fails; there is no public way to turn that off.
    """
    if path in including:
        raise InputError(f"gin settings ({path}): the file includes itself")
    with _parse_errors(path):
        lines = pathlib.Path(path).read_text().splitlines()
    statements = []
    for number, line in enumerate(lines, start=1):
        include = _INCLUDE.fullmatch(line)
        if include is None:
            statements.append(line)
            continue
        yield path, "\n".join(statements)
        statements = [""] * number  # Keeps the line numbers in messages correct.
        with _parse_errors(f"{path}, line {number}"):
            included = find(include[2])
        yield from _texts(included, (*including, path))
    yield path, "\n".join(statements)


def _bind(saved: Iterable[_Text], given: Sequence[_Text]) -> None:
    """Binds the saved settings, then the given ones, whose macros must be used."""
    with gin.unlock_config():
        for place, statements in (*saved, *given):
            with _parse_errors(place):
                gin.parse_config(statements)
    _refuse_unset_macros()
    macros = [s for s in _bindings(given) if not s.arg_name]
    _refuse_unused_macros([f"{s.scope}/{s.selector}".lstrip("/") for s in macros])


def _bindings(texts: Sequence[_Text]) -> list[Any]:
    """Returns gin's `BindingStatement`s (scope, selector, arg_name) of texts already parsed."""
    return [
        statement
        for _, statements in texts
        for statement in config_parser.ConfigParser(statements, gin.config.ParserDelegate())
        if isinstance(statement, config_parser.BindingStatement)
    ]


def _refuse_unset_macros() -> None:
    """Raises InputError for macros that settings refer to but nothing sets, such as records."""
    settings = _STRING.sub("''", gin.config_str())
    unset = sorted(set(_MACRO_USED.findall(settings)) - set(_values(settings)))
    if unset:
        raise InputError(
            f"gin settings: expected a value for {' and '.join(unset)}, which other settings "
            f'refer to, found none; set it with --gin_param="{unset[0]} = ..."'
        )


def _refuse_unused_macros(names: Sequence[str]) -> None:
    """Raises InputError for a macro that no setting refers to: probably a misspelled name.

    Gin silently treats `outputstride = 8` as the definition of a macro.
    """
    settings = gin.config_str()
    used = sorted(set(_MACRO_USED.findall(settings)))
    for name in names:
        if name not in used:
            near = difflib.get_close_matches(name, used)
            near += re.findall(rf"^(\w+\.{name}) =", settings, flags=re.M)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"macros in use: {', '.join(used) or 'none'}"
            )
            raise InputError(
                f"gin settings: {name}: expected Part.setting, or a macro that another setting "
                f"uses as %name, found a name that no setting uses; {hint}"
            )


@contextlib.contextmanager
def _parse_errors(place: str) -> Iterator[None]:
    """Turns gin's parse errors into one sentence."""
    try:
        yield
    except Exception as error:  # Gin raises errors of many classes.
        sentence = " ".join(_without_call_chain(error).split())
        raise InputError(f"gin settings ({place}): {sentence}{_alternatives(sentence)}") from error


def _alternatives(sentence: str) -> str:
    """Returns a hint at names that may have been meant, if the sentence is about an unknown one."""
    unknown = _UNKNOWN.search(sentence)
    if not unknown:
        return ""
    names = {name.lower(): name for name in sorted(settings.NAMES)}
    kind = _LAST_WORD.search(unknown[1])[0].lower()
    near = difflib.get_close_matches(unknown[1].lower(), names)
    near += [name for name in names if kind and name.endswith(kind) and name not in near]
    if not near:
        return f"; known names: {', '.join(names.values())}"
    return f"; did you mean {' or '.join(names[name] for name in near)}?"


def _without_call_chain(error: Exception) -> str:
    return str(error).split("\n  In call to configurable")[0]

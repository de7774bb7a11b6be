"""Reads the settings of gin files and single bindings, and saves those that were really used."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import pathlib
import re
import tokenize
from collections.abc import Iterator, Sequence

import gin

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError

PROJECT_ROOT = pathlib.Path(__file__).resolve().parents[2]
OPERATIVE_CONFIG = "operative_config.gin"
_EVALUATION = "evaluation"
_MACRO_SET = re.compile(r"^([\w/]+) =", re.MULTILINE)
_MACRO_USED = re.compile(r"%([\w/]+)")
_STRING = re.compile(r"""(['"]).*?\1""")
_INCLUDE = re.compile(r"""include\s+(['"])(.+)\1\s*(#.*)?""")

# Gin knows a name only after the module that defines it was imported. Everything a gin file may
# bind is listed here, so that one file serves training, export and prediction alike.
CONFIGURABLE_MODULES = (
    "feelvos_tf.data.input_pipeline",
    "feelvos_tf.data.moving_scenes",
    "feelvos_tf.training.mixed_precision",
    "feelvos_tf.training.devices",
    "feelvos_tf.training.losses",
    "feelvos_tf.models.backbones.mobilenet_v2",
    "feelvos_tf.models.backbones.xception",
    "feelvos_tf.models.feelvos",
    "feelvos_tf.training.optimizers",
    "feelvos_tf.inference.predictor",
    "feelvos_tf.training.learning_rate",
    "feelvos_tf.training.trainer",
    "feelvos_tf.training.triplet_loss",
    "feelvos_tf.training.validation",
    "feelvos_tf.training.summaries",
)

_PARSE_ERRORS = (
    ImportError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)
_MISSING_BINDING = ("No values supplied by Gin", "Required bindings for")


def parse(gin_files: Sequence[str], gin_params: Sequence[str]) -> None:
    """Sets all settings from files and single bindings; what was set before is forgotten.

    Args:
      gin_files: paths, looked up from the working directory, then from the project root; so are
        the `include` statements within. Later files win over earlier ones.
      gin_params: single bindings such as "Trainer.num_steps = 100"; they win over the files.

    Raises:
      InputError: a file is missing, a line cannot be read, or a name is unknown.
    """
    _parse(gin_files, gin_params)
    _refuse_unused_macros()


def _parse(gin_files: Sequence[str], gin_params: Sequence[str]) -> None:
    """Does what `parse` does, for settings that only together with others make sense."""
    paths = [_find(name) for name in gin_files]  # Before seconds of imports.
    for module in CONFIGURABLE_MODULES:
        importlib.import_module(module)
    gin.clear_config()
    for path in paths:
        _parse_file(path)
    with _parse_errors(", ".join(gin_files)):
        gin.parse_config_files_and_bindings([], list(gin_params), finalize_config=False)
    _refuse_unset_macros()
    with _parse_errors(", ".join(gin_files)):
        gin.finalize()


def evaluation_scope() -> contextlib.AbstractContextManager:
    """Returns the scope in which models are built that predict or are scored, not trained.

    What holds for them alone is bound as `evaluation/Feelvos.atrous_rates = (12, 24, 36)`.
    """
    return gin.config_scope(_EVALUATION)


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turns what gin makes of bad settings into one-sentence `InputError`s.

    Wrap the code that builds configured objects: only there gin notices that a required binding is
    missing, and it appends its call chain to every exception that passes a configurable.

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
        raise InputError(
            f"gin settings: {_without_call_chain(error).splitlines()[0]} "
            f"(of {_innermost_configurable(error)}); bind it in a --gin_file or with --gin_param"
        ) from error


def save_operative(model_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the settings that were really used, defaults included; returns the path.

    Args:
      model_dir: folder in which `operative_config.gin` is written, whole or not at all.
    """
    path = pathlib.Path(model_dir) / OPERATIVE_CONFIG
    with atomic_files.replacing(path) as temporary:
        temporary.write_text(gin.operative_config_str(max_line_length=100))
    return path


def is_bound(name: str) -> bool:
    """Returns whether the settings parsed say something about `name`, e.g. "Trainer.num_steps"."""
    try:
        gin.query_parameter(name)
    except ValueError:
        return False
    return True


def operative_config_of(model_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the file with the settings of the training run in `model_dir`.

    Raises:
      InputError: there is none.
    """
    path = pathlib.Path(model_dir) / OPERATIVE_CONFIG
    if not path.is_file():
        raise InputError(
            f"{path}: expected the settings of a training run, found no such file; "
            "is this the folder that training wrote to?"
        )
    return path


def parse_model_dir(
    model_dir: str | os.PathLike[str], gin_params: Sequence[str], gin_files: Sequence[str] = ()
) -> None:
    """Sets all settings as the training run in `model_dir` had them.

    Args:
      model_dir: folder of a training run.
      gin_params: single bindings that win over the saved ones and over the files.
      gin_files: files that win over the saved settings, also over those saved for the
        `evaluation/` scope.

    Raises:
      InputError: the folder holds no operative config, or it cannot be read.
    """
    path = operative_config_of(model_dir)
    _parse(gin_files, gin_params)
    given = re.sub(r"^([\w.]+\.\w+ =)", rf"{_EVALUATION}/\1", gin.config_str(), flags=re.M)
    parse([str(path.resolve()), *gin_files], [*gin_params, given])


def _refuse_unset_macros() -> None:
    """Raises InputError for macros that settings refer to and nothing sets, such as records."""
    settings = _STRING.sub("''", gin.config_str())
    unset = sorted(set(_MACRO_USED.findall(settings)) - set(_MACRO_SET.findall(settings)))
    if unset:
        raise InputError(
            f"gin settings: expected a value of {' and of '.join(unset)}, which other settings "
            f'refer to, found none; give it with --gin_param="{unset[0]} = ..."'
        )


def _refuse_unused_macros() -> None:
    """Raises InputError for a macro that no setting refers to: a name that was misspelt.

    Gin takes `outputstride = 8` for the definition of a macro, and says nothing.
    """
    settings = gin.config_str()
    used = sorted(set(_MACRO_USED.findall(settings)))
    for name in _MACRO_SET.findall(settings):
        if name not in used:
            near = difflib.get_close_matches(name, used)
            near += re.findall(rf"^(\w+\.{name}) =", settings, flags=re.M)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"there are {', '.join(used) or 'none'}"
            )
            raise InputError(
                f"gin settings: {name}: expected Part.setting, or a short name that other settings "
                f"refer to as %name, found one that none refers to; {hint}"
            )


def _parse_file(path: str, including: tuple[str, ...] = ()) -> None:
    """Parses a gin file and what it includes.

    Gin's own `include` would search Python packages, too. It takes our folder of gin files for one,
    which fails, and there is no public way to switch that off.
    """
    if path in including:
        raise InputError(f"gin settings ({path}): the file includes itself")
    with _parse_errors(path):
        lines = pathlib.Path(path).read_text().splitlines()
    begin = 0
    for number, line in enumerate(lines):
        include = _INCLUDE.fullmatch(line)
        if not include:
            continue
        _parse_lines(path, lines, begin, number)
        begin = number + 1
        with _parse_errors(f"{path}, line {begin}"):
            included = _find(include[2])
        _parse_file(included, (*including, path))
    _parse_lines(path, lines, begin, len(lines))


def _parse_lines(path: str, lines: list[str], begin: int, end: int) -> None:
    """Parses a part of a file; empty lines before it keep the numbers in messages right."""
    with _parse_errors(path):
        gin.parse_config("\n" * begin + "\n".join(lines[begin:end]))


@contextlib.contextmanager
def _parse_errors(where: str) -> Iterator[None]:
    """Turns what gin says about text that it cannot read into one sentence."""
    try:
        yield
    except (InputError, *_PARSE_ERRORS) as error:
        place = f" ({where})" if where else ""
        raise InputError(f"gin settings{place}: {_one_line(error)}") from error


def _find(name: str) -> str:
    """Returns the path of a gin file, looked up from here, then from the project root."""
    for folder in (pathlib.Path(), PROJECT_ROOT):
        if (folder / name).is_file():
            return str(folder / name)
    raise InputError(f"{name}: expected a gin file, found none here nor in {PROJECT_ROOT}")


def _one_line(error: Exception) -> str:
    """Returns what went wrong and in which line of the settings, as one line."""
    lines = _without_call_chain(error).splitlines()
    return " ".join(line.strip() for line in lines if line.strip())


def _without_call_chain(error: Exception) -> str:
    return str(error).split("\n  In call to configurable")[0]


def _innermost_configurable(error: Exception) -> str:
    """Returns the name of the configurable gin was calling when it raised `error`."""
    parts = str(error).split("In call to configurable '")
    return parts[1].split("'")[0] if len(parts) > 1 else "a configurable"

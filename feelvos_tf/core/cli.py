"""Starts the project's command-line programs and reports their errors.

A program looks like this. Slow imports, above all TensorFlow, belong inside `main`, so that
`--help` and wrong flags are answered at once and `run` can still choose TensorFlow's settings.

    _FLAGS = cli.flag_values(__name__)
    _NAME = cli.FlagGroup(_FLAGS).string("name", "What it is.")

    def main():
        import tensorflow as tf
        ...

    if __name__ == "__main__":
        cli.run(main)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import importlib.abc
import importlib.util
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging

from feelvos_tf.core.errors import InputError

EXIT_INPUT_ERROR = 1
EXIT_INTERRUPTED = 130
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# Drops INFO lines and the line above the first of them, but not warnings.
_START_UP_LINES = "/^WARNING: All log messages before absl::InitializeLog/d; /^I[0-9]{4} /d"
_SECONDS_FOR_LAST_LINES = 1.0
_CPUINFO = pathlib.Path("/proc/cpuinfo")  # Only on Linux.
_HOME = re.compile(r"(?<=[=,:])~(?=/)")
_GROUPS = "__groups_of_flags"  # Attribute of FlagValues: title of a group -> names of flags.
flags.disclaim_key_flags()  # `FlagGroup` defines them for the module that calls it.


def flag_values(module: str) -> flags.FlagValues:
    """Returns the `FlagValues` in which a program, given its `__name__`, defines its flags.

    The running program uses the global flags. A program that is only imported has its own, so that
    two programs can have flags of the same name.
    """
    return flags.FLAGS if module == "__main__" else flags.FlagValues()


def run(main: Callable[[], None]) -> None:
    """Runs `main()` with absl flags; bad input becomes one line on stderr and exit code 1.

    Positional arguments are refused: every option is a named flag, and a forgotten `--` would
    otherwise be silently ignored.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # About large images and odd metadata.
    prepare_tensorflow()
    _show_own_flags_in_help(flags.FLAGS)

    app.run(functools.partial(call_main, main), flags_parser=parsed)


def parsed(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Parses the flags `values` and returns the other arguments.

    A wrong flag ends the process. So does --help, with exit code 0 (absl's would be 1). Paths below
    the home folder may begin with `~/`, which shells leave as it is inside an argument.
    """
    home = os.path.expanduser("~")
    argv = [_HOME.sub(lambda _: home, each) if each[:1] == "-" else each for each in argv]
    try:
        return values(argv)
    except flags.Error as error:
        _fail(f"{_in_english(error)} (--help lists the flags)", EXIT_INPUT_ERROR)
    except SystemExit:
        sys.exit(0)


def _in_english(error: flags.Error) -> str:
    """Returns absl's message, or a shorter one that names the missing flags."""
    missing = re.findall(r"Flag (--\w+) must have a value other than None", str(error))
    if not missing:
        return str(error)
    *others, last = missing
    return f"expected {', '.join(others)}{' and ' if others else ''}{last}"


def call_main(main: Callable[[], None], argv: list[str]) -> None:
    """Calls `main`; errors caused by the user or the machine end the process with one sentence.

    Args:
      main: the program's.
      argv: name of the program and positional arguments; the latter are refused.
    """
    # Libraries' log messages would bury what the user needs to read.
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.WARNING)
    try:
        if len(argv) > 1:
            raise InputError(f"unexpected argument {argv[1]!r}: options are given as --name=value")
        main()
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        _fail(sentence, EXIT_INPUT_ERROR)


def prepare_tensorflow() -> None:
    """Chooses TensorFlow's settings for a program before TensorFlow is imported.

    They apply to the whole process, so a program may choose them, but not a library. If TensorFlow
    is already imported, nothing is done: only child processes would see the settings.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        use_onednn_where_it_is_faster()
        import_quietly("tensorflow")


def use_onednn_where_it_is_faster() -> None:
    """Enables oneDNN's kernels on processors with AVX2; must precede TensorFlow's import.

    TensorFlow 2.15 uses them by default only with AVX512-VNNI. With AVX2 alone they make a frame a
    fifth faster. The user's own TF_ENABLE_ONEDNN_OPTS takes precedence.
    """
    if "avx2" in processor_flags():
        os.environ.setdefault(ONEDNN, "1")


def processor_flags() -> list[str]:
    """Returns the processor's feature flags, such as "avx2"; none if Linux does not list them."""
    return of_processor("flags").split()


def of_processor(field: str) -> str:
    """Returns a field of /proc/cpuinfo, such as "model name"; "" if there is none."""
    with contextlib.suppress(OSError):
        found = re.search(rf"^{field}\s*:(.*)$", _CPUINFO.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return ""


def import_quietly(name: str) -> None:
    """Drops the start-up lines of the first import of module `name`, wherever it happens.

    From TensorFlow 2.18 on, lines about oneDNN and missing GPUs are printed before
    TF_CPP_MIN_LOG_LEVEL takes effect, and bury what the user needs to read. The garbage collector
    is paused as well: it would take a tenth of TensorFlow's import time and free next to nothing.
    """

    class Finder:
        @staticmethod
        def find_spec(fullname: str, *_: object) -> ModuleSpec | None:
            if fullname != name:
                return None
            sys.meta_path.remove(Finder)
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.loader is not None:
                spec.loader.exec_module = functools.partial(_load_quietly, spec.loader)
            return spec

    if name not in sys.modules:
        sys.meta_path.insert(0, Finder)


def _load_quietly(loader: importlib.abc.Loader, module: ModuleType) -> None:
    del loader.exec_module  # Uncovers the method of its class.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with _without_start_up_lines():
            loader.exec_module(module)
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _without_start_up_lines() -> Iterator[None]:
    """Drops the start-up lines that this process, including its C++ libraries, writes to stderr.

    A separate process filters them, so that the last messages of a library that aborts get through.
    """
    sed = shutil.which("sed")
    if sed is None:
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    filtering = subprocess.Popen(
        [sed, "-u", "-E", _START_UP_LINES], stdin=subprocess.PIPE, stdout=stderr
    )
    os.dup2(filtering.stdin.fileno(), 2)
    filtering.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        # A child process started meanwhile may keep the pipe open; its lines still get through.
        with contextlib.suppress(subprocess.TimeoutExpired):
            filtering.wait(_SECONDS_FOR_LAST_LINES)


def count(number: int, things: str) -> str:
    """Returns e.g. "1 video" or "2 videos" for `things` = "videos"."""
    return f"{number} {things if number != 1 else things[:-1]}"


class FlagGroup:
    """Defines flags of a program that --help shows together.

    Each method takes a name, a help text, a default (None if omitted) and options of absl's
    `DEFINE_...` function of that kind, and returns what that function returns.

    Attributes:
      names: of the flags, in the order of their definition.
    """

    def __init__(self, values: flags.FlagValues, title: str | None = None):
        """Begins a group, or continues the one of this title.

        Args:
          values: the program's, see `flag_values`.
          title: of the group; None for the flags in no group.
        """
        self.names: list[str] = []
        self._values, self._title = values, title

    def _define(
        self, define: Callable, name: str, text: str, default: Any = None, **options: Any
    ) -> flags.FlagHolder:
        self.names.append(name)
        if self._title is not None:
            groups = self._values.__dict__.setdefault(_GROUPS, {})
            groups.setdefault(self._title, []).append(name)
        return define(name=name, default=default, help=text, flag_values=self._values, **options)

    string = functools.partialmethod(_define, flags.DEFINE_string)
    integer = functools.partialmethod(_define, flags.DEFINE_integer)
    floating = functools.partialmethod(_define, flags.DEFINE_float)
    boolean = functools.partialmethod(_define, flags.DEFINE_bool)
    enum = functools.partialmethod(_define, flags.DEFINE_enum)
    comma_list = functools.partialmethod(_define, flags.DEFINE_list)
    multi_string = functools.partialmethod(_define, flags.DEFINE_multi_string)


def _show_own_flags_in_help(values: flags.FlagValues) -> None:
    """Makes --help show the flags that our modules define for the program, in their groups."""
    own = {
        flag.name
        for module, defined in values.flags_by_module_dict().items()
        if module.startswith("feelvos_tf.") or module == sys.argv[0]
        for flag in defined
    }
    groups = values.__dict__.get(_GROUPS, {})
    grouped = {name for names in groups.values() for name in names}
    others = sorted(own - grouped)
    groups = {**groups, ("More" if groups else "Flags"): others}

    def text() -> str:
        parts = [
            "\n".join([f"{title}:", *(_help_of(values[name]) for name in names)])
            for title, names in groups.items()
            if names
        ]
        return "\n\n".join(parts)

    # absl calls it for --help.
    values.__dict__["main_module_help"] = text


def _help_of(flag: flags.Flag) -> str:
    """Returns the lines of one flag in --help."""
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    default = "" if flag.default in (None, False, [], "") else f" (default: {flag.default})"
    text = re.sub(r";\s+repeat this option.*", " May be repeated.", flag.help)  # absl's wording.
    lines = textwrap.wrap(f"{name}: {text}{default}", 98)
    return "\n".join([f"  {lines[0]}", *(f"      {line}" for line in lines[1:])])


def _sentence(error: Exception) -> str | None:
    """Returns one sentence for bad input or a lack of memory or disk space, None for a bug."""
    if isinstance(error, InputError):
        return str(error)
    # TensorFlow's errors are recognized by name, so that it need not be imported.
    from_tensorflow = type(error).__module__.startswith("tensorflow.")
    if isinstance(error, MemoryError) or (from_tensorflow and "OOM when" in str(error)):
        found = re.search(r"shape\s*\[[\d,]*\]", str(error))
        what = f" (no room for a tensor of {found[0]})" if found else ""
        return f"out of memory{what}; see Troubleshooting in README.md for what needs less"
    if getattr(error, "errno", None) == errno.ENOSPC or (
        from_tensorflow and os.strerror(errno.ENOSPC) in str(error)
    ):
        # In TensorFlow's messages, a semicolon follows the file.
        found = re.search(r"(\S+); ", str(error))
        file = getattr(error, "filename", None) or (found[1] if found else "output")
        return f"no space left on the disk while writing {file}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return None


def _fail(message: str, code: int) -> NoReturn:
    # File names may contain line breaks and terminal escape sequences.
    printable = "".join(c if c.isprintable() else " " for c in message)
    print(f"error: {printable}", file=sys.stderr)
    sys.exit(code)

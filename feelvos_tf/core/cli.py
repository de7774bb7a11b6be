"""How every command-line program of the project starts and fails."""

import errno
import logging
import sys
from collections.abc import Callable

from absl import app, flags

from feelvos_tf.core.errors import InputError

EXIT_INPUT_ERROR = 1
EXIT_INTERRUPTED = 130


def flag_values(module: str) -> flags.FlagValues:
    """Returns where a program defines its flags, given its `__name__`.

    The program that runs uses the global flags. A program that another module merely imports keeps
    its flags to itself, so that two programs can have flags of the same name.
    """
    return flags.FLAGS if module == "__main__" else flags.FlagValues()


def run(main: Callable[[list[str]], None]) -> None:
    """Runs `main(argv)` under absl flags; bad input becomes one line on stderr and exit code 1.

    Positional arguments are refused: every option of the project is a named flag, and a forgotten
    `--` would otherwise be ignored silently.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)

    def guarded(argv: list[str]) -> None:
        try:
            if len(argv) > 1:
                raise InputError(
                    f"unexpected argument {argv[1]!r}: options are given as --name=value"
                )
            main(argv)
        except InputError as error:
            _fail(str(error), EXIT_INPUT_ERROR)
        except OSError as error:
            _fail(_describe(error), EXIT_INPUT_ERROR)
        except KeyboardInterrupt:
            _fail("interrupted", EXIT_INTERRUPTED)

    app.run(guarded)


def _describe(error: OSError) -> str:
    """Returns one sentence for an operating-system error."""
    if error.errno == errno.ENOSPC:
        return f"no space left on the disk while writing {error.filename or 'output'}"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)

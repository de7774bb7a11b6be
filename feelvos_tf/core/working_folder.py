"""A folder for one process to work in, emptied of what a killed one left there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from feelvos_tf.core.errors import InputError


@contextlib.contextmanager
def only_process(
    folder: pathlib.Path, in_use: str, goes_on: Callable[[], bool] | None = None
) -> Iterator[None]:
    """Makes `folder`, empty, for this process alone; it is removed when the block ends.

    The operating system gives the lock back when the process ends, however it ends.

    Args:
      folder: made if need be.
      in_use: the sentence where another process has it.
      goes_on: whether what is in it is of use to the block; it then stays, also for the next time
        when the block is interrupted by Ctrl-C.

    Raises:
      InputError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, in_use)
        try:
            if goes_on is None or not goes_on():
                for entry in folder.iterdir():
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            yield
        except KeyboardInterrupt:
            if goes_on is None:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        else:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _lock(handle: int, in_use: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems know no locks of folders; one process works there, too.
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise InputError(in_use) from None

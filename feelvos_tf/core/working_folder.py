"""A folder for one process to work in, emptied of what a killed one left there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

from feelvos_tf.core.errors import InputError


@contextlib.contextmanager
def only_process(folder: pathlib.Path, in_use: str) -> Iterator[None]:
    """Makes `folder`, empty, for this process alone; it is removed when the block ends.

    Args:
      folder: made if need be.
      in_use: the sentence where another process has it.

    Raises:
      InputError: another process has it.
    """
    with locked(folder, in_use):
        try:
            empty(folder)
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: pathlib.Path, in_use: str) -> Iterator[None]:
    """Makes `folder`, where it is not there, and keeps it for this process alone in the block.

    The operating system gives the lock back when the process ends, however it ends.

    Args:
      folder: made if need be; it may be renamed or removed in the block.
      in_use: the sentence where another process has it.

    Raises:
      InputError: another process has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written, {error.strerror or error}") from error
    try:
        lock(handle, in_use)
        yield
    finally:
        os.close(handle)


def empty(folder: pathlib.Path) -> None:
    """Removes what is in a folder; links are removed, not followed."""
    for entry in folder.iterdir():
        is_folder = entry.is_dir() and not entry.is_symlink()
        shutil.rmtree(entry) if is_folder else entry.unlink()


def lock(handle: int, in_use: str) -> None:
    """Locks an open file or folder until it is closed, at the latest by the end of the process.

    Args:
      handle: its descriptor.
      in_use: the sentence where another process has it.

    Raises:
      InputError: another process has it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems know no locks; one process works there, too.
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise InputError(in_use) from None

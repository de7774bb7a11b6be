"""A folder for one process at a time, cleared of the leftovers of killed processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError


@contextlib.contextmanager
def locked(folder: pathlib.Path, in_use: str) -> Iterator[None]:
    """Locks `folder` for this process until the block ends.

    The operating system releases the lock when the process ends, for whatever reason.

    Args:
      folder: created if necessary; the block may rename or remove it.
      in_use: the message if another process holds it.

    Raises:
      InputError: another process holds it, or it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise atomic_files.refusal(folder, error) from error
    try:
        lock(handle, in_use)
        yield
    finally:
        os.close(handle)


def empty(folder: pathlib.Path) -> None:
    """Removes the contents of a folder; links are removed, not followed."""
    for entry in folder.iterdir():
        is_folder = entry.is_dir() and not entry.is_symlink()
        shutil.rmtree(entry) if is_folder else entry.unlink()


def lock(handle: int, in_use: str) -> None:
    """Locks an open file or folder until it is closed or the process ends.

    Args:
      handle: its descriptor.
      in_use: the message if another process holds it.

    Raises:
      InputError: another process holds it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks; a single process still works there.
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise InputError(in_use) from None

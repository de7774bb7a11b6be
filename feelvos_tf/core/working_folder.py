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
def locked(
    folder: pathlib.Path,
    in_use: str,
    lock_file: str | None = None,
    named: pathlib.Path | None = None,
) -> Iterator[None]:
    """Locks `folder` for this process until the block ends.

    The operating system releases the lock when the process ends, for whatever reason.

    Args:
      folder: created if necessary; the block may rename or remove it.
      in_use: the message if another process holds it.
      lock_file: name of a file in it to lock in its place, because the network file systems that
        several machines share cannot lock folders.
      named: what to name if it cannot be created, where users do not know of `folder`.

    Raises:
      InputError: another process holds it, or it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if lock_file is None:
            handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        else:
            handle = os.open(folder / lock_file, os.O_CREAT | os.O_WRONLY, 0o666)
    except OSError as error:
        raise atomic_files.refusal(named or folder, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems have no locks; a single process still works there.
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(in_use) from None
        yield
    finally:
        os.close(handle)


def empty(folder: pathlib.Path) -> None:
    """Removes the contents of a folder; links are removed, not followed."""
    for entry in folder.iterdir():
        is_folder = entry.is_dir() and not entry.is_symlink()
        shutil.rmtree(entry) if is_folder else entry.unlink()

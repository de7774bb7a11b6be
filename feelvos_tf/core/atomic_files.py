"""Writes files and folders atomically: they appear complete or not at all.

Temporary files and folders of a killed process are removed by the next one that writes to the same
folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator

from feelvos_tf.core.errors import InputError, first_line

_REFUSALS = {
    errno.EACCES: "the folder is not writable",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
}
# On a shared disk, locks held by another machine may be invisible.
_MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
_TEMPORARY = re.compile(rf"\..*\.writing-{_MACHINE}-[0-9a-f]{{8}}(\.[^.]*)?", re.DOTALL)
_cleared: set[pathlib.Path] = set()  # Folders without leftovers.


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path next to `path` that replaces it when the block succeeds.

    Readers never see a partial file, and a failing block leaves the old file unchanged. Parent
    folders are created.

    Args:
      path: the file to write. The temporary name keeps its suffix, from which many writers infer
        the format.

    Raises:
      InputError: the folder cannot be written to, the path is a folder, or the disk is full.
    """
    target = pathlib.Path(path)
    if os.path.isdir(target):
        raise InputError(f"{target}: expected a file to write, found a folder; name one in it")
    with _temporary_beside(target) as temporary:
        yield temporary
        temporary.replace(target)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file atomically; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path, which becomes the folder `path` when the block succeeds.

    The block creates the folder there. If it fails, nothing is left.

    Raises:
      InputError: `path` exists or cannot be written to, or the disk is full.
    """
    target = pathlib.Path(path)
    check_new(target)
    # Folders cannot be locked everywhere; the lock is a file beside it.
    with _temporary_beside(target) as lock:
        temporary = _folder_of(lock)
        try:
            yield temporary
            os.replace(temporary, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                check_new(target)  # Another process was faster.
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_new(path: str | os.PathLike[str]) -> None:
    """Raises InputError if `path` exists."""
    if os.path.exists(path):
        raise InputError(f"{path}: expected a folder that does not exist yet, found one")


@contextlib.contextmanager
def _temporary_beside(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new, locked file beside `target`, which is removed or renamed in the end.

    Parent folders are created, and what killed processes left there is removed. A full disk in the
    block is an InputError.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(target.parent)
        temporary, handle = _create_temporary(target)
    except OSError as error:
        raise refusal(target, error) from error
    try:
        yield temporary
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise refusal(target, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _folder_of(lock: pathlib.Path) -> pathlib.Path:
    """Returns the temporary folder that a temporary file locks, if it locks one."""
    return lock.with_name(f"{lock.name}-folder")


def _remove_left_behind(folder: pathlib.Path) -> None:
    """Removes temporary files and folders that no process has locked, once per folder."""
    if folder in _cleared:
        return
    _cleared.add(folder)
    for path in folder.glob(".*.writing-*"):
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(_folder_of(path), ignore_errors=True)
                    path.unlink()
                finally:
                    os.close(handle)


def _create_temporary(target: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Returns a new empty file with a random name, and a handle that locks it until closed.

    Unlike `tempfile`'s, it has the permissions that the user's umask gives to any new file. (The
    umask can only be read by changing it briefly, which affects other threads.)
    """
    while True:
        unique = f"writing-{_MACHINE}-{secrets.token_hex(4)}"
        path = target.with_name(f".{target.stem}.{unique}{target.suffix}")
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            continue
        with contextlib.suppress(OSError):  # Some network file systems have no locks.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path, handle


def refusal(target: pathlib.Path, error: Exception) -> InputError:
    """Returns the error to raise for a file or folder that cannot be written.

    Args:
      target: the file or folder.
      error: an OSError or TensorFlow's equivalent.
    """
    number = getattr(error, "errno", None)
    if os.strerror(errno.ENOSPC) in str(error):  # TensorFlow's errors have no errno.
        number = errno.ENOSPC
    reason = _REFUSALS.get(number) or getattr(error, "strerror", None) or first_line(error)
    return InputError(f"{target}: cannot be written, {reason}")

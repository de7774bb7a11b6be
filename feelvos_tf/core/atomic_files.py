"""Writes files atomically: they appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import secrets
from collections.abc import Iterator

from feelvos_tf.core.errors import InputError

_REFUSALS = {
    errno.EACCES: "the folder may not be written to",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path` that replaces it when the block succeeds.

    A reader never sees half a file, and a block that fails leaves the old file as it was. Parent
    folders are created.

    Args:
      path: the file to write. The temporary name keeps its suffix, from which many writers infer
        the format.

    Raises:
      InputError: the folder cannot be written to, or the disk is full.
    """
    target = pathlib.Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _create_beside(target)
    except OSError as error:
        raise refusal(target, error) from error
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.errno in _FULL:
            raise refusal(target, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _create_beside(target: pathlib.Path) -> pathlib.Path:
    """Returns a new empty file with a random name.

    Unlike those of `tempfile` it has the permissions that the user's umask gives to any new file.
    (The umask can be read only by changing it for a moment, which affects other threads.)
    """
    while True:
        path = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        return path


def refusal(target: pathlib.Path, error: Exception) -> InputError:
    """Returns the error to raise if something cannot be written.

    Args:
      target: the file or folder.
      error: an OSError or TensorFlow's equivalent.
    """
    number = getattr(error, "errno", None)
    if os.strerror(errno.ENOSPC) in str(error):  # TensorFlow's errors have no number.
        number = errno.ENOSPC
    reason = _REFUSALS.get(number)
    if reason is None:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
    return InputError(f"{target}: cannot be written, {reason}")

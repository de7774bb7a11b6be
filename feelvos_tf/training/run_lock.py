"""Keeps a second training process out of a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from feelvos_tf.core.errors import InputError

_LOCK_FILE = ".training.lock"


@contextlib.contextmanager
def only_process(model_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other training processes out of a folder, which is made if need be, inside the block.

    The operating system gives the lock back when the process ends, however it ends.

    Raises:
      InputError: another process is training there.
    """
    folder = pathlib.Path(model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _LOCK_FILE, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process is training in this folder; wait for its end or "
                "choose another --model_dir"
            ) from error
        yield

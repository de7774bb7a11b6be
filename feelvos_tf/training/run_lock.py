"""Keeps a second training process out of a folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from feelvos_tf.core import atomic_files, working_folder

# A file, not the folder: the file systems of a network, on which several machines train, lock none.
_LOCK_FILE = ".training.lock"


@contextlib.contextmanager
def only_process(model_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other training processes out of a folder, which is made if need be, inside the block.

    The operating system gives the lock back when the process ends, however it ends.

    Raises:
      InputError: another process is training there, or the folder cannot be written to.
    """
    folder = pathlib.Path(model_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / _LOCK_FILE, os.O_CREAT | os.O_WRONLY, 0o666)
    except OSError as error:
        raise atomic_files.refusal(folder, error) from error
    try:
        working_folder.lock(
            handle,
            f"{folder}: another process is training in this folder; wait for its end or choose "
            "another --model_dir",
        )
        yield
    finally:
        os.close(handle)

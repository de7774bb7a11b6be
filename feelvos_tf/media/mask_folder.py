"""Writes folders of predicted masks that appear whole, with a stamp that tells what made them.

OUT/<sequence>/
  00000.png ...       the masks
  prediction.json     the stamp: settings, names of the masks, whether all are there
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError

STAMP = "prediction.json"


def is_complete(folder: pathlib.Path, settings: dict[str, Any]) -> bool:
    """Returns whether the folder holds every mask of a run with exactly these settings."""
    stamp = _read_stamp(folder)
    return (
        stamp.get("complete") is True
        and stamp.get("settings") == settings
        and all((folder / f"{name}.png").is_file() for name in stamp["masks"])
    )


def check_replaceable(folder: pathlib.Path) -> None:
    """Raises InputError where the folder holds files but no stamp: they are not ours to replace."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder to write masks to, found a file")
    # Hidden files are another output on its way, or what systems leave in every folder.
    visible = folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
    if visible and not _read_stamp(folder):
        raise InputError(
            f"{folder} holds files that are no earlier prediction; choose another output folder "
            "or move them away"
        )


@contextlib.contextmanager
def replacing(folder: pathlib.Path, settings: dict[str, Any]) -> Iterator[pathlib.Path]:
    """Yields a temporary folder beside `folder` that takes its place when the block ends well.

    What an interrupted run left in it is removed. Of an earlier prediction in `folder` only the
    masks and the stamp are replaced; files somebody else put there stay.

    Args:
      folder: where the masks belong. See `check_replaceable`.
      settings: what made the masks, JSON values; `is_complete` compares them.

    Raises:
      InputError: the folder is not ours to replace, or another process is writing to it.
    """
    check_replaceable(folder)
    folder = folder.resolve()
    temporary = folder.with_name(f".{folder.name}.partial")
    with _locked(temporary, folder):
        try:
            yield temporary
            names = sorted(path.stem for path in temporary.glob("*.png"))
            _write_stamp(temporary, {"complete": True, "settings": settings, "masks": names})
            if folder.is_dir() and any(folder.iterdir()):
                _replace_contents(folder, temporary)
            else:
                temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _locked(temporary: pathlib.Path, folder: pathlib.Path) -> Iterator[None]:
    """Makes the temporary folder, empty, for this process alone; the lock ends with the process.

    Raises:
      InputError: another process has it.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    handle = os.open(temporary, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems know no locks of folders; one process works there, too.
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(
                    f"{folder}: another process is writing masks there; wait for it, or choose "
                    "another output folder"
                ) from None
        for entry in temporary.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        yield
    finally:
        os.close(handle)


def _replace_contents(folder: pathlib.Path, temporary: pathlib.Path) -> None:
    """Moves masks and stamp from `temporary` over the earlier prediction in `folder`."""
    earlier = _read_stamp(folder).get("masks", [])
    new = _read_stamp(temporary)["masks"]
    # All these files are marked as ours but incomplete, in case the machine stops half way.
    _write_stamp(folder, {"complete": False, "masks": sorted({*earlier, *new})})
    for name in earlier:
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name in new:
        (temporary / f"{name}.png").replace(folder / f"{name}.png")
    (temporary / STAMP).replace(folder / STAMP)


def _read_stamp(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the folder's stamp, empty where there is none that can be used."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    names = stamp.get("masks") if isinstance(stamp, dict) else None
    if not isinstance(names, list) or not all(map(_is_file_name, names)):
        return {}
    return stamp


def _is_file_name(name: Any) -> bool:
    """Returns whether `name` is the name of a file in this folder, and leads nowhere else."""
    return isinstance(name, str) and name.isprintable() and pathlib.PurePath(name).name == name


def _write_stamp(folder: pathlib.Path, stamp: dict[str, Any]) -> None:
    with atomic_files.replacing(folder / STAMP) as temporary:
        temporary.write_text(json.dumps(stamp, indent=1) + "\n")

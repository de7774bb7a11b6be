"""Writes folders of predicted masks atomically, with a stamp that records how they were made.

OUT/<sequence>/
  00000.png ...       the masks
  prediction.json     the stamp: settings, names and checksums of the masks and of files written
                      with them, and whether the folder is complete

Until it is complete, the folder is called OUT/<sequence>.partial; an interrupted run resumes there
from the state of the video saved in `state.npz`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from feelvos_tf.core import atomic_files, whole_files, working_folder
from feelvos_tf.core.errors import InputError

STAMP = "prediction.json"
STATE = "state.npz"
_POSITION = "position"


def is_complete(folder: pathlib.Path, settings: dict[str, Any]) -> bool:
    """Returns whether the folder holds all masks of a run with these settings, unchanged."""
    stamp = _read_stamp(folder)
    if stamp.get("complete") is not True or stamp.get("settings") != settings:
        return False
    return _are_unchanged(folder, {f"{name}.png": d for name, d in stamp["masks"].items()})


def has_files(folder: pathlib.Path, kind: str, paths: Iterable[pathlib.Path]) -> bool:
    """Returns whether the files of a kind, `paths` among them, are as `note_files` saw them."""
    digests = _read_stamp(folder).get("files", {}).get(kind, {})
    names = {os.path.relpath(path, folder) for path in paths}
    return bool(digests) and names <= digests.keys() and _are_unchanged(folder, digests)


def note_files(folder: pathlib.Path, kind: str, paths: Iterable[pathlib.Path]) -> None:
    """Records that all files of a kind were written for the complete masks in the folder."""
    stamp = _read_stamp(folder)
    if not stamp:
        return
    digests = {os.path.relpath(path, folder): _digest(path) for path in paths}
    _write_stamp(folder, {**stamp, "files": {**stamp.get("files", {}), kind: digests}})


def is_prediction(folder: pathlib.Path) -> bool:
    """Returns whether the folder has a stamp, that is, was written by a run."""
    return bool(_read_stamp(folder))


def check_replaceable(folder: pathlib.Path) -> None:
    """Raises InputError if the folder holds files but no stamp: those must not be replaced."""
    for path in (folder, partial(folder)):
        if path.is_symlink() and path != folder:
            raise InputError(f"{path}: expected a folder to write masks to, found a link")
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: expected a folder to write masks to, found a file")
        # Hidden files are unfinished output, or left by the operating system in every folder.
        visible = path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir())
        if visible and not _read_stamp(path):
            raise InputError(
                f"{path} holds files that are not an earlier prediction; choose another output "
                "folder or move them away"
            )


def partial(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder that holds the masks until all are written.

    Raises:
      InputError: the path is a loop of links.
    """
    folder = _resolved(folder)
    return folder.with_name(f"{folder.name}.partial")


@contextlib.contextmanager
def replacing(
    folder: pathlib.Path, settings: dict[str, Any], start_over: bool = False
) -> Iterator[pathlib.Path]:
    """Yields the partial folder, which replaces `folder` when the block succeeds.

    The partial folder keeps what an interrupted run with the same settings left; otherwise it is
    empty. If the block fails, the folder stays, marked as incomplete, with the masks so far.

    Of an earlier prediction in `folder`, the masks and the stamp are replaced, and the files noted
    with them (`note_files`) are removed; other files stay.

    Args:
      folder: where the masks belong. See `check_replaceable`.
      settings: of the run, JSON values; `is_complete` compares them.
      start_over: discard the results of an interrupted run.

    Raises:
      InputError: the folder must not be replaced, or another process is writing to it.
    """
    check_replaceable(folder)
    folder, working = _resolved(folder), partial(folder)
    in_use = (
        f"{folder}: another process is writing masks there; wait for it, or choose another output "
        "folder"
    )
    with working_folder.locked(working, in_use):
        if start_over or _read_stamp(working).get("settings") != settings:
            working_folder.empty(working)
        _write_stamp(working, {"complete": False, "settings": settings, "masks": {}})
        try:
            yield working
        except BaseException:
            if not any(working.glob("*.png")):
                shutil.rmtree(working)
            raise
        digests = {path.stem: _digest(path) for path in sorted(working.glob("*.png"))}
        (working / STATE).unlink(missing_ok=True)
        _write_stamp(working, {"complete": True, "settings": settings, "masks": digests})
        if folder.is_dir() and any(folder.iterdir()):
            _replace_contents(folder, working)
            shutil.rmtree(working)
        else:
            working.replace(folder)


def _resolved(folder: pathlib.Path) -> pathlib.Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError) as error:
        raise atomic_files.refusal(folder, error) from error


def save_state(working: pathlib.Path, position: int, arrays: dict[str, np.ndarray]) -> None:
    """Saves the state of a video in its partial folder, replacing an earlier one.

    Args:
      working: the folder.
      position: of the frame after which this is the state; the folder holds the masks up to it.
      arrays: name -> array of the state.
    """
    with atomic_files.replacing(working / STATE) as temporary:
        np.savez(temporary, **{_POSITION: np.array(position)}, **arrays)


def load_state(working: pathlib.Path) -> tuple[int, dict[str, np.ndarray]] | None:
    """Returns position and arrays of `save_state`; None if they are missing or corrupt."""
    try:
        arrays = whole_files.read_npz(working / STATE, "the state of a video")
        return int(arrays.pop(_POSITION)), arrays
    except (InputError, KeyError, ValueError, TypeError):
        return None


def _replace_contents(folder: pathlib.Path, temporary: pathlib.Path) -> None:
    """Moves masks and stamp from `temporary` over the earlier prediction in `folder`."""
    stamp = _read_stamp(folder)
    earlier, new = stamp.get("masks", {}), _read_stamp(temporary)["masks"]
    files = [f"{name}.png" for name in earlier]
    files += filter(_is_file_name, itertools.chain(*stamp.get("files", {}).values()))
    # Marks all these files as ours but incomplete, in case the process is killed halfway.
    _write_stamp(folder, {"complete": False, "masks": {**earlier, **new}})
    for name in files:
        (folder / name).unlink(missing_ok=True)
    for name in new:
        (temporary / f"{name}.png").replace(folder / f"{name}.png")
    (temporary / STAMP).replace(folder / STAMP)


def _read_stamp(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the folder's stamp; empty if it is missing or corrupt."""
    try:
        stamp = whole_files.read_json(folder / STAMP, "a stamp")
    except InputError:
        return {}
    names = stamp.get("masks") if isinstance(stamp, dict) else None
    files = stamp.get("files", {}) if isinstance(stamp, dict) else None
    has_names = isinstance(names, dict) and all(map(_is_file_name, names))
    has_files = isinstance(files, dict) and all(isinstance(n, dict) for n in files.values())
    return stamp if has_names and has_files else {}


def _is_file_name(name: Any) -> bool:
    """Returns whether `name` is the name of a file in this very folder."""
    try:
        return b"\0" not in os.fsencode(name) and pathlib.PurePath(name).name == name
    except (TypeError, UnicodeEncodeError):
        return False


def _are_unchanged(folder: pathlib.Path, digests: dict[str, str | None]) -> bool:
    """Returns whether the files, name -> digest, are those that were written."""
    return all(value and _digest(folder / name) == value for name, value in digests.items())


def _digest(path: pathlib.Path) -> str | None:
    """Returns 16 hexadecimal digits of a file's SHA-256; None if it cannot be read."""
    try:
        return whole_files.sha256_of(path)[:16] if path.is_file() else None
    except (OSError, ValueError):
        return None


def _write_stamp(folder: pathlib.Path, stamp: dict[str, Any]) -> None:
    atomic_files.write_text(folder / STAMP, json.dumps(stamp, indent=1) + "\n")

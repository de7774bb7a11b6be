"""Folders of predicted masks that appear whole, know what made them, and never hide other files.

OUT/<sequence>/
  00000.png ...       the masks
  prediction.json     the stamp: settings, names of the masks, whether all are there
"""

from __future__ import annotations

import contextlib
import json
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
    if folder.is_dir() and any(folder.iterdir()) and not _read_stamp(folder):
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
    """
    check_replaceable(folder)
    folder = folder.resolve()
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
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


def _replace_contents(folder: pathlib.Path, temporary: pathlib.Path) -> None:
    """Moves masks and stamp from `temporary` over the earlier prediction in `folder`."""
    earlier = _read_stamp(folder)["masks"]
    new = _read_stamp(temporary)["masks"]
    # All these files are marked as ours but incomplete, in case the machine stops half way.
    _write_stamp(folder, {"complete": False, "masks": sorted({*earlier, *new})})
    for name in earlier:
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name in new:
        (temporary / f"{name}.png").replace(folder / f"{name}.png")
    (temporary / STAMP).replace(folder / STAMP)


def _read_stamp(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the folder's stamp, empty where there is none that can be read."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and isinstance(stamp.get("masks"), list) else {}


def _write_stamp(folder: pathlib.Path, stamp: dict[str, Any]) -> None:
    with atomic_files.replacing(folder / STAMP) as temporary:
        temporary.write_text(json.dumps(stamp, indent=1) + "\n")

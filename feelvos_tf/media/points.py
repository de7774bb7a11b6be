"""Reads clicks and boxes on the objects of a video from JSON.

    [{"object_id": 1, "points": [[420, 180], [300, 240]], "labels": [1, 0]},
     {"object_id": 2, "frame": 30, "box": [10, 20, 200, 220]}]

Points are x, y in pixels of the frame, with label 1 on the object and 0 outside it; by default all
are on it. A box is left, top, right, bottom. `frame` counts from 0; by default it is the first one
that is used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from feelvos_tf.core import whole_files
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError

_WHAT = "clicks on objects as JSON"
_KEYS = {"object_id", "frame", "points", "labels", "box"}


class Marks(NamedTuple):
    """Marks of one object in a frame.

    Attributes:
      frame: number of the frame.
      object_id: 1..254.
      points: (x, y) in pixels, float32 [n, 2].
      labels: int32 [n], 1 on the object, 0 outside it.
      box: (left, top, right, bottom), float32 [4], or None.
    """

    frame: int
    object_id: int
    points: np.ndarray
    labels: np.ndarray
    box: np.ndarray | None


def read(path: str | os.PathLike[str], first_frame: int = 0) -> list[Marks]:
    """Returns the marks of a file, in its order.

    Args:
      path: the file.
      first_frame: the frame of entries that name none.

    Raises:
      InputError: the file is not such JSON, or marks an object twice in a frame.
    """
    entries = whole_files.read_json(path, _WHAT)
    if not isinstance(entries, list) or not entries:
        found = f"a single {entries!r:.40}" if entries != [] else "an empty one"
        raise InputError(f"{path}: expected a list of objects with points or a box, found {found}")
    found = [
        parsed(f"{path}, object {n}", entry, first_frame) for n, entry in enumerate(entries, 1)
    ]
    places = [marks[:2] for marks in found]
    for frame, object_id in places:
        if places.count((frame, object_id)) > 1:
            raise InputError(
                f"{path}: expected one entry for object {object_id} in frame {frame}, found two"
            )
    return found


def parsed(where: str, entry: Any, first_frame: int = 0) -> Marks:
    """Returns one entry of the list.

    Args:
      where: the entry's origin, for error messages.
      entry: parsed JSON.
      first_frame: its frame if it names none.

    Raises:
      InputError: the entry does not have that form.
    """
    wrong = sorted(set(entry) - _KEYS) if isinstance(entry, Mapping) else [entry]
    if wrong:
        raise InputError(
            f"{where}: expected the keys {', '.join(sorted(_KEYS))} only, found {wrong[0]!r:.40}"
        )
    points = numbers(f"{where}: points", entry.get("points", []), (-1, 2))
    labels = signs(f"{where}: labels", entry.get("labels", [1] * len(points)), len(points))
    box = entry.get("box")
    box = None if box is None else numbers(f"{where}: box", box, (4,))
    frame = _integer(f"{where}: frame", entry.get("frame", first_frame), 0, 10**9)
    object_id = _integer(f"{where}: object_id", entry.get("object_id"), 1, VOID - 1)
    return Marks(frame, object_id, points, labels, box)


def signs(what: str, labels: Any, count: int) -> np.ndarray:
    """Returns the labels of `count` points, int32 [count]. Raises InputError for other values."""
    labels = numbers(what, labels, (count,))
    others = labels[~np.isin(labels, [0, 1])]
    if others.size:
        raise InputError(
            f"{what}: expected labels of 1 (on the object) and 0 (outside it), found {others[0]:g}"
        )
    return labels.astype(np.int32)


def numbers(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a float32 array of the given shape, in which -1 stands for any length.

    Raises:
      InputError: `value`, called `what` in the message, is not such an array.
    """
    wanted = ", ".join("n" if size < 0 else str(size) for size in shape)
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what}: expected [{wanted}] numbers ({error})") from error
    array = array if array.size else array.reshape(0, *shape[1:])
    if not np.isfinite(array).all():
        raise InputError(
            f"{what}: expected finite numbers, found {array[~np.isfinite(array)][0]:g}"
        )
    lengths = zip(shape, array.shape)
    if array.ndim != len(shape) or any(want not in (-1, found) for want, found in lengths):
        raise InputError(f"{what}: expected [{wanted}] numbers, found {list(array.shape)}")
    return array


def _integer(what: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{what}: expected a whole number, {least} to {most}, found {value!r}")
    return value

"""Turns a file of clicks and boxes into masks of a video's frames."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.prompt import Prompter
from feelvos_tf.media import masks, points, video
from feelvos_tf.media.points import Marks


def write(
    path: str | os.PathLike[str],
    source: video.Frames,
    prompter: Prompter,
    folder: str | os.PathLike[str],
) -> dict[int, pathlib.Path]:
    """Writes the masks and returns them: number of a frame -> file of its ids.

    Args:
      path: the file, see `points.read`.
      source: the video.
      prompter: makes the masks.
      folder: where to write the masks.

    Raises:
      InputError: the file is invalid, or an object is not found.
    """
    marked: dict[int, list[Marks]] = {}
    for each in points.read(path):
        marked.setdefault(each.frame, []).append(each)
    written = {}
    for frame in source.timed(end=max(marked) + 1):
        if frame.number in marked:
            ids = _ids(path, prompter, frame.image, marked[frame.number])
            written[frame.number] = pathlib.Path(folder, f"{frame.number:05d}.png")
            masks.write_mask(written[frame.number], ids)
    missing = sorted(set(marked) - set(written))
    if missing:
        raise InputError(f"{path}: expected frames of the video, found frame {missing[0]}")
    return written


def _ids(
    path: str | os.PathLike[str], prompter: Prompter, image: np.ndarray, marked: Sequence[Marks]
) -> np.ndarray:
    """Returns the ids of a frame, uint8 [height, width]; on overlaps, the first object wins."""
    ids = np.zeros(image.shape[:2], np.uint8)
    for each in marked:
        where = f"{path}: object {each.object_id} in frame {each.frame}"
        try:
            found = prompter(image, each.points, each.labels, each.box)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        ids = np.where((found == 1) & (ids == 0), np.uint8(each.object_id), ids)
        if each.object_id not in ids:
            raise InputError(f"{where}: nothing was found there: add points, or give a mask")
    return ids

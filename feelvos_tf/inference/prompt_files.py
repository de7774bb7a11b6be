"""Turns a file of clicks and boxes into masks of a video's frames, and into later corrections.

Masks of new objects, and those from boxes, are made before the video is propagated. Points on an
object that is already followed correct its propagated mask, which is known only then.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import prompt
from feelvos_tf.inference.prompt import Prompter
from feelvos_tf.media import masks, points, video
from feelvos_tf.media.points import Marks
from feelvos_tf.media.selection import Selection


def write(
    path: str | os.PathLike[str],
    source: video.Frames,
    selection: Selection,
    prompter: Prompter,
    folder: str | os.PathLike[str],
) -> tuple[dict[int, pathlib.Path], dict[int, list[Marks]]]:
    """Writes the masks and returns them: number of a frame -> file of its ids.

    Also returns the corrections: number of a frame -> marks for `take_marks`, at the size of the
    selection.

    Args:
      path: the file, see `points.read`.
      source: the video.
      selection: the frames to use; entries that name no frame are for its first.
      prompter: makes the masks.
      folder: where to write the masks.

    Raises:
      InputError: the file is invalid, a frame is not selected, or an object is not found.
    """
    marked: dict[int, list[Marks]] = {}
    for each in points.read(path, selection.start):
        if selection.position(each.frame) is None:
            raise InputError(
                f"{path}: expected marks in selected frames, found some in frame {each.frame}"
            )
        marked.setdefault(each.frame, []).append(each)
    written, corrections, followed, seen = {}, {}, set(), set()
    for frame in source.timed(selection.start, max(marked) + 1, selection.every):
        seen.add(frame.number)
        new = []
        for each in marked.get(frame.number, ()):
            if each.object_id in followed and each.box is None:
                correction = _correction(path, each, frame.image, selection)
                corrections.setdefault(frame.number, []).append(correction)
            else:
                new.append(each)
        if new:
            ids = _ids(path, prompter, frame.image, new)
            written[frame.number] = pathlib.Path(folder, f"{frame.number:05d}.png")
            masks.write_mask(written[frame.number], ids)
            followed.update(each.object_id for each in new)
    missing = sorted(set(marked) - seen)
    if missing:
        raise InputError(f"{path}: expected frames of the video, found frame {missing[0]}")
    return written, corrections


def take_marks(predictor: Any, marks: Marks, image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Corrects an object's mask in the current frame and returns the frame's new ids.

    The mask changes only around the points; a lost object is found again from the points alone.

    Args:
      predictor: a `VideoPredictor`.
      marks: points, from `write`.
      image: the current frame, uint8 [height, width, 3].
      ids: uint8 [height, width], the frame's ids so far.
    """
    before = ids == marks.object_id
    if not before.any() and not marks.labels.any():
        return ids  # What is outside the object already is.
    mask = before if before.any() else None
    found = predictor.prompter()(image, marks.points, marks.labels, mask=mask) == 1
    changed = np.full_like(ids, VOID)
    changed[before] = 0
    changed[found] = marks.object_id
    if (changed != VOID).any():
        predictor.correct(changed, background=True)
    return np.where(changed == VOID, ids, changed)


def _correction(
    path: str | os.PathLike[str], marks: Marks, image: np.ndarray, selection: Selection
) -> Marks:
    """Returns the marks, once checked, at the size of the selection."""
    size = image.shape[:2]
    with _naming(path, marks):
        prompt.checked(size, marks.points, marks.labels, None, is_correction=True)
    scale = np.divide(selection.size(*size), size)[::-1]
    # Coordinates are those of pixel centers.
    last = np.array(selection.size(*size)[::-1]) - 1
    scaled = np.clip((marks.points + 0.5) * scale - 0.5, 0, last)
    return marks._replace(points=scaled.astype(np.float32))


def _ids(
    path: str | os.PathLike[str], prompter: Prompter, image: np.ndarray, marked: Sequence[Marks]
) -> np.ndarray:
    """Returns the ids of a frame, uint8 [height, width]; on overlaps, the first object wins."""
    ids = np.zeros(image.shape[:2], np.uint8)
    for each in marked:
        with _naming(path, each):
            found = prompter(image, each.points, each.labels, each.box)
            ids = np.where((found == 1) & (ids == 0), np.uint8(each.object_id), ids)
            if each.object_id not in ids:
                raise InputError("nothing was found there: add points, or give a mask")
    return ids


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str], marks: Marks) -> Iterator[None]:
    """Prefixes an InputError with the file and the object that it is about."""
    try:
        yield
    except InputError as error:
        where = f"{path}: object {marks.object_id} in frame {marks.frame}"
        raise InputError(f"{where}: {error}") from error

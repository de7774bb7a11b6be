"""Follows the objects of painted frames through a clip, in both directions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page.clip_files import ClipFiles
from feelvos_tf.inference.numpy_predictor import NumpyPredictor

DIRECTIONS = ("both", "forward", "backward")


def frames_to_segment(
    position: int, given: Collection[int], count: int, direction: str
) -> tuple[range, range]:
    """Returns the frames after and before `position`, up to the next ones that are painted.

    Args:
      position: of a painted frame, where to begin.
      given: the positions of all painted frames.
      count: number of frames.
      direction: one of `DIRECTIONS`.
    """
    end = min((other for other in given if other > position), default=count)
    begin = max((other for other in given if other < position), default=-1)
    forward = range(position + 1, end if direction != "backward" else position + 1)
    backward = range(position - 1, begin if direction != "forward" else position - 1, -1)
    return forward, backward


def propagate(
    predictor: NumpyPredictor,
    clip: ClipFiles,
    given: Collection[int],
    position: int,
    direction: str,
    on_frame: Callable[[int], bool],
    turn: contextlib.AbstractContextManager,
) -> None:
    """Writes the masks of the frames around a painted one.

    All painted frames are references: an object is known by all its outlines.

    Args:
      predictor: of this clip alone.
      clip: with the masks of the painted frames.
      given: the positions of the painted frames.
      position: of that among them to begin at.
      direction: one of `DIRECTIONS`.
      on_frame: called with the position of every new mask; False ends it.
      turn: held while the network runs, so that visitors take turns.

    Raises:
      InputError: no painted frame shows an object.
    """
    others = [other for other in sorted(given) if other != position and clip.mask(other).any()]
    with turn:
        _take_references(predictor, clip, [*others, position])
    start = predictor.state()
    for frames in frames_to_segment(position, given, clip.count, direction):
        predictor.restore(start)
        for frame in frames:
            with turn:
                ids = predictor.step(clip.image(frame))
            clip.write_mask(frame, ids)
            if not on_frame(frame):
                return


def _take_references(predictor: NumpyPredictor, clip: ClipFiles, positions: list[int]) -> None:
    """Shows the predictor all painted frames; the last one is the current one afterwards."""
    first, *more = positions
    if not any(clip.mask(position).any() for position in positions):
        raise InputError("paint an object first: this frame shows none")
    predictor.start(clip.image(first), clip.mask(first))
    for position in more:
        mask = clip.mask(position)
        predictor.step(clip.image(position))
        new = np.where(np.isin(mask, predictor.object_ids), np.uint8(0), mask)
        if new.any():
            predictor.add_objects(new)
        predictor.correct(mask, background=True)

"""Propagates the masks of painted frames through a clip, forward and backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator

import numpy as np

from feelvos_tf.demo_page.clip_files import ClipFiles
from feelvos_tf.inference.video_predictor import VideoPredictor

DIRECTIONS = ("both", "forward", "backward")


def frames_to_propagate(
    position: int, given: Collection[int], count: int, direction: str
) -> tuple[range, range]:
    """Returns the frames after and before `position`, up to the next painted ones.

    Args:
      position: of the painted frame to start from.
      given: positions of all painted frames.
      count: number of frames in the clip.
      direction: one of `DIRECTIONS`.
    """
    end = min((other for other in given if other > position), default=count)
    begin = max((other for other in given if other < position), default=-1)
    forward = range(position + 1, end if direction != "backward" else position + 1)
    backward = range(position - 1, begin if direction != "forward" else position - 1, -1)
    return forward, backward


def propagate(
    predictor: VideoPredictor,
    clip: ClipFiles,
    given: Collection[int],
    position: int,
    direction: str,
    using_the_network: Callable[[], contextlib.AbstractContextManager],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields position and mask, uint8 [height, width], of each frame around a painted one.

    All painted frames are references: every outline of an object is used.

    Args:
      predictor: used for this clip only.
      clip: holds the masks of the painted frames.
      given: positions of the painted frames.
      position: which of them to start from.
      direction: one of `DIRECTIONS`.
      using_the_network: returns a context that is held while the network runs on one frame.

    Raises:
      InputError: no painted frame shows an object.
    """
    others = [other for other in sorted(given) if other != position and clip.mask(other).any()]
    for number, reference in enumerate([*others, position]):
        with using_the_network():
            image, mask = clip.image(reference), clip.mask(reference)
            if number == 0:
                predictor.start(image, mask)
            else:
                _add_reference(predictor, image, mask)
    start = predictor.state()
    for frames in frames_to_propagate(position, given, clip.count, direction):
        predictor.restore(start)
        for frame in frames:
            with using_the_network():
                ids = predictor.step(clip.image(frame))
            yield frame, ids


def _add_reference(predictor: VideoPredictor, image: np.ndarray, mask: np.ndarray) -> None:
    """Adds one more painted frame to the references and makes it the current frame."""
    predictor.step(image)
    new = np.where(np.isin(mask, predictor.object_ids), np.uint8(0), mask)
    if new.any():
        predictor.add_objects(new)
    predictor.correct(mask, background=True)

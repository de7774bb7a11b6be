"""Segments one video frame by frame, from its beginning or from where an earlier run stopped."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Callable, NamedTuple

import numpy as np

from feelvos_tf.core import background
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import input_video
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.video_segmenter import VideoSegmenter, VideoState

OnFrame = Callable[[InputVideo, int, VideoState], None]
Arrays = dict[str, np.ndarray]


class SegmentedFrame(NamedTuple):
    """One frame and its result.

    Attributes:
      position: of the frame in the video.
      time: seconds since the first frame of the source.
      image: uint8 [height, width, 3] RGB.
      ids: object ids, uint8 [height, width].
      snapshot: returns the state after this frame; None where the frame was segmented earlier.
    """

    position: int
    time: Fraction
    image: np.ndarray
    ids: np.ndarray
    snapshot: Callable[[], Arrays] | None = None


class Earlier(NamedTuple):
    """What an interrupted run has left of a video.

    Attributes:
      position: of the last frame that it segmented.
      state: the video's, after it.
      read_ids: position of a frame -> its ids, uint8 [height, width].
    """

    position: int
    state: VideoState
    read_ids: Callable[[int], np.ndarray]


@dataclass
class Timing:
    """Seconds spent. The median step leaves out the first frames, during which graphs are built.

    Attributes:
      step_seconds: one value per frame that went through the model.
      total_seconds: everything: reading, the model, writing.
      reading: what the model waited for frames.
      writing: what it waited for results to be written.
    """

    step_seconds: list[float] = field(default_factory=list)
    total_seconds: float = 0.0
    reading: background.Stopwatch = field(default_factory=background.Stopwatch)
    writing: background.Stopwatch = field(default_factory=background.Stopwatch)

    def add(self, other: Timing) -> None:
        """Adds what another one has measured."""
        self.step_seconds += other.step_seconds
        self.total_seconds += other.total_seconds
        self.reading.seconds += other.reading.seconds
        self.writing.seconds += other.writing.seconds

    def sentence(self) -> str:
        """Returns `70 frames, 0.41 s per frame in the model (median), 0.45 s in all ...`."""
        count = len(self.step_seconds)
        if not count:
            return "no frame beside the given one"
        waited = self.reading.seconds + self.writing.seconds
        return (
            f"{count} frames, {statistics.median(self.step_seconds):.3f} s per frame in the model "
            f"(median), {self.total_seconds / count:.3f} s in all; it waited "
            f"{100 * waited / max(self.total_seconds, 1e-9):.1f} % of the time for reading and "
            "writing"
        )


def segmented(
    segmenter: VideoSegmenter,
    video: InputVideo,
    timing: Timing,
    on_frame: OnFrame | None = None,
    earlier: Earlier | None = None,
) -> Iterator[SegmentedFrame]:
    """Yields every frame with its object ids; the first one's are those of the given mask.

    A mask given for a later frame adds its new objects to the others and corrects those that are
    known. Frames of an earlier run come with the ids they got then, without the model.
    """
    mask = video.first_mask()
    done = earlier.position if earlier else -1
    state = earlier.state if earlier else None
    for position, frame in enumerate(background.prefetched(video.frames, timing.reading)):
        _check_size(video, position, frame.image, mask)
        if position <= done:
            ids = earlier.read_ids(position)
            yield SegmentedFrame(position, frame.time, frame.image, ids)
            continue
        if state is None:
            state, ids = segmenter.start(frame.image, mask), mask
        else:
            begin = time.perf_counter()
            ids = state.step(frame.image)
            timing.step_seconds.append(time.perf_counter() - begin)
        later_mask = video.later_mask(position)
        if later_mask is not None:
            ids = _taken(state, later_mask, ids)
        if on_frame is not None:
            on_frame(video, position, state)
        yield SegmentedFrame(position, frame.time, frame.image, ids, state.snapshot())


def _taken(state: VideoState, mask: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns the ids of the last frame after a mask of it was given to the state.

    New objects are added. Of a known one the mask shows all that it has in this frame; objects that
    it does not show stay as they are.

    Args:
      state: after the frame.
      mask: uint8 [height, width].
      ids: those that the frame has got.
    """
    marked = (mask != 0) & (mask != VOID)
    is_known = np.isin(mask, state.object_ids) & marked
    if is_known.any():
        lost = np.isin(ids, mask[is_known]) & (mask == 0)
        correction = np.where(is_known, mask, VOID).astype(np.uint8)
        state.correct(np.where(lost, np.uint8(0), correction), background=True)
        ids = np.where(lost, np.uint8(0), ids)
    if (marked & ~is_known).any():
        state.add_objects(np.where(is_known, np.uint8(0), mask))
    return np.where(marked, mask, ids)


def _check_size(video: InputVideo, position: int, image: np.ndarray, mask: np.ndarray) -> None:
    if image.shape[:2] != mask.shape:
        raise InputError(
            f"{video.name}: expected frames of {input_video.size_of(mask.shape)} pixels (width x "
            f"height) like the first, found {input_video.size_of(image.shape)} at frame {position}"
        )

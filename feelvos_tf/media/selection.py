"""A part of a video: every n-th frame of a range, scaled down to a maximum size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from feelvos_tf.media.video import Frame, Frames


@dataclass(frozen=True)
class Selection:
    """The frames to take, and their size.

    Attributes:
      start: number of the first frame, from 0.
      end: number of the frame after the last; None for no limit.
      every: take every n-th frame.
      max_side: frames with a longer side are scaled down to this many pixels; None for never.
    """

    start: int = 0
    end: int | None = None
    every: int = 1
    max_side: int | None = None

    def scaled(self, image: np.ndarray) -> np.ndarray:
        """Returns a frame scaled to the selection's size, uint8 [height, width, 3]."""
        size = self.size(*image.shape[:2])
        if size == image.shape[:2]:
            return image
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)

    def number(self, position: int) -> int:
        """Returns the source's frame number at a position in the selection."""
        return self.start + position * self.every

    def position(self, number: int) -> int | None:
        """Returns the position in the selection of a frame of the source, None if it has none."""
        position, rest = divmod(number - self.start, self.every)
        is_selected = not rest and position >= 0 and (self.end is None or number < self.end)
        return position if is_selected else None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width to which a frame of this size is scaled."""
        longest = max(height, width)
        if self.max_side is None or longest <= self.max_side:
            return height, width
        scale = self.max_side / longest
        return max(1, round(height * scale)), max(1, round(width * scale))


class SelectedFrames:
    """The selected frames of a source.

    They have positions 0, 1, 2, ... in the selection, and keep their numbers in the source.

    Attributes:
      source: all frames.
      selection: which frames to take.
      length: number of selected frames, an estimate; None if unknown.
      frames_per_second: of the selection.
    """

    def __init__(self, source: Frames, selection: Selection):
        self.source, self.selection = source, selection
        self.frames_per_second = source.frames_per_second / selection.every
        self.length = None
        if source.length is not None:
            chosen = slice(selection.start, selection.end, selection.every)
            self.length = len(range(source.length)[chosen])
        self._live: Iterator[Frame] | None = None
        self._taken: Frame | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames; `Frame.number` is that in the source."""
        if not self.source.is_live:
            return self._frames()
        self.first()
        taken, self._taken = self._taken, None
        return itertools.chain([] if taken is None else [taken], self._live)

    def first(self) -> np.ndarray | None:
        """Returns the first image, uint8 [height, width, 3]; None if there are no frames.

        Raises:
          InputError: it cannot be read.
        """
        if not self.source.is_live:
            first = next(self._frames(), None)
        elif self._live is None:
            # A stream yields a frame only once.
            self._live = self._frames()
            first = self._taken = next(self._live, None)
        else:
            first = self._taken
        return first and first.image

    def name(self, position: int) -> str:
        """Returns the file name, without suffix, of the mask of the frame at a position."""
        return self.source.name(self.selection.number(position))

    def _frames(self) -> Iterator[Frame]:
        chosen = self.selection
        for frame in self.source.timed(chosen.start, chosen.end, chosen.every):
            yield frame._replace(image=chosen.scaled(frame.image))

"""A part of a video: from one frame to another, every n-th, not larger than asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from feelvos_tf.media.video import Frame, Frames


@dataclass(frozen=True)
class Selection:
    """Which frames, and how large.

    Attributes:
      start: number of the first frame, from 0.
      end: number of the frame after the last; None for all.
      every: take one frame of so many.
      max_side: frames whose long side has more pixels are scaled down to it; None for never.
    """

    start: int = 0
    end: int | None = None
    every: int = 1
    max_side: int | None = None

    def number(self, position: int) -> int:
        """Returns the number in the source of the frame at a position in the selection."""
        return self.start + position * self.every

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width that a frame of this size gets."""
        longest = max(height, width)
        if self.max_side is None or longest <= self.max_side:
            return height, width
        scale = self.max_side / longest
        return max(1, round(height * scale)), max(1, round(width * scale))


class SelectedFrames:
    """The frames of a source that a selection leaves.

    They have positions, 0, 1, 2, ..., in the selection, and keep their numbers in the source.

    Attributes:
      source: where they are from.
      selection: which.
      length: how many, as far as the source tells.
      frames_per_second: of what is left.
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
        """Yields the frames; `Frame.number` is the one in the source."""
        if not self.source.is_live:
            return self._frames()
        self.first()
        taken, self._taken = self._taken, None
        return itertools.chain([] if taken is None else [taken], self._live)

    def first(self) -> np.ndarray | None:
        """Returns the first image, uint8 [height, width, 3]; None where there is no frame.

        Raises:
          InputError: it cannot be read.
        """
        if not self.source.is_live:
            first = next(self._frames(), None)
        elif self._live is None:
            # What was taken out of a stream does not come again.
            self._live = self._frames()
            first = self._taken = next(self._live, None)
        else:
            first = self._taken
        return first and first.image

    def name(self, position: int) -> str:
        """Returns what the mask of the frame at a position is called."""
        return self.source.name(self.selection.number(position))

    def _frames(self) -> Iterator[Frame]:
        chosen = self.selection
        for frame in self.source.timed(chosen.start, chosen.end, chosen.every):
            size = chosen.size(*frame.image.shape[:2])
            if size == frame.image.shape[:2]:
                yield frame
            else:
                image = cv2.resize(frame.image, size[::-1], interpolation=cv2.INTER_AREA)
                yield frame._replace(image=image)

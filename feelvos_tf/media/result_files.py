"""What may be written of a segmented video beside its masks: the interface of all such files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Callable, NamedTuple, Protocol

import numpy as np


class VideoFacts(NamedTuple):
    """What is known of a video before its first result.

    Attributes:
      frames_per_second: the average.
      num_frames: how many there will be; None where nobody knows.
      object_ids: the ids of all objects, ascending.
      sound: a file whose sound belongs to the frames' times; None for none.
    """

    frames_per_second: float
    num_frames: int | None
    object_ids: Sequence[int]
    sound: pathlib.Path | None = None


class Result(NamedTuple):
    """One frame and its result.

    Attributes:
      name: what its mask is called, without suffix.
      time: seconds since the first frame of the source.
      image: uint8 [height, width, 3] RGB.
      ids: object ids, uint8 [height, width].
    """

    name: str
    time: Fraction
    image: np.ndarray
    ids: np.ndarray


class ResultFiles(Protocol):
    """Interface: files that are written from the results of one video."""

    def paths(self) -> Sequence[pathlib.Path]:
        """Returns the files, or the folders, that tell whether all was written."""

    def writing(self, facts: VideoFacts) -> AbstractContextManager[Callable[[Result], None]]:
        """Yields a function that takes the next result; files appear when the block ends well."""


def are_newer(files: ResultFiles, than: pathlib.Path) -> bool:
    """Returns whether all files are there and none is older than the file `than`."""
    return all(
        path.exists() and path.stat().st_mtime >= than.stat().st_mtime for path in files.paths()
    )

"""Writes masks over their frames as a video and, if asked for, as a picture of some frames."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from feelvos_tf.media import overlay, pictures, video_writing
from feelvos_tf.media.result_files import Result, VideoFacts

_SHEET_FRAMES = 6
_SHEET_COLUMNS = 3
_SHEET_TILE_WIDTH = 427


class OverlayFiles(NamedTuple):
    """Where overlays go. `ResultFiles`; see there.

    Attributes:
      video: the .mp4.
      sheet: a picture of six frames; None for none.
    """

    video: pathlib.Path
    sheet: pathlib.Path | None = None

    def paths(self) -> list[pathlib.Path]:
        """Returns the files."""
        return [path for path in self if path is not None]

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Callable[[Result], None]]:
        """Yields a function that takes the next result. See `ResultFiles`."""
        last = (facts.num_frames or 1) - 1
        chosen = set(np.linspace(0, last, _SHEET_FRAMES).round().astype(int))
        tiles = []
        position = 0
        with video_writing.writing_video(
            self.video, facts.frames_per_second, facts.sound
        ) as write_frame:

            def write(result: Result) -> None:
                nonlocal position
                picture = overlay.overlay(result.image, result.ids)
                write_frame(picture, result.time)
                if self.sheet is not None and position in chosen:
                    tiles.append(overlay.contact_sheet([picture], 1, _SHEET_TILE_WIDTH))
                position += 1

            yield write
        if self.sheet is not None:
            pictures.write_image(self.sheet, overlay.contact_sheet(tiles, _SHEET_COLUMNS))

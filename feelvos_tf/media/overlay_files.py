"""Writes masks over their frames as a video and, if asked for, as a picture of some frames."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from feelvos_tf.media import overlay, video

_SHEET_FRAMES = 6
_SHEET_COLUMNS = 3
_SHEET_TILE_WIDTH = 427


class OverlayFiles(NamedTuple):
    """Where overlays go.

    Attributes:
      video: the .mp4.
      sheet: a picture of six frames; None for none.
    """

    video: pathlib.Path
    sheet: pathlib.Path | None = None


def are_newer(files: OverlayFiles, than: pathlib.Path) -> bool:
    """Returns whether all files are there and none is older than the file `than`."""
    return all(
        path.is_file() and path.stat().st_mtime >= than.stat().st_mtime
        for path in files
        if path is not None
    )


@contextlib.contextmanager
def writing(
    files: OverlayFiles, frames_per_second: float, num_frames: int | None
) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Yields a function that takes the next frame and its ids; files appear when the block ends.

    Args:
      files: what to write.
      frames_per_second: of the video.
      num_frames: how many there will be. The sheet needs it, the video does not.
    """
    chosen = set(np.linspace(0, (num_frames or 1) - 1, _SHEET_FRAMES).round().astype(int))
    tiles = []
    position = 0
    with video.writing_video(files.video, frames_per_second) as write_frame:

        def write(image: np.ndarray, ids: np.ndarray) -> None:
            nonlocal position
            picture = overlay.overlay(image, ids)
            write_frame(picture)
            if files.sheet is not None and position in chosen:
                tiles.append(overlay.contact_sheet([picture], 1, _SHEET_TILE_WIDTH))
            position += 1

        yield write
    if files.sheet is not None:
        video.write_image(files.sheet, overlay.contact_sheet(tiles, _SHEET_COLUMNS))

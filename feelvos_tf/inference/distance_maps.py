"""Writes the distances that matching found in every frame, as in the paper's figure 2.

DIR/<frame>.jpg             a row per object: the first frame, the previous one, this one, its
                            distances to the object in the first and in the previous frame, its mask
DIR/<frame>_global_<id>.png only the distances, one gray pixel per pixel of the map: 0 (black) for
DIR/<frame>_local_<id>.png  equal embeddings, 255 for the farthest
"""

from __future__ import annotations

import collections
import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media import overlay, pictures
from feelvos_tf.media.result_files import Result, VideoFacts, Write

_TILE_WIDTH = 320
_Maps = dict[str, dict[int, np.ndarray]]


def keep(
    waiting: collections.deque[_Maps],
    video: InputVideo,
    position: int,
    predictor: VideoPredictor,
) -> None:
    """Adds the maps of the frame that was just propagated to those to write.

    With `waiting` bound, an `OnFrame`.
    """
    if position == 0:
        waiting.clear()
    elif video.is_asked(position):  # Only these frames are written.
        waiting.append(predictor.distance_maps())


class DistanceMapFiles(NamedTuple):
    """The pictures of one video. A `ResultFiles`.

    Attributes:
      folder: of the pictures.
      waiting: the maps that `keep` adds, written with the frames and their masks.
    """

    folder: pathlib.Path
    waiting: collections.deque[_Maps]

    def paths(self) -> Sequence[pathlib.Path]:
        """Returns the folder."""
        return [self.folder]

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that writes the next result."""
        del facts
        self.folder.mkdir(parents=True, exist_ok=True)
        first = previous = None

        def write(result: Result) -> None:
            nonlocal first, previous
            if first is None:
                first = result
            else:
                self._write_frame(first, previous, result)
            previous = result

        yield write

    def _write_frame(self, first: Result, previous: Result, result: Result) -> None:
        maps = self.waiting.popleft()
        rows = []
        for value in filter(None, next(iter(maps.values()))):
            of_object = {name: planes[value] for name, planes in maps.items()}
            rows.append(strip(first, previous, result, value, of_object))
            for name, plane in of_object.items():
                path = self.folder / f"{result.name}_{name}_{value}.png"
                pictures.write_image(path, _gray(plane))
        pictures.write_image(self.folder / f"{result.name}.jpg", np.vstack(rows))


def strip(
    first: Result, previous: Result, current: Result, value: int, maps: dict[str, np.ndarray]
) -> np.ndarray:
    """Returns the row of one object, uint8 [height, width, 3].

    Args:
      first: the video's first frame.
      previous: the frame before the current one.
      current: the frame that was matched.
      value: the object's id.
      maps: "global" and "local", as far as the network uses them -> distances, float32 [h, w].
    """
    size = current.ids.shape[::-1]
    tiles = {"first frame": _only(first, value), "previous frame": _only(previous, value)}
    tiles["this frame"] = current.image
    for name, plane in maps.items():
        gray = cv2.resize(_gray(plane), size, interpolation=cv2.INTER_NEAREST)
        tiles[f"{name} distance"] = np.repeat(gray[..., None], 3, -1)
    tiles[f"object {value}"] = _only(current, value)
    return overlay.contact_sheet(
        [_titled(tile, title) for title, tile in tiles.items()], len(tiles)
    )


def _only(result: Result, value: int) -> np.ndarray:
    """Returns a frame with one object tinted."""
    return overlay.overlay(result.image, np.where(result.ids == value, result.ids, np.uint8(0)))


def _titled(tile: np.ndarray, title: str) -> np.ndarray:
    """Returns the tile at its final width with a white line of text above it."""
    line = np.full((22, _TILE_WIDTH, 3), 255, np.uint8)
    cv2.putText(line, title, (2, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([line, overlay.contact_sheet([tile], 1, _TILE_WIDTH)])


def _gray(plane: np.ndarray) -> np.ndarray:
    """Returns distances 0..1 as uint8 [h, w], clipped to this range."""
    return np.round(255 * np.clip(plane, 0, 1)).astype(np.uint8)

"""Files that can be written for a propagated video in addition to its masks: `ResultFiles`."""

from __future__ import annotations

import contextlib
import csv
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np

from feelvos_tf.core import atomic_files
from feelvos_tf.media import masks, overlay, pictures, rle, video_writing

COLUMNS = ["frame", "time", "object", "area", "x", "y", "width", "height", "center_x", "center_y"]
COLUMNS += ["last_seen"]
_SHEET_FRAMES = 6
_SHEET_COLUMNS = 3
_SHEET_TILE_WIDTH, _LARGEST_TILE_HEIGHT = 427, 2000
_TILES_IN_MEMORY = 48


class VideoFacts(NamedTuple):
    """Facts known about a video before its first result.

    Attributes:
      frames_per_second: the average.
      num_frames: number of frames to come; None if unknown.
      object_ids: the ids of all objects, ascending.
      sound: a file whose sound matches the frames' times; None for none.
      pixel_aspect: width of a pixel relative to its height.
    """

    frames_per_second: float
    num_frames: int | None
    object_ids: Sequence[int]
    sound: pathlib.Path | None = None
    pixel_aspect: Fraction = Fraction(1)


class Result(NamedTuple):
    """One frame and its result.

    Attributes:
      name: file name of the mask, without suffix.
      time: seconds since the first frame of the source.
      image: uint8 [height, width, 3] RGB.
      ids: object ids, uint8 [height, width].
    """

    name: str
    time: Fraction
    image: np.ndarray
    ids: np.ndarray


Write = Callable[[Result], None]


class ResultFiles(Protocol):
    """Interface of files that are written from the results of one video."""

    def paths(self) -> Sequence[pathlib.Path]:
        """Returns the files that exist once everything has been written."""

    def writing(self, facts: VideoFacts) -> AbstractContextManager[Write]:
        """Yields a function that takes the next result; files appear when the block succeeds."""


class OverlayFiles(NamedTuple):
    """The masks over their frames, as a video and as a contact sheet of some frames.

    Attributes:
      video: the .mp4.
      sheet: a contact sheet of six frames; None for none.
    """

    video: pathlib.Path
    sheet: pathlib.Path | None = None

    def paths(self) -> list[pathlib.Path]:
        """Returns the files."""
        return [path for path in self if path is not None]

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that takes the next result."""
        tiles = _Tiles(facts.num_frames)
        with video_writing.writing_video(
            self.video, facts.frames_per_second, facts.sound, pixel_aspect=facts.pixel_aspect
        ) as write_frame:

            def write(result: Result) -> None:
                picture = overlay.overlay(result.image, result.ids)
                write_frame(picture, result.time)
                if self.sheet is not None:
                    tiles.add(picture)

            yield write
        if self.sheet is not None:
            pictures.write_image(self.sheet, overlay.contact_sheet(tiles.chosen(), _SHEET_COLUMNS))


class _Tiles:
    """Thumbnails of six frames, spread evenly over a video whose length may be unknown."""

    def __init__(self, num_frames: int | None):
        self._wanted = None if num_frames is None else set(_spread(num_frames))
        self._every, self._count = 1, 0
        self._tiles: dict[int, np.ndarray] = {}

    def add(self, picture: np.ndarray) -> None:
        """Keeps the next picture, uint8 [height, width, 3], if it may be chosen."""
        position, self._count = self._count, self._count + 1
        if position % self._every or (self._wanted is not None and position not in self._wanted):
            return
        height, width = picture.shape[:2]
        width = min(_SHEET_TILE_WIDTH, max(1, _LARGEST_TILE_HEIGHT * width // height))
        self._tiles[position] = overlay.contact_sheet([picture], 1, width)
        if len(self._tiles) > _TILES_IN_MEMORY:
            self._every *= 2
            self._tiles = {p: t for p, t in self._tiles.items() if p % self._every == 0}

    def chosen(self) -> list[np.ndarray]:
        """Returns up to six pictures in order."""
        tiles = list(self._tiles.values())
        return [tiles[i] for i in _spread(len(tiles))]


def _spread(count: int) -> list[int]:
    """Returns the positions of up to six frames among `count`, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, _SHEET_FRAMES).round().astype(int)).tolist()


@dataclass(frozen=True)
class _OneFile:
    """A single file."""

    path: pathlib.Path

    def paths(self) -> list[pathlib.Path]:
        """Returns the file."""
        return [self.path]


class Cutout(_OneFile):
    """The objects alone, on a transparent background, as a .webm."""

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that takes the next result."""
        with video_writing.writing_video(
            self.path, facts.frames_per_second, encoding=video_writing.WITH_ALPHA
        ) as write:

            def cut_out(result: Result) -> None:
                inside = masks.is_object(result.ids)
                alpha = np.where(inside, np.uint8(255), np.uint8(0))
                write(np.dstack([result.image * inside[..., None], alpha]), result.time)

            yield cut_out


@dataclass(frozen=True)
class ObjectVideos:
    """One lossless video per object, 255 on 0: `object_3.mkv` for id 3."""

    folder: pathlib.Path

    def paths(self) -> list[pathlib.Path]:
        """Returns the videos that exist."""
        return sorted(self.folder.glob("object_*.mkv"))

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that takes the next result."""
        with contextlib.ExitStack() as stack:
            writers = {}
            for value in facts.object_ids:
                path = self.folder / f"object_{value}.mkv"
                writing = video_writing.writing_video(
                    path, facts.frames_per_second, encoding=video_writing.LOSSLESS_GRAY
                )
                writers[value] = stack.enter_context(writing)

            def write(result: Result) -> None:
                for value, write_mask in writers.items():
                    write_mask(np.where(result.ids == value, 255, 0).astype(np.uint8), result.time)

            yield write


class RunLengths(_OneFile):
    """The masks as COCO's JSON, which pycocotools reads: a category per object."""

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that takes the next result."""
        images = []
        count = 0
        with atomic_files.replacing(self.path) as temporary, open(temporary, "w") as file:
            file.write('{"annotations": [')

            def write(result: Result) -> None:
                nonlocal count
                height, width = result.ids.shape
                image = {"id": len(images) + 1, "file_name": f"{result.name}.png"}
                images.append({**image, "height": height, "width": width, "time": _time(result)})
                for value in masks.object_ids(result.ids):
                    count += 1
                    mask = result.ids == value
                    entry = {
                        "id": count,
                        "image_id": image["id"],
                        "category_id": value,
                        "object_id": value,
                        "segmentation": rle.encode(mask),
                        "area": int(mask.sum()),
                        "bbox": rle.box(mask),
                        "iscrowd": 0,
                    }
                    file.write(f"{',' if count > 1 else ''}\n{json.dumps(entry)}")

            yield write
            categories = [{"id": value, "name": f"object {value}"} for value in facts.object_ids]
            rest = f'"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}'
            file.write(f"],\n{rest}}}\n")


class ObjectTable(_OneFile):
    """A CSV row per object and frame, in pixels; box and center are empty if it is not visible.

    The last column names the latest frame so far that shows the object; empty before the first.
    """

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that takes the next result."""
        replacing = atomic_files.replacing(self.path)
        text = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
        with replacing as temporary, open(temporary, "w", **text) as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            last_seen = dict.fromkeys(facts.object_ids, "")

            def write(result: Result) -> None:
                for value in facts.object_ids:
                    measures = _measures(result.ids == value)
                    if measures[0]:
                        last_seen[value] = result.name
                    row = [result.name, _time(result), value, *measures, last_seen[value]]
                    table.writerow(row)

            yield write


def _measures(mask: np.ndarray) -> list[object]:
    """Returns the area, box and center of mass; box and center are empty for an empty mask."""
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return [0] + [""] * 6
    box = [int(side) for side in rle.box(mask)]
    return [rows.size, *box, f"{columns.mean():.2f}", f"{rows.mean():.2f}"]


def _time(result: Result) -> float:
    return round(float(result.time), 6)

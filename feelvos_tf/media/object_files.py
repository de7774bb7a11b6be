"""Writes what editors and scripts read of a segmented video.

* `Cutout`: the objects alone, on transparent ground, as a .webm.
* `ObjectVideos`: one black and white video per object, without loss.
* `RunLengths`: COCO's JSON, which pycocotools reads.
* `ObjectTable`: area, box and center of every object in every frame, as CSV.

All are `ResultFiles`; see there.
"""

from __future__ import annotations

import contextlib
import csv
import json
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from feelvos_tf.core import atomic_files
from feelvos_tf.core.constants import VOID
from feelvos_tf.media import rle, video_writing
from feelvos_tf.media.result_files import Result, VideoFacts

Write = Callable[[Result], None]
COLUMNS = ["frame", "time", "object", "area", "x", "y", "width", "height", "center_x", "center_y"]


@dataclass(frozen=True)
class Cutout:
    """The objects alone, as a video with transparency."""

    path: pathlib.Path

    def paths(self) -> list[pathlib.Path]:
        """Returns the file."""
        return [self.path]

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that takes the next result."""
        encoding = video_writing.WITH_ALPHA
        with video_writing.writing_video(
            self.path, facts.frames_per_second, encoding=encoding
        ) as write:

            def cut_out(result: Result) -> None:
                inside = (result.ids != 0) & (result.ids != VOID)
                alpha = np.where(inside, np.uint8(255), np.uint8(0))
                write(np.dstack([result.image * inside[..., None], alpha]), result.time)

            yield cut_out


@dataclass(frozen=True)
class ObjectVideos:
    """One video per object, 255 on 0: `object_3.mkv` for id 3."""

    folder: pathlib.Path

    def paths(self) -> list[pathlib.Path]:
        """Returns the videos that are there, or else the first that should be."""
        found = sorted(self.folder.glob("object_*.mkv"))
        return found or [self.folder / "object_1.mkv"]

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that takes the next result."""
        with contextlib.ExitStack() as stack:
            writers = {
                value: stack.enter_context(
                    video_writing.writing_video(
                        self.folder / f"object_{value}.mkv",
                        facts.frames_per_second,
                        encoding=video_writing.LOSSLESS_GRAY,
                    )
                )
                for value in facts.object_ids
            }

            def write(result: Result) -> None:
                for value, write_mask in writers.items():
                    write_mask(np.where(result.ids == value, 255, 0).astype(np.uint8), result.time)

            yield write


@dataclass(frozen=True)
class RunLengths:
    """The masks as COCO writes them: a picture per frame, a category per object."""

    path: pathlib.Path

    def paths(self) -> list[pathlib.Path]:
        """Returns the file."""
        return [self.path]

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
                for value in np.setdiff1d(result.ids, [0, VOID]).tolist():
                    count += 1
                    entry = _annotation(count, image["id"], value, result.ids == value)
                    file.write(f"{',' if count > 1 else ''}\n{json.dumps(entry)}")

            yield write
            categories = [{"id": value, "name": f"object {value}"} for value in facts.object_ids]
            rest = f'"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}'
            file.write(f"],\n{rest}}}\n")


@dataclass(frozen=True)
class ObjectTable:
    """A line for every object and frame, in pixels; without box and center where it is not seen."""

    path: pathlib.Path

    def paths(self) -> list[pathlib.Path]:
        """Returns the file."""
        return [self.path]

    @contextlib.contextmanager
    def writing(self, facts: VideoFacts) -> Iterator[Write]:
        """Yields a function that takes the next result."""
        replacing = atomic_files.replacing(self.path)
        with replacing as temporary, open(temporary, "w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)

            def write(result: Result) -> None:
                for value in facts.object_ids:
                    measures = _measures(result.ids == value)
                    table.writerow([result.name, _time(result), value, *measures])

            yield write


def _annotation(number: int, image: int, value: int, mask: np.ndarray) -> dict[str, object]:
    return {
        "id": number,
        "image_id": image,
        "category_id": value,
        "object_id": value,
        "segmentation": rle.encode(mask),
        "area": int(mask.sum()),
        "bbox": rle.box(mask),
        "iscrowd": 0,
    }


def _measures(mask: np.ndarray) -> list[object]:
    """Returns area, box and the mean position of the pixels."""
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return [0] + [""] * 6
    box = [int(side) for side in rle.box(mask)]
    return [rows.size, *box, f"{columns.mean():.2f}", f"{rows.mean():.2f}"]


def _time(result: Result) -> float:
    return round(float(result.time), 6)

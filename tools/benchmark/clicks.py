"""`tools/benchmark clicks`: IoU of masks from simulated clicks, a box and a stroke.

Each click is the usual simulation of a user's next one: in the middle of the largest wrong region,
as far from its outline as possible. The box is eight pixels around the object; the stroke
follows the middle of the object along its longest axis.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.evaluation.region_and_contour import jaccard
from feelvos_tf.inference.prompt import Prompter
from feelvos_tf.media import masks, pictures

CLICKS = (1, 3, 5, 8)
COLUMNS = (*map(str, CLICKS), "box", "stroke")
_BOX_MARGIN = 8
_STROKE_POINTS = 20


def table(
    prompter: Prompter, videos: Sequence[datasets.VideoFiles], frames_per_video: int
) -> Iterator[str]:
    """Yields the lines of a table: a row per object, their mean, and the time per click.

    Args:
      prompter: of the model.
      videos: with masks of all frames.
      frames_per_video: the number of frames, evenly spaced from the first one on.

    Raises:
      InputError: the frames show no object.
    """
    rows, seconds = [], []
    width = max(len(video.name) for video in videos) + 10
    yield "IoU".ljust(width) + "".join(f"{name:>8}" for name in COLUMNS)
    for video in videos:
        for image, ids, name in _frames(video, frames_per_video):
            for object_id in masks.object_ids(ids):
                scores, times = measured(prompter, image, ids == object_id)
                rows.append(scores)
                seconds.append(times)
                yield f"{video.name} {name} {object_id}".ljust(width) + _cells(scores)
    if not rows:
        raise InputError("expected frames with objects, found none")
    yield f"mean of {len(rows)}".ljust(width) + _cells(np.mean(rows, 0))
    # A perfect mask gets no further click.
    columns = ([each[i] for each in seconds if len(each) > i] for i in range(CLICKS[-1]))
    medians = [statistics.median(column) for column in columns if column]
    yield "seconds per click (medians): " + ", ".join(f"{value:.2f}" for value in medians)
    yield f"longest: {max(map(max, seconds)):.2f} s"


def _frames(video: datasets.VideoFiles, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Yields image, uint8 [height, width, 3], ids, uint8 [height, width], and name of frames."""
    count = min(count, len(video.frames))
    for i in (number * len(video.frames) // count for number in range(count)):
        if video.masks[i] is None:
            continue
        ids = masks.read_annotation(video.masks[i], video.binary_masks, video.mask_colors)
        yield pictures.read_image(video.frames[i]), ids, video.frames[i].stem


def _cells(values: Sequence[float]) -> str:
    return "".join(f"{value:8.3f}" for value in values)


def measured(
    prompter: Prompter, image: np.ndarray, truth: np.ndarray
) -> tuple[list[float], list[float]]:
    """Returns the IoU for each of `COLUMNS`, and the seconds that each click took.

    Args:
      prompter: of the model.
      image: uint8 [height, width, 3].
      truth: the object, bool [height, width].
    """
    prompter.prepare(image)
    points, labels, scores, seconds = [], [], [], []
    mask = np.zeros(truth.shape, np.uint8)
    for count in range(1, CLICKS[-1] + 1):
        point = next_click(truth, mask)
        if point is not None:
            points.append(point)
            labels.append(int(truth[point[::-1]]))
            begin = time.perf_counter()
            mask = prompter(image, points, labels)
            seconds.append(time.perf_counter() - begin)
        if count in CLICKS:
            scores.append(jaccard(truth.view(np.uint8), mask))
    line = stroke(truth)
    for mask in (prompter(image, box=box(truth)), prompter(image, line, np.ones(len(line), int))):
        scores.append(jaccard(truth.view(np.uint8), mask))
    return scores, seconds


def next_click(truth: np.ndarray, mask: np.ndarray) -> tuple[int, int] | None:
    """Returns x, y of the middle of the largest wrong region; None if there is none."""
    wrong = (truth != (mask != 0)).astype(np.uint8)
    count, parts, facts, _ = cv2.connectedComponentsWithStats(wrong, connectivity=8)
    if count == 1:
        return None
    depth = _depth(parts == 1 + facts[1:, cv2.CC_STAT_AREA].argmax())
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x), int(y)


def box(truth: np.ndarray) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of a box around an object, with a margin."""
    rows, columns = masks.around(truth, _BOX_MARGIN)
    height, width = truth.shape
    right, bottom = min(width, columns.stop) - 1, min(height, rows.stop) - 1
    return columns.start, rows.start, right, bottom


def stroke(truth: np.ndarray) -> np.ndarray:
    """Returns points along an object's longest axis, int64 [n, 2] x, y.

    The object is cut into slices across that axis; each point is in the middle of its slice's
    thickest part.
    """
    pixels = np.argwhere(truth)[:, ::-1]
    centered = pixels - pixels.mean(0)
    along = centered @ np.linalg.eigh(centered.T @ centered)[1][:, -1]
    edges = np.linspace(*np.percentile(along, (10, 90)), _STROKE_POINTS + 1)
    slices = np.digitize(along, edges)
    depth = _depth(truth)[truth]
    return np.array(
        [
            pixels[np.where(slices == number, depth, -1).argmax()]
            for number in range(1, _STROKE_POINTS + 1)
            if (slices == number).any()
        ]
    )


def _depth(region: np.ndarray) -> np.ndarray:
    """Returns each pixel's distance from a region's outline or the image's edge, float32 [h, w]."""
    padded = np.pad(region.astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]

"""Reads the objects of one frame from JSON: COCO's RLE and polygons, labelme's shapes.

Accepted forms, recognized by their keys:

    {"size": [h, w], "counts": ...}                              one object, or a list of these
    [{"segmentation": ..., "object_id": 3}, ...]                 COCO results
    {"annotations": [{"segmentation": ...}], "images": [...]}    COCO annotations
    {"shapes": [{"label": "dog", "points": ...}], ...}           labelme
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Union

import numpy as np
from PIL import Image

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import pictures, rle

_WHAT = "objects as JSON (COCO RLE or polygons, or labelme)"
_MAX_COORDINATE = 1e5
_MAX_PARTS = 2000  # Polygons and masks in one file.
_MAX_PIXELS = 1 << 28  # In the boxes of all polygons and masks, which determine the time it takes.
_MAX_CROSSINGS = 1 << 23  # Of pixel rows by the edges of one polygon.


Key = Union[int, str, tuple]
"""An object's identity, see `given_mask.ObjectNumbers`."""
Paint = Callable[[np.ndarray, int], int]
"""Writes an id into the frame's ids, uint8 [height, width]; returns how many pixels it visits."""


def read(
    path: str | os.PathLike[str], size: tuple[int, int] | None, id_of: Callable[[Key], int]
) -> np.ndarray:
    """Returns the ids of a frame, uint8 [height, width]; where shapes overlap, the last one wins.

    Args:
      path: the file.
      size: (height, width) of the frame; None if only the file specifies it.
      id_of: key of an object -> its id, 1..254.

    Raises:
      InputError: the file is not such JSON, or does not match the size of the frame.
    """
    content = whole_files.read_json(path, _WHAT)
    with whole_files.errors_about(path, _WHAT):
        ids = np.zeros(_size(path, content, size), np.uint8)
        shapes = list(itertools.islice(_shapes(path, content), _MAX_PARTS + 1))
        if len(shapes) > _MAX_PARTS:
            raise ValueError(f"more than {_MAX_PARTS} polygons or masks")
        # Numbers first, as names get the ids that are left.
        for key, _ in sorted(shapes, key=lambda shape: not isinstance(shape[0], int)):
            try:
                id_of(key)
            except ValueError as error:
                raise InputError(f"{path}: {error}") from error
        pixels = 0
        for key, paint in shapes:
            pixels += paint(ids, id_of(key))
            if pixels > _MAX_PIXELS:
                raise ValueError(f"polygons or masks of more than {_MAX_PIXELS} pixels in all")
    return ids


def _size(path: Any, content: Any, size: tuple[int, int] | None) -> tuple[int, int]:
    """Returns the size given in the file, else the frame's, else that of run lengths."""
    named = (None, None)
    with contextlib.suppress(AttributeError, IndexError, KeyError, TypeError):  # Names none.
        # COCO's entry for the annotated picture; for labelme, the whole file.
        wanted = (content.get("annotations") or [{}])[0].get("image_id")
        images = content.get("images") or [content]
        picture = next((each for each in images if each.get("id") == wanted), images[0])
        named = (
            picture.get("height", picture.get("imageHeight")),
            picture.get("width", picture.get("imageWidth")),
        )
    if None in named:
        named = size or _size_of_runs(content)
    if named is None:
        raise InputError(
            f"{path}: expected the frame's size, which is not in this file: use "
            "read_mask(path, size=(height, width))"
        )
    if not all(type(side) is int and side > 0 for side in named):
        raise InputError(f"{path}: expected the height and width of the frame, found {named}")
    pictures.check_size(path, *named)
    return tuple(named)


def _size_of_runs(content: Any) -> Sequence[Any] | None:
    """Returns the size of the first run lengths, None if there are none."""
    entry = content[0] if isinstance(content, list) and content else content
    runs = entry.get("segmentation", entry) if isinstance(entry, dict) else None
    size = runs.get("size") if isinstance(runs, dict) else None
    return size if isinstance(size, list) and len(size) == 2 else None


def _shapes(path: str | os.PathLike[str], content: Any) -> Iterator[tuple[Key, Paint]]:
    """Yields the objects of a file, or parts of one.

    Raises:
      InputError: annotations are boxes.
      ValueError: or similar, the content is something else.
    """
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        yield from map(_labelme, content["shapes"])
        return
    if isinstance(content, dict):
        content = content.get("annotations", [content])
    if any("bbox" in each and not each.get("segmentation", "counts" in each) for each in content):
        raise InputError(
            f"{path}: expected a segmentation in every annotation, found a bbox alone: give boxes "
            "with --points"
        )
    images = {entry.get("image_id") for entry in content}
    if len(images) > 1:
        raise ValueError(f"annotations of {len(images)} pictures, expected those of one frame")
    for place, entry in enumerate(content, 1):
        given = [entry[k] for k in ("object_id", "track_id") if entry.get(k) is not None]
        key = given[0] if given else ("entry", place)
        segmentation = entry.get("segmentation", entry)
        if isinstance(segmentation, dict):
            yield key, functools.partial(_fill_runs, segmentation)
        else:
            for polygon in segmentation:  # x, y, x, y, ...
                points = np.asarray(polygon, np.float64).reshape(-1, 2)
                yield key, functools.partial(_fill, points)


def _labelme(shape: dict[str, Any]) -> tuple[Key, Paint]:
    """Returns one shape; shapes with the same label and group are one object."""
    label, group = str(shape["label"]), shape.get("group_id")
    is_id = label.isdecimal() and len(label) < 4 and str(int(label)) == label
    key = int(label) if is_id else label
    points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
    kind = shape.get("shape_type", "polygon")
    if kind == "mask":
        paint = functools.partial(_paste, shape["mask"], points)
    else:
        paint = functools.partial(_fill, _outline(kind, points))
    return key if group is None else (label, group), paint


def _fill_runs(runs: dict[str, Any], ids: np.ndarray, value: int) -> int:
    """Gives an id to the pixels in run lengths. A `Paint`."""
    (height, width), counts = runs["size"], runs["counts"]
    if not isinstance(counts, (str, list)):
        raise ValueError("counts are neither text nor a list")
    if (height, width) != ids.shape:
        raise ValueError(
            f"run lengths of {width}x{height} pixels (width x height) for a frame of "
            f"{ids.shape[1]}x{ids.shape[0]}"
        )
    ids[rle.decode(counts, height, width)] = value
    return ids.size


def _outline(kind: str, points: np.ndarray) -> np.ndarray:
    """Returns the polygon of a labelme shape, float [points, 2]."""
    if kind == "polygon":
        return points
    if kind not in ("rectangle", "circle") or len(points) != 2:
        raise ValueError(f"a shape {kind!r} with {len(points)} points has no interior")
    (x, y), (right, bottom) = points
    if kind == "rectangle":
        return np.array([[x, y], [right, y], [right, bottom], [x, bottom]])
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    radius = np.hypot(right - x, bottom - y)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


def _fill(points: np.ndarray, ids: np.ndarray, value: int) -> int:
    """Gives an id to the pixels whose center is in the polygon (x, y), float [points, 2].

    A `Paint` that visits the polygon's box. A pixel is inside if the row up to it crosses the edges
    an odd number of times.

    Raises:
      ValueError: it is not a polygon, or too large.
    """
    if len(points) < 3 or not np.abs(points).max() <= _MAX_COORDINATE:
        raise ValueError("a polygon needs three or more points, near the frame")
    ends = np.ceil(np.stack([points.min(0), points.max(0)]) - 0.5)
    (left, top), (right, bottom) = np.clip(ends, 0, ids.shape[::-1]).astype(int)
    box = ids[top:bottom, left:right]
    crossings = np.sort(_crossings(points - (left, top), *box.shape))
    runs = np.diff(crossings, prepend=0, append=box.size)
    box[np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(box.shape)] = value
    return box.size


def _crossings(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the first pixel after each crossing of a pixel row's center line by a polygon's edge.

    It is row * width + column, int64 [crossings]; a column of `width` is one past the last.

    Raises:
      ValueError: there are too many crossings.
    """
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    first, last = (
        np.clip(np.ceil(side(y, next_y) - 0.5), 0, height).astype(np.int64)
        for side in (np.minimum, np.maximum)
    )
    counts = last - first
    if counts.sum() > _MAX_CROSSINGS:
        raise ValueError(f"a polygon of {len(points)} points crosses too many rows")
    edges = np.repeat(np.arange(len(points)), counts)
    rows = first[edges] + np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
    slopes = (next_x - x)[edges] / (next_y - y)[edges]
    columns = np.ceil(x[edges] + (rows + 0.5 - y[edges]) * slopes - 0.5)
    return rows * width + np.clip(columns, 0, width).astype(np.int64)


def _paste(text: str, points: np.ndarray, ids: np.ndarray, value: int) -> int:
    """Gives an id to the pixels of a base64-encoded PNG whose upper left corner is the first point.

    A `Paint`.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
            pictures.check_size("mask", image.height, image.width)
            pixels = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, binascii.Error, InputError) as error:
        raise ValueError(f"a mask that is not a base64-encoded PNG: {error}") from error
    if not np.abs(points).max() <= _MAX_COORDINATE:
        raise ValueError("a mask far from the frame")
    left, top = np.round(points[0]).astype(int)
    rows, columns = np.nonzero(pixels)
    rows, columns = rows + top, columns + left
    inside = (rows >= 0) & (rows < ids.shape[0]) & (columns >= 0) & (columns < ids.shape[1])
    ids[rows[inside], columns[inside]] = value
    return pixels.size

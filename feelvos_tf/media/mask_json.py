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
import functools
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

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


class Shape(NamedTuple):
    """One object in a file, or a part of one.

    Attributes:
      key: its identity, see `given_mask.ObjectNumbers`.
      paint: (ids, id) -> number of pixels visited. Writes the object's id into the frame's ids,
        uint8 [height, width].
    """

    key: int | str | tuple
    paint: Callable[[np.ndarray, int], int]


def read(path: str | os.PathLike[str], size: tuple[int, int] | None, id_of: Callable) -> np.ndarray:
    """Returns the ids of a frame, uint8 [height, width]; where shapes overlap, the last one wins.

    Args:
      path: the file.
      size: (height, width) of the frame; None if only the file specifies it.
      id_of: key of an object (see `Shape`) -> its id, 1..254.

    Raises:
      InputError: the file is not such JSON, or does not match the size of the frame.
    """
    content = whole_files.read_json(path, _WHAT)
    ids = np.zeros(_size(path, content, size), np.uint8)
    try:
        shapes = list(itertools.islice(_shapes(path, content), _MAX_PARTS + 1))
        if len(shapes) > _MAX_PARTS:
            raise ValueError(f"more than {_MAX_PARTS} polygons or masks")
        # Numbers first, as names get the ids that are left.
        for shape in sorted(shapes, key=lambda shape: not isinstance(shape.key, int)):
            try:
                id_of(shape.key)
            except ValueError as error:
                raise InputError(f"{path}: {error}") from error
        pixels = 0
        for shape in shapes:
            pixels += shape.paint(ids, id_of(shape.key))
            if pixels > _MAX_PIXELS:
                raise ValueError(f"polygons or masks of more than {_MAX_PIXELS} pixels in all")
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        found = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
        raise InputError(f"{path}: expected {_WHAT}, found something else ({found})") from error
    return ids


def _size(path: Any, content: Any, size: tuple[int, int] | None) -> tuple[int, int]:
    """Returns the size given in the file, else the frame's, else that of run lengths."""
    named = None
    if isinstance(content, dict):
        picture = _picture(content)
        if isinstance(picture, dict):
            named = (
                picture.get("height", picture.get("imageHeight")),
                picture.get("width", picture.get("imageWidth")),
            )
    if named is None or None in named:
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


def _picture(content: dict[str, Any]) -> Any:
    """Returns COCO's entry for the annotated picture; for labelme, the whole file."""
    pictures_of_it, entries = content.get("images"), content.get("annotations")
    if not isinstance(pictures_of_it, list) or not pictures_of_it:
        return content
    if isinstance(entries, list) and entries and isinstance(entries[0], dict):
        wanted = entries[0].get("image_id")
        for picture in pictures_of_it:
            if isinstance(picture, dict) and picture.get("id") == wanted:
                return picture
    return pictures_of_it[0]


def _shapes(path: str | os.PathLike[str], content: Any) -> Iterator[Shape]:
    """Yields the objects of a file.

    Args:
      path: the file.
      content: parsed JSON.

    Raises:
      InputError: annotations are boxes.
      ValueError: or similar, the content is something else.
    """
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        for shape in content["shapes"]:
            yield _labelme(shape)
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
        segmentation = entry.get("segmentation", entry)
        given = next(
            (entry[k] for k in ("object_id", "track_id") if entry.get(k) is not None), None
        )
        for paint in _coco(segmentation):
            yield Shape(("entry", place) if given is None else given, paint)


def _coco(segmentation: Any) -> Iterator[Callable[[np.ndarray, int], int]]:
    """Yields a `Shape.paint` for run lengths, or for each polygon of [[x, y, x, y, ...], ...]."""
    if not isinstance(segmentation, dict):
        for points in segmentation:
            points = np.asarray(points, np.float64).reshape(-1, 2)
            yield functools.partial(_fill, points)
        return
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    if not isinstance(counts, (str, list)):
        raise ValueError("counts are neither text nor a list")

    def paint(ids: np.ndarray, value: int) -> int:
        if (height, width) != ids.shape:
            raise ValueError(
                f"run lengths of {width}x{height} pixels (width x height) for a frame of "
                f"{ids.shape[1]}x{ids.shape[0]}"
            )
        ids[rle.decode(counts, height, width)] = value
        return ids.size

    yield paint


def _labelme(shape: dict[str, Any]) -> Shape:
    """Returns one shape; shapes with the same label and group are one object."""
    label, group = str(shape["label"]), shape.get("group_id")
    is_id = label.isdecimal() and len(label) < 4 and str(int(label)) == label
    key = int(label) if is_id else label
    points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
    kind = shape.get("shape_type", "polygon")
    if kind == "mask":
        text = shape["mask"]
        paint = lambda ids, value: _paste(_embedded(text), points, ids, value)  # noqa: E731
    else:
        polygon = _outline(kind, points)
        paint = functools.partial(_fill, polygon)
    return Shape(key if group is None else (label, group), paint)


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
    """Gives an id to the pixels whose center is in a polygon; returns the pixel count of its box.

    A pixel is inside if the row up to it crosses the edges an odd number of times.

    Args:
      points: (x, y) of the polygon, float [points, 2].
      ids: uint8 [height, width], changed in place.
      value: the id.

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

    Args:
      points: (x, y) of the polygon, float [points, 2].
      height: of the box to fill.
      width: of the box to fill.

    Returns:
      row * width + column, int64 [crossings]; a column of `width` is one past the last.

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


def _embedded(text: str) -> np.ndarray:
    """Returns the bool mask in a base64-encoded PNG. Raises ValueError if it is not one."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
            pictures.check_size("mask", image.height, image.width)
            return np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, binascii.Error, InputError) as error:
        raise ValueError(f"a mask that is not a base64-encoded PNG: {error}") from error


def _paste(pixels: np.ndarray, points: np.ndarray, ids: np.ndarray, value: int) -> int:
    """Gives an id where `pixels`, with the upper left corner at the first point, are True."""
    if not np.abs(points).max() <= _MAX_COORDINATE:
        raise ValueError("a mask far from the frame")
    left, top = np.round(points[0]).astype(int)
    rows, columns = np.nonzero(pixels)
    rows, columns = rows + top, columns + left
    inside = (rows >= 0) & (rows < ids.shape[0]) & (columns >= 0) & (columns < ids.shape[1])
    ids[rows[inside], columns[inside]] = value
    return pixels.size

"""Reads the objects of one frame from JSON: COCO's run lengths and polygons, labelme's shapes.

Accepted are, recognized by their keys:

    {"size": [h, w], "counts": ...}                              one object, or a list of such
    [{"segmentation": ..., "object_id": 3}, ...]                 COCO results
    {"annotations": [{"segmentation": ...}], "images": [...]}    COCO annotations
    {"shapes": [{"label": "dog", "points": ...}], ...}           labelme
"""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import pictures, rle

_WHAT = "objects as JSON (COCO run lengths or polygons, or labelme)"
_SUBPIXEL_BITS = 4
_FINER = 5
_MAX_COORDINATE = 1e5
_MAX_PARTS = 2000  # Polygons of one file; each may take as long as filling the frame.


class Shape(NamedTuple):
    """One object of a file, or a part of one.

    Attributes:
      key: its identity: an id 1..254, a name, or its place in the file.
      draw: the frame's height and width -> bool mask of that size.
      parts: number of polygons.
    """

    key: Hashable
    draw: Callable[[int, int], np.ndarray]
    parts: int = 1


def read(path: str | os.PathLike[str], size: tuple[int, int], id_of: Callable) -> np.ndarray:
    """Returns the ids of a frame, uint8 [height, width]; where shapes overlap the last one wins.

    Args:
      path: the file.
      size: height and width of the frame.
      id_of: key of an object (see `Shape`) -> its id, 1..254.

    Raises:
      InputError: the file is no such JSON, or is of another size than the frame.
    """
    content = whole_files.read_json(path, _WHAT)
    ids = np.zeros(_size(path, content, size), np.uint8)
    parts = 0
    try:
        for shape in _shapes(content):
            parts += shape.parts
            if parts > _MAX_PARTS:
                raise ValueError(f"more than {_MAX_PARTS} polygons or masks")
            ids[shape.draw(*ids.shape)] = id_of(shape.key)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        found = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
        raise InputError(f"{path}: expected {_WHAT}, found something else ({found})") from error
    return ids


def _size(path: Any, content: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size that the file names, or else the frame's."""
    named = None
    if isinstance(content, dict):
        first = content.get("images")
        first = first[0] if isinstance(first, list) and first else content
        if isinstance(first, dict):
            named = (
                first.get("height", first.get("imageHeight")),
                first.get("width", first.get("imageWidth")),
            )
    if named is None or None in named:
        return size
    if not all(type(side) is int and side > 0 for side in named):
        raise InputError(f"{path}: expected height and width of the frame, found {named}")
    pictures.check_size(path, *named)
    return named


def _shapes(content: Any) -> Iterator[Shape]:
    """Yields the objects of a file; raises ValueError and the like for other contents."""
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        for shape in content["shapes"]:
            yield _labelme(shape)
        return
    if isinstance(content, dict) and "annotations" in content:
        content = _of_one_image(content)
    entries = content if isinstance(content, list) else [content]
    for place, entry in enumerate(entries, 1):
        segmentation = entry.get("segmentation", entry)
        given = next((entry[k] for k in ("object_id", "track_id") if k in entry), None)
        parts = len(segmentation) if isinstance(segmentation, list) else 1
        yield Shape(place if given is None else given, _coco(segmentation), parts)


def _of_one_image(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the annotations; raises ValueError where they belong to several pictures."""
    entries = content["annotations"]
    images = {entry.get("image_id") for entry in entries}
    if len(images) > 1:
        raise ValueError(f"annotations of {len(images)} pictures, expected those of one frame")
    return entries


def _coco(segmentation: Any) -> Callable[[int, int], np.ndarray]:
    """Returns a function that draws run lengths or polygons [[x, y, x, y, ...], ...]."""
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        counts = segmentation["counts"]
        if not isinstance(counts, (str, list)):
            raise ValueError("counts are neither text nor a list")

        def draw(frame_height: int, frame_width: int) -> np.ndarray:
            if (height, width) != (frame_height, frame_width):
                raise ValueError(
                    f"run lengths of {width}x{height} pixels (width x height), not of the frame's "
                    f"{frame_width}x{frame_height}"
                )
            return rle.decode(counts, height, width)

        return draw
    polygons = [np.asarray(points, np.float64).reshape(-1, 2) for points in segmentation]
    return lambda height, width: _filled(polygons, height, width)


def _labelme(shape: dict[str, Any]) -> Shape:
    """Returns one shape; shapes with the same label and group are one object."""
    label, group = str(shape["label"]), shape.get("group_id")
    key = int(label) if label.isdecimal() and len(label) < 4 else label
    points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
    kind = shape.get("shape_type", "polygon")
    if kind == "mask":
        pixels = _embedded(shape["mask"])
        draw = lambda height, width: _pasted(pixels, points, height, width)  # noqa: E731
    else:
        polygon = _outline(kind, points)
        draw = lambda height, width: _filled([polygon], height, width)  # noqa: E731
    return Shape(key if group is None else f"{key} {group}", draw)


def _outline(kind: str, points: np.ndarray) -> np.ndarray:
    """Returns the polygon of a labelme shape, float [points, 2]."""
    if kind == "polygon":
        return points
    if kind not in ("rectangle", "circle") or len(points) != 2:
        raise ValueError(f"a shape {kind!r} of {len(points)} points has no inside")
    (x, y), (right, bottom) = points
    if kind == "rectangle":
        return np.array([[x, y], [right, y], [right, bottom], [x, bottom]])
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    radius = np.hypot(right - x, bottom - y)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


def _filled(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Returns bool [height, width]: the center of the pixel lies inside one of the polygons."""
    canvas = np.zeros((height, width), bool)
    for points in polygons:
        if len(points) < 3 or not np.abs(points).max() <= _MAX_COORDINATE:
            raise ValueError("a polygon needs three points or more, near the frame")
        low = np.clip(np.floor(points.min(0)), 0, (width, height)).astype(int)
        high = np.clip(np.ceil(points.max(0)), low, (width, height)).astype(int)
        # OpenCV fills the outline, too; on a finer grid that is too little to reach a center.
        fine = np.zeros((high - low)[::-1] * _FINER, np.uint8)
        fixed = np.round(((points - low) * _FINER - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
        if fine.size:
            cv2.fillPoly(fine, [fixed], 1, shift=_SUBPIXEL_BITS)
            middles = fine[_FINER // 2 :: _FINER, _FINER // 2 :: _FINER]
            canvas[low[1] : high[1], low[0] : high[0]] |= middles.astype(bool)
    return canvas


def _embedded(text: str) -> np.ndarray:
    """Returns the bool mask of a PNG in base64. Raises ValueError where it is none."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
            pictures.check_size("mask", image.height, image.width)
            return np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, binascii.Error, InputError) as error:
        raise ValueError(f"a mask that is no PNG in base64: {error}") from error


def _pasted(pixels: np.ndarray, points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns bool [height, width] with `pixels` at their upper left point."""
    if not np.abs(points).max() <= _MAX_COORDINATE:
        raise ValueError("a mask far from the frame")
    left, top = np.round(points[0]).astype(int)
    rows, columns = np.nonzero(pixels)
    rows, columns = rows + top, columns + left
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    canvas = np.zeros((height, width), bool)
    canvas[rows[inside], columns[inside]] = True
    return canvas

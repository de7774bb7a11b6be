"""Reads masks that people draw or other programs write, in any of their forms.

A mask is an indexed or gray picture whose values are ids; one white object on black; a picture in
which every color is an object, on black or on the frame itself; one picture per object; or JSON
(see `mask_json`). `ObjectNumbers.reading` reports how colors and names were interpreted.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Union

import cv2
import numpy as np
from PIL import Image, ImageOps

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import mask_json, masks, pictures, soft_edges

MAX_DRAWN_OBJECTS = 100
"""A gray mask with more values than this was smoothed by a paint program."""
_SEEN = 128  # Pixels with a lower opacity are background.
_NOISE = 16  # How far JPEG moves values away from black and white at quality 90 and above.
_SHARE_OF_FRAME = 0.3  # A drawing on the frame leaves at least this share of it unchanged.
_PALETTE_GRAYS = (64, 128, 192)  # Grays in the DAVIS palette, of ids 56, 7 and 63.
ReadFrame = Callable[[tuple], Union[np.ndarray, None]]


class ObjectNumbers:
    """Assigns ids to colors and names, consistently in all masks of a video.

    Keys are ids themselves; names; ("entry", n) for the n-th object of a file; (name, group); and
    colors (red, green, blue). A color of the DAVIS palette gets its id there and an entry its
    number n, if these are free; all others get the lowest free id.

    Attributes:
      is_softened: whether a mask had soft edges, which were cut.
    """

    def __init__(self):
        self._ids: dict[mask_json.Key, int] = {}
        self._values: set[int] = set()  # Ids that masks held as they are.
        self._inexact: set[tuple] = set()  # Colors that JPEG or soft edges may have changed.
        self.is_softened = False

    def id_of(self, key: mask_json.Key) -> int:
        """Returns the id for a key.

        Raises:
          ValueError: an id is not in 1..254 or already taken by another key, or there are more
            objects than ids.
        """
        if type(key) not in (int, str, tuple):
            raise ValueError(f"expected the number or name of an object, found {key!r}")
        if key not in self._ids:
            self._ids[key] = self._new_id(key)
        return self._ids[key]

    def reserve(self, ids: np.ndarray) -> None:
        """Keeps the ids in a mask, uint8 [height, width], from being given to other keys."""
        self._values.update(masks.object_ids(ids))

    def ids_of_drawing(self, drawing: soft_edges.Drawing) -> list[int]:
        """Returns the id of each color of a drawing.

        It is that of the same color in an earlier drawing; else, if either drawing is soft, that of
        the nearest color within JPEG's noise; else a new one.

        Raises:
          ValueError: see `id_of`.
        """
        known = {k: v for k, v in self._ids.items() if isinstance(k, tuple) and len(k) == 3}
        found = {color: known[color] for color in drawing.colors if color in known}
        for color in drawing.colors:
            near = {
                max(abs(a - b) for a, b in zip(key, color)): value
                for key, value in known.items()
                if (drawing.is_soft or key in self._inexact) and value not in found.values()
            }
            if color not in found:
                is_near = min(near, default=VOID) <= _NOISE
                found[color] = near[min(near)] if is_near else self.id_of(color)
        if drawing.is_soft:
            self._inexact.update(drawing.colors)
        return [found[color] for color in drawing.colors]

    def reading(self) -> str:
        """Returns `1 = (255, 0, 0), 2 = dog`; empty if all objects have plain ids."""
        assigned = [
            f"{value} = {_printable(key)}"
            for key, value in self._ids.items()
            if key not in (value, ("entry", value))
        ]
        return ", ".join(assigned + ["soft edges cut at half"] * self.is_softened)

    def _new_id(self, key: mask_json.Key) -> int:
        taken = {value: key for key, value in self._ids.items()}
        if isinstance(key, int):
            if not 0 < key < VOID:
                raise ValueError(f"expected object ids 1..{VOID - 1}, found {key}")
            if key in taken:
                raise ValueError(
                    f"expected a free id, found {key}, which is already that of "
                    f"{_printable(taken[key])}: use ids in all masks, or names or colors in all"
                )
            return key
        wanted = None
        if isinstance(key, tuple) and key[0] == "entry":
            wanted = key[1]
        elif isinstance(key, tuple) and len(key) == 3:
            same = (key == masks.DAVIS_PALETTE).all(-1).nonzero()[0]
            wanted = int(same[0]) if same.size else None
        if wanted is not None and 0 < wanted < VOID and wanted not in taken:
            return wanted
        free = {*range(1, VOID)} - taken.keys() - self._values
        if not free:
            raise ValueError(f"expected at most {VOID - 1} objects")
        return min(free)


def read(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None,
    numbers: ObjectNumbers | None = None,
    read_frame: ReadFrame = lambda size: None,
) -> np.ndarray:
    """Returns object ids, uint8 [height, width]; 0 is background, 255 void.

    Args:
      path: the mask.
      size: (height, width) of its frame, for JSON that does not specify it.
      numbers: ids of the video's objects so far; new ones are added. None for a single mask.
      read_frame: takes the (height, width) of a mask that seems to be drawn on its frame; returns
        the frame, uint8 [height, width, 3], or None if it is not of that size.

    Raises:
      InputError: the file is not a mask, or its objects cannot be told apart.
    """
    path, numbers = pathlib.Path(path), numbers or ObjectNumbers()
    if path.suffix.lower() == ".json":
        ids = mask_json.read(path, size, numbers.id_of)
    else:
        with pictures.opened(path, "a mask (PNG or JSON)") as opened:
            ids = of_picture(path, opened, numbers, read_frame)
    numbers.reserve(ids)
    return ids


def of_picture(
    name: str | os.PathLike[str],
    picture: Image.Image,
    numbers: ObjectNumbers | None = None,
    read_frame: ReadFrame = lambda size: None,
) -> np.ndarray:
    """Returns the object ids of an opened picture, called `name` in messages. See `read`.

    Raises:
      InputError: see `read`.
    """
    numbers = numbers or ObjectNumbers()
    count = pictures.count_in(picture)
    if count > 1:
        raise InputError(f"{name}: expected a mask, found {count} pictures in one file")
    image = ImageOps.exif_transpose(picture)
    if image.mode in ("P", "L", "1") or image.mode[0] in "IF":
        values = _eight_bits(name, np.array(image))
        if picture.format != "JPEG" and (image.mode != "P" or _has_ids(image, values)):
            return _ids_of_values(name, values, image.mode == "P", numbers)
    colors = np.array(image.convert("RGBA"))
    return _ids_of_colors(name, colors, numbers, read_frame, picture.format)


def read_each(
    paths: Sequence[str | os.PathLike[str]], size: tuple[int, int], numbers: ObjectNumbers
) -> np.ndarray:
    """Returns the ids of objects with one file each, 1, 2, ..., uint8 [height, width].

    The files may have any form that `read` accepts. Where they overlap, the last one wins.

    Raises:
      InputError: a file is not a mask of one object, or differs in size from the first.
    """
    if len(paths) >= VOID:
        raise InputError(f"expected at most {VOID - 1} masks of one object, found {len(paths)}")
    ids = None
    for number, path in enumerate(paths, 1):
        found = ObjectNumbers()
        one = read(path, size, found)
        numbers.is_softened |= found.is_softened
        objects = masks.object_ids(one)
        if len(objects) != 1:
            raise InputError(f"{path}: expected one object per file, found {len(objects)}")
        ids = np.zeros(one.shape, np.uint8) if ids is None else ids
        pictures.check_same_size(path, one.shape, ids.shape, str(paths[0]))
        ids[one == objects[0]] = numbers.id_of(number)
    return ids


def _eight_bits(path: str | os.PathLike[str], values: np.ndarray) -> np.ndarray:
    """Returns the values of one channel, integers of up to 32 bits or floats, as uint8."""
    found = np.unique(values)
    if found.tolist() in ([0, 65535], [65535]):
        return (values > 0).astype(np.uint8)
    if not ((found >= 0) & (found <= VOID) & (found == np.floor(found))).all():
        shown = f"{found[0]:g}..{found[-1]:g}" if len(found) else "nothing"
        raise InputError(f"{path}: expected whole object ids 0..{VOID}, found {shown}")
    return values.astype(np.uint8)


def _ids_of_values(
    path: str | os.PathLike[str], values: np.ndarray, is_indexed: bool, numbers: ObjectNumbers
) -> np.ndarray:
    """Returns the ids of a single-channel picture; white on black is object 1."""
    found = np.unique(values)
    if set(found) == {0, VOID} or (found.tolist() == [VOID] and not is_indexed):
        return (values != 0).astype(np.uint8)
    if is_indexed:
        return values
    dark, light = found[found <= _NOISE], found[found >= VOID - _NOISE]
    if len(dark) + len(light) == len(found) and min(len(dark), len(light)) > 1:
        return (values > VOID // 2).astype(np.uint8)  # Was once saved as JPEG.
    drawing = soft_edges.separate(np.dstack([values] * 3), MAX_DRAWN_OBJECTS)
    if drawing is not None and not drawing.is_soft:
        return values
    return _ids_of_drawing(path, drawing, len(found), numbers)


def _has_ids(image: Image.Image, indices: np.ndarray) -> bool:
    """Returns whether the indices of an indexed picture are ids, not mere references to colors.

    Paint programs sort a palette by color or frequency, as for GIF, so that black or transparent
    pixels have an index other than 0. In a palette of ids, such as that of DAVIS, 0 is the
    background. Indices are not ids either if their colors form soft edges.
    """
    palette = np.asarray(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    used = np.unique(indices)
    if used[-1] < len(palette) and (palette[used, :3] == masks.DAVIS_PALETTE[used]).all():
        return True
    is_background = ~palette[:, :3].any(1) | (palette[:, 3] < _SEEN)
    clear = image.info.get("transparency")
    if isinstance(clear, int) and clear < len(palette):
        is_background[clear] = True
    if not is_background[0] and is_background[used[used < len(palette)]].any():
        return False
    drawing = soft_edges.separate(np.array(image.convert("RGB")), MAX_DRAWN_OBJECTS)
    return drawing is not None and not drawing.is_soft


def _ids_of_colors(
    path: str | os.PathLike[str],
    colors: np.ndarray,
    numbers: ObjectNumbers,
    read_frame: ReadFrame,
    format_name: str,
) -> np.ndarray:
    """Returns one id per color of uint8 [height, width, 4]; black or transparent is background."""
    is_seen = colors[..., 3] >= _SEEN
    opaque = np.where(is_seen[..., None], colors[..., :3], 0).astype(np.uint8)
    if is_seen.any() and not is_seen.all() and not opaque.any():
        return is_seen.astype(np.uint8)  # Black on transparency.
    is_gray = (opaque == opaque[..., :1]).all()
    if is_gray and format_name != "JPEG":
        found = np.unique(opaque[..., 0])
        # Other grays are ids, as in some copies of DAVIS 2016.
        if not set(found) <= {0, VOID, *_PALETTE_GRAYS} or not set(found) & set(_PALETTE_GRAYS):
            return _ids_of_values(path, opaque[..., 0], False, numbers)
    drawing = soft_edges.separate(opaque, is_lossy=format_name == "JPEG")
    frame = read_frame(opaque.shape[:2]) if drawing is None else None
    if frame is not None and frame.shape == opaque.shape:
        is_same = cv2.absdiff(opaque, frame).max(-1) <= _NOISE
        if is_same.mean() >= _SHARE_OF_FRAME:
            drawing = soft_edges.separate(opaque, frame=frame)
    num_colors = len(np.unique(masks.packed(opaque))) if drawing is None else 0
    return _ids_of_drawing(path, drawing, num_colors, numbers, format_name)


def _ids_of_drawing(
    path: str | os.PathLike[str],
    drawing: soft_edges.Drawing | None,
    num_colors: int,
    numbers: ObjectNumbers,
    format_name: str = "PNG",
) -> np.ndarray:
    """Returns the ids of a drawing's colors; raises InputError if `drawing` is None."""
    if drawing is None:
        lossy = " (JPEG adds colors to those drawn)" if format_name == "JPEG" else ""
        raise InputError(
            f"{path}: expected one color per object, on black or on the frame itself, found "
            f"{num_colors} colors{lossy}: it may be a photograph; draw each object in one "
            "saturated color and save it as PNG"
        )
    numbers.is_softened |= drawing.is_soft
    if drawing.is_soft and len(drawing.colors) == 1 and len({*drawing.colors[0]}) == 1:
        return drawing.labels.astype(np.uint8)
    return np.array([0, *numbers.ids_of_drawing(drawing)], np.uint8)[drawing.labels]


def _printable(key: mask_json.Key) -> str:
    text = " ".join(map(str, key)) if isinstance(key, tuple) and len(key) == 2 else str(key)
    return text if text.isprintable() else repr(text)

"""Reads masks that people draw or other programs write, in all their forms.

A mask is an indexed or gray picture whose values are ids; one white object on black; a picture in
which every color is an object; or JSON (see `mask_json`). `ObjectNumbers.reading` says how colors
and names were understood.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Hashable

import cv2
import numpy as np
from PIL import Image, ImageOps

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import mask_json, masks, pictures

MAX_DRAWN_OBJECTS = 100
"""A mask with more values than this was smoothed by a paint program."""
MAX_COLORS = 40
"""The same for the colors of a picture."""
_FORMATS = ("PNG", "BMP", "GIF", "TIFF", "WEBP")
_WIDEST_RIM = 3.0  # Pixels of smoothed outline around a white object.
_FEWEST_STEPS = 6  # Values of a picture that may come from a blurred outline.
_SEEN = 128  # Less opaque pixels are background.
_NOISE = 16  # How far JPEG moves values away from black and white at quality 90 and above.


class ObjectNumbers:
    """The ids of colors and names, the same in all masks of a video.

    A color of the DAVIS palette gets its id there, a number is its own id, and everything else gets
    the lowest free id.
    """

    def __init__(self):
        self._ids: dict[Hashable, int] = {}

    def id_of(self, key: Hashable) -> int:
        """Returns the id of a color (tuple), name or number.

        Raises:
          ValueError: the number is not in 1..254, or there are more objects than ids.
        """
        if key not in self._ids:
            self._ids[key] = self._new_id(key)
        return self._ids[key]

    def reading(self) -> str:
        """Returns `1 = (255, 0, 0), 2 = dog`; empty where all objects have plain ids."""
        named = {key: value for key, value in self._ids.items() if not isinstance(key, int)}
        return ", ".join(f"{value} = {_printable(key)}" for key, value in named.items())

    def _new_id(self, key: Hashable) -> int:
        taken = set(self._ids.values())
        if isinstance(key, int):
            if not 0 < key < VOID:
                raise ValueError(f"expected object ids 1..{VOID - 1}, found {key}")
            return key
        if isinstance(key, tuple):
            same = (key == masks.DAVIS_PALETTE).all(-1).nonzero()[0]
            if same.size and 0 < same[0] < VOID and same[0] not in taken:
                return int(same[0])
        free = next((value for value in range(1, VOID) if value not in taken), None)
        if free is None:
            raise ValueError(f"expected at most {VOID - 1} objects")
        return free


def read(path: str | os.PathLike[str], size: tuple[int, int], numbers: ObjectNumbers) -> np.ndarray:
    """Returns object ids, uint8 [height, width]; 0 is background, 255 void.

    Args:
      path: the mask.
      size: height and width of its frame, for polygons, which need not say.
      numbers: ids of the video's objects so far; new ones are added.

    Raises:
      InputError: the file is no mask, or has soft edges.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == ".json":
        return mask_json.read(path, size, numbers.id_of)
    with pictures.opened(path, "a mask (PNG or JSON)", _FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("P", "L", "1") or image.mode.startswith("I"):
            values = np.array(image)
            if values.max() > VOID or values.min() < 0:
                raise InputError(
                    f"{path}: expected object ids 0..{VOID}, found {values.min()}..{values.max()}"
                )
            if image.mode != "P" or not _has_background_elsewhere(image, values):
                return _ids_of_values(path, values.astype(np.uint8), image.mode == "P")
        colors = np.array(image.convert("RGBA"))
    return _ids_of_colors(path, colors, numbers)


def _ids_of_values(path: pathlib.Path, values: np.ndarray, is_indexed: bool = False) -> np.ndarray:
    """Returns the ids of a picture of one channel; white on black is object 1."""
    found = np.unique(values)
    if set(found) == {0, VOID} or (found.tolist() == [VOID] and not is_indexed):
        return (values != 0).astype(np.uint8)
    dark, light = found[found <= _NOISE], found[found >= VOID - _NOISE]
    is_noisy = len(dark) + len(light) == len(found) and min(len(dark), len(light)) > 1
    if is_noisy and not is_indexed:  # Once saved as JPEG.
        return (values > VOID // 2).astype(np.uint8)
    _check_not_smoothed(path, values)
    if not is_indexed:
        _check_solid(path, values)
    return values


def _has_background_elsewhere(image: Image.Image, indices: np.ndarray) -> bool:
    """Returns whether pixels of an indexed picture are black or clear by another index than 0.

    Paint programs sort a palette by colors or by frequency, as for GIF, so that the indices are no
    ids. In a palette of ids, such as that of DAVIS, 0 is the background.
    """
    palette = np.asarray(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    is_background = ~palette[:, :3].any(1) | (palette[:, 3] < _SEEN)
    clear = image.info.get("transparency")
    if isinstance(clear, int) and clear < len(palette):
        is_background[clear] = True
    used = np.unique(indices)
    return not is_background[0] and is_background[used[used < len(palette)]].any()


def _ids_of_colors(path: pathlib.Path, colors: np.ndarray, numbers: ObjectNumbers) -> np.ndarray:
    """Returns one id per color of uint8 [height, width, 4]; black and clear are background."""
    opaque = np.where(colors[..., 3:] < _SEEN, 0, colors[..., :3])
    if (opaque == opaque[..., :1]).all():
        return _ids_of_values(path, opaque[..., 0])
    packed = opaque @ np.array([1 << 16, 1 << 8, 1])
    found, inverse = np.unique(packed, return_inverse=True)
    if len(found) > MAX_COLORS:
        raise InputError(
            f"{path}: expected one color per object, found {len(found)} colors: the mask seems to "
            "be smoothed or a photograph; save it without antialiasing"
        )
    inverse = inverse.reshape(packed.shape)
    _check_solid(path, inverse.astype(np.uint8))
    ids = [_id_of_color(int(color), numbers) for color in found]
    return np.array(ids, np.uint8)[inverse]


def _id_of_color(packed: int, numbers: ObjectNumbers) -> int:
    color = (packed >> 16, packed >> 8 & 255, packed & 255)
    return numbers.id_of(color) if packed else 0


def _check_not_smoothed(path: pathlib.Path, ids: np.ndarray) -> None:
    """Raises InputError where a paint program has smoothed the outlines of a drawn mask."""
    counts = np.bincount(ids.ravel(), minlength=VOID + 1)
    num_values = np.count_nonzero(counts)
    if num_values > MAX_DRAWN_OBJECTS:
        raise InputError(
            f"{path}: expected one value per object, found {num_values} values: "
            "the mask seems to be smoothed; save it without antialiasing"
        )
    others = (ids != 0) & (ids != VOID)
    if not counts[VOID] or not others.any():
        return
    to_white = cv2.distanceTransform((ids != VOID).astype(np.uint8), cv2.DIST_L2, 3)
    is_rim = np.mean(to_white[others] <= _WIDEST_RIM) > 0.95
    if is_rim and (counts[VOID] > others.sum() or num_values > 4):
        raise InputError(
            f"{path}: expected one value per object, found {counts[VOID]} pixels of value {VOID} "
            f"(void) with {num_values - 2} other values along their outline: a smoothed white "
            f"object? save it without antialiasing, with 0 and {VOID} alone"
        )


def _check_solid(path: pathlib.Path, values: np.ndarray) -> None:
    """Raises InputError where most values are lines or dots: steps of a blurred outline."""
    found = np.unique(values)
    if len(found) < _FEWEST_STEPS:
        return
    square = np.ones((3, 3), np.uint8)
    solid = [cv2.erode((values == value).astype(np.uint8), square).any() for value in found]
    if sum(solid) < len(found) / 2:
        raise InputError(
            f"{path}: expected one value or color per object, found {len(found)}, of which "
            f"{len(found) - sum(solid)} are no wider than a line: the mask seems to be smoothed; "
            "save it without antialiasing"
        )


def _printable(key: Hashable) -> str:
    text = str(key)
    return text if text.isprintable() else repr(text)

"""Images and masks of any type that callers have: arrays, lists, tensors, PIL images, files.

Unambiguous input is accepted; anything else is rejected with a message that names the fix.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

import numpy as np
from PIL import Image, ImageOps

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import given_mask, masks, pictures, video

_IMAGE = "expected an image, uint8 [height, width, 3]"
_MASK = "expected a mask, uint8 [height, width] of object ids"
ImageLike = Union[np.ndarray, Sequence, Image.Image, str, os.PathLike]
"""uint8 [height, width, 3] RGB as an array, tensor or list; gray [height, width] or with one
channel; with transparency, which is ignored; whole numbers 0 to 255 of another type; fractions 0
to 1; a PIL image; the path of a picture."""
MaskLike = Union[np.ndarray, Sequence, Image.Image, str, os.PathLike, Mapping[int, Any]]
"""uint8 [height, width] of object ids, 0 background and 255 void, as an array, tensor or list;
bool, for one object; ids of another type; a PIL image or the path of a mask, read as by `--mask`;
a dict of object id -> the mask of that object alone; the last one wins where they overlap."""


def as_frames(frames: Iterable[ImageLike] | str | os.PathLike[str]) -> Iterable[ImageLike]:
    """Returns the frames of a clip; a path may be that of a video or of a folder of frames."""
    return video.open_frames(frames) if isinstance(frames, (str, os.PathLike)) else frames


def as_image(image: ImageLike) -> np.ndarray:
    """Returns an image, uint8 [height, width, 3] RGB.

    Raises:
      InputError: it is not an image, or its values are ambiguous.
    """
    if isinstance(image, (str, os.PathLike)):
        return pictures.read_image(image)
    if isinstance(image, Image.Image):
        if image.mode[0] in "IF":
            raise InputError(f"{_IMAGE}, found a PIL image of mode {image.mode}")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    values = _array(image, _IMAGE)
    if values.ndim == 2:
        values = values[..., np.newaxis]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or not values.size:
        hint = ""
        if values.ndim == 3 and values.shape[0] in (1, 3):
            hint = "; channels come last here: np.moveaxis(image, 0, -1)"
        raise InputError(f"{_IMAGE}, found {values.dtype} {list(values.shape)}{hint}")
    values = _eight_bits(values)
    return np.repeat(values, 3, 2) if values.shape[2] == 1 else values[..., :3]


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Returns the values of an image as uint8."""
    if values.dtype == np.uint8:
        return values
    kind = values.dtype.kind
    found = f"{values.dtype} values"
    if kind != "b" and np.isfinite(values).all():
        low, high = values.min(), values.max()
        if kind == "f" and low >= 0 and high <= 1:
            return np.round(values * 255).astype(np.uint8)
        if low >= 0 and high <= 255 and (kind != "f" or (values == np.floor(values)).all()):
            return values.astype(np.uint8)
        found += f" from {low:g} to {high:g}"
    elif kind != "b":
        found += " that are not finite"
    raise InputError(f"{_IMAGE}, or fractions from 0 to 1, found {found}")


def as_mask(mask: MaskLike, size: tuple[int, int]) -> np.ndarray:
    """Returns a mask, uint8 [height, width].

    Args:
      mask: of any of these types.
      size: height and width of its frame.

    Raises:
      InputError: it is not a mask, has another size, or its values are ambiguous.
    """
    if isinstance(mask, (str, os.PathLike)):
        ids = given_mask.read(mask, size)
    elif isinstance(mask, Image.Image):
        ids = given_mask.of_picture("mask", mask)
    elif isinstance(mask, Mapping):
        ids = _of_objects(mask, size)
    else:
        ids = _of_values(_array(mask, _MASK))
    if ids.shape != size:
        raise InputError(
            f"expected a mask [height, width] of the frames' size {list(size)}, found "
            f"{list(ids.shape)}"
        )
    return ids


def _of_values(values: np.ndarray) -> np.ndarray:
    """Returns a mask from an array of numbers."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim != 2 or not values.size:
        hint = ""
        if values.ndim == 3 and values.shape[0] == 1:
            hint = "; mask[0] has two dimensions"
        elif values.ndim == 3 and values.shape[2] in (3, 4):
            hint = "; colors are read from a file or a PIL image"
        raise InputError(f"{_MASK}, found {values.dtype} {list(values.shape)}{hint}")
    if values.dtype in (np.uint8, bool):
        return values.astype(np.uint8, copy=False)
    if not np.isfinite(values).all() or (values != np.floor(values)).any():
        raise InputError(f"{_MASK}, found fractions; for probabilities, use mask > 0.5")
    if values.min() < 0 or values.max() > VOID:
        raise InputError(f"{_MASK}, 0 to {VOID}, found {values.min():g} to {values.max():g}")
    return values.astype(np.uint8)


def as_pair(image: ImageLike, mask: MaskLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image and its mask. See `as_image`, `as_mask` and `check_marks`."""
    image = as_image(image)
    mask = as_mask(mask, image.shape[:2])
    check_marks(mask)
    return image, mask


def _of_objects(each: Mapping[int, Any], size: tuple[int, int]) -> np.ndarray:
    """Returns one mask from a mask per object."""
    if not each:
        raise InputError(f"{_MASK}, found an empty dict")
    ids = np.zeros(size, np.uint8)
    for object_id, one in each.items():
        is_number = isinstance(object_id, (int, np.integer)) and not isinstance(object_id, bool)
        if not is_number or not 0 < object_id < VOID:
            raise InputError(f"expected object ids 1..{VOID - 1} as keys, found {object_id!r}")
        one = as_mask(one, size)
        # One object may be painted in any value, such as white.
        painted = np.setdiff1d(one, [0])
        if len(painted) > 1:
            raise InputError(
                f"expected the mask of object {object_id} alone, found the values "
                f"{', '.join(map(str, painted))}"
            )
        ids[one != 0] = object_id
    return ids


def check_marks(mask: np.ndarray, background_counts: bool = False) -> None:
    """Raises InputError unless a mask marks something.

    Args:
      mask: uint8 [height, width].
      background_counts: whether 0 marks something, or only objects do.
    """
    if not masks.object_ids(mask) and not (background_counts and (mask == 0).any()):
        white = "; for white on black, use mask > 0" if (mask == VOID).any() else ""
        raise InputError(
            "expected a mask with at least one object, found none (0 is background, "
            f"{VOID} void{white})"
        )


def _array(value: Any, expected: str) -> np.ndarray:
    """Returns an array, tensor or list as an array of numbers."""
    try:
        # Tensors of other libraries may need more than a conversion, e.g. a move to the CPU.
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{expected}, found {type(value).__name__} ({error})") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{expected}, found {type(value).__name__}")
    return array

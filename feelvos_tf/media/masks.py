"""Reads and writes masks: indexed PNGs whose pixel values are object ids."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageOps

from feelvos_tf.core import atomic_files
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import pictures


def _davis_palette() -> np.ndarray:
    """Returns the color of each id, uint8 [256, 3].

    This is the Pascal VOC color map, which DAVIS uses as well: bits 0, 1, 2 of the id are the top
    bits of red, green, blue; bits 3, 4, 5 the next ones, and so on.
    """
    ids = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    bits = np.pad(np.unpackbits(ids, axis=1, bitorder="little"), [(0, 0), (0, 1)])
    of_channels = bits.reshape(256, 3, 3)  # [ids, bits from the top, channels]
    return np.packbits(of_channels, axis=1)[:, 0]  # The other five bits are 0.


DAVIS_PALETTE = _davis_palette()

Color = tuple[int, int, int]


def read_annotation(
    path: str | os.PathLike[str],
    binary: bool = False,
    colors: Mapping[Color, int] | None = None,
) -> np.ndarray:
    """Returns the object ids of an indexed, gray or one-bit PNG, uint8 [height, width].

    Palette indices are read as they are. (`tf.io.decode_png` would turn them into colors.) Gray may
    be stored as opaque LA, RGB or RGBA, as in some copies of DAVIS 2016. A mask is rotated only by
    its own EXIF data, not by that of its picture.

    Args:
      path: the PNG.
      binary: the mask is one object painted 255 on 0, as in DAVIS 2016: values above 127 become
        id 1, all others 0. If no gray value is that high, or the PNG is indexed, the mask holds
        ids (DAVIS 2017 files in place of DAVIS 2016), which all become 1.
      colors: (red, green, blue) -> id, for a mask that holds colors.

    Raises:
      InputError: the file is missing, unreadable, or holds colors other than those given.
    """
    pixels, indexed = read_pixels(path)
    if colors:
        return _ids_of_colors(path, pixels, colors)
    if pixels.ndim == 3:
        raise InputError(
            f"{path}: expected a mask with one object id per pixel (an indexed or gray PNG), found "
            "colors or transparency"
        )
    if binary:
        painted = not indexed and pixels.max() > 127
        pixels = pixels > (127 if painted else 0)
    return pixels.astype(np.uint8)


def read_pixels(path: str | os.PathLike[str]) -> tuple[np.ndarray, bool]:
    """Returns the pixels of a mask PNG, and whether it is indexed.

    Returns:
      pixels: values of a gray or indexed PNG, uint8 or bool [height, width]; otherwise colors,
        uint8 [height, width, 3], black where transparent.
      indexed: whether the values are palette indices.

    Raises:
      InputError: the file is missing, unreadable, semi-transparent, or has more than 8 bits.
    """
    with pictures.opened(path, "a mask PNG", ("PNG",)) as image:
        pixels = np.array(ImageOps.exif_transpose(image))
        mode = image.mode
    if mode in ("P", "L", "1"):
        return pixels, mode == "P"
    if mode in ("LA", "RGB", "RGBA"):
        colors = pixels[..., : len(mode) - mode.count("A")]
        alpha = pixels[..., -1:] if mode[-1] == "A" else np.full_like(pixels[..., :1], 255)
        if (alpha == 255).all() and (colors == colors[..., :1]).all():
            return colors[..., 0], False
        if np.isin(alpha, (0, 255)).all():
            return np.broadcast_to(np.where(alpha, colors, 0), (*alpha.shape[:2], 3)), False
    raise InputError(
        f"{path}: expected a mask with one object id per pixel (an indexed or gray PNG), found "
        f"{'semi-transparent colors' if mode[-1] == 'A' else 'another kind'} ({mode})"
    )


def _ids_of_colors(
    path: str | os.PathLike[str], pixels: np.ndarray, colors: Mapping[Color, int]
) -> np.ndarray:
    """Returns the ids of uint8 [height, width, 3] (gray: [height, width]); black is background."""
    pixels = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
    keys = packed(pixels)
    ids = np.zeros(keys.shape, np.uint8)
    for color, value in colors.items():
        ids[keys == packed(np.array(color))] = value
    if (keys[ids == 0] > 0).any():
        other = tuple(pixels[(ids == 0) & (keys > 0)][0].tolist())
        raise InputError(
            f"{path}: expected the colors {', '.join(map(str, colors))}, found {other}"
        )
    return ids


def write_mask(path: str | os.PathLike[str], ids: np.ndarray) -> None:
    """Writes an indexed PNG with the DAVIS palette, atomically; parent folders are created.

    Args:
      path: the PNG to write.
      ids: object ids [height, width], any integer type, values 0..255.
    """
    ids = np.asarray(ids)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"expected integer ids [height, width], got {ids.dtype} {ids.shape}")
    if ids.size and (ids.min() < 0 or ids.max() > 255):
        raise ValueError(f"object ids are 0..255, got {ids.min()}..{ids.max()}")
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(DAVIS_PALETTE.tobytes())
    with atomic_files.replacing(path) as temporary:
        image.save(temporary, format="PNG")


def object_ids(ids: np.ndarray, least_pixels: int = 1) -> list[int]:
    """Returns the sorted ids of objects with enough pixels in a uint8 mask."""
    pixels = np.bincount(np.ravel(ids), minlength=256)
    pixels[[0, VOID]] = 0
    return np.flatnonzero(pixels >= least_pixels).tolist()


def is_object(ids: np.ndarray) -> np.ndarray:
    """Returns where a mask shows neither background (0) nor void (255), bool."""
    return (ids != 0) & (ids != VOID)


def packed(colors: np.ndarray) -> np.ndarray:
    """Returns red * 65536 + green * 256 + blue for colors [..., 3], int32 [...]."""
    wide = colors.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def bounds(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Returns top, bottom, left and right of the True pixels of a bool mask [height, width].

    Bottom and right are exclusive. None if no pixel is True.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Returns the rows and columns of a mask plus a margin; all of them if it is empty."""
    found = bounds(mask)
    if found is None:
        return slice(None), slice(None)
    return tuple(
        slice(max(0, begin - margin), end + margin) for begin, end in (found[:2], found[2:])
    )

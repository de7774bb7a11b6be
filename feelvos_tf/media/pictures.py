"""Reads pictures as RGB, checking that they are complete and not too large; writes pictures."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from feelvos_tf.core import atomic_files, whole_files
from feelvos_tf.core.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_PIXELS = 1 << 26
"""Pictures, frames and masks with more pixels (twice those of 8K video) are refused."""
# Regardless of the suffix. For other formats PIL may start programs, such as Ghostscript for EPS.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str], what: str, formats: tuple[str, ...] = _FORMATS
) -> Iterator[Image.Image]:
    """Yields an opened picture of a sensible size and, for a PNG, with the right checksums.

    Args:
      path: the file.
      what: what was expected there, e.g. "a picture".
      formats: PIL's names of the accepted formats.

    Raises:
      InputError: the file is missing, of another format, too large or corrupt, or the block fails.
    """
    whole_files.check_is_file(path, what)
    with whole_files.errors_about(path, what):
        with Image.open(path, formats=formats) as image:
            check_size(path, image.height, image.width)
            if image.format == "PNG":
                # Decoding skips the checksum of the pixels.
                image.verify()
        with Image.open(path, formats=formats) as image:
            yield image


def count_in(image: Image.Image) -> int:
    """Returns how many pictures an opened file holds: pages, or those of an animation."""
    return getattr(image, "n_frames", 1)


def check_single(path: str | os.PathLike[str], image: Image.Image) -> None:
    """Raises InputError if an opened file holds several pictures."""
    count = count_in(image)
    # Phones append a preview or a gain map to a JPEG, which then is MPO: not another picture.
    if count > 1 and image.format != "MPO":
        raise InputError(f"{path}: expected one picture per file, found {count}")


def is_visible(path: pathlib.Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> bool:
    """Returns whether a file is not hidden and has one of the suffixes, in upper or lower case."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def natural_key(path: pathlib.Path) -> list[tuple[int, int, str]]:
    """Returns a sort key under which runs of digits count as numbers."""
    parts = re.split(r"(\d+)", path.stem)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def in_natural_order(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the paths with `frame2.jpg` before `frame10.jpg`, always in the same order."""
    return sorted(sorted(paths), key=natural_key)


def check_size(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Raises InputError unless a picture has at least one pixel and at most `MAX_PIXELS`."""
    if not 0 < height * width <= MAX_PIXELS or min(height, width) < 0:
        raise InputError(
            f"{path}: expected 1 to {MAX_PIXELS} pixels in a picture, found {width}x{height}"
        )


def check_same_size(
    name: str | os.PathLike[str], shape: Sequence[int], wanted: Sequence[int], like: str
) -> None:
    """Raises InputError unless a shape [height, width, ...] has the size of the one that is wanted.

    The sentence calls what has the shape `name`, and that whose size is wanted `like`.
    """
    (height, width), (h, w) = wanted[:2], shape[:2]
    if (h, w) != (height, width):
        raise InputError(f"{name}: expected {width}x{height} pixels like {like}, found {w}x{h}")


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Returns a picture as uint8 [height, width, 3] RGB, rotated upright by its EXIF data.

    16-bit gray values are scaled to 8 bits. Transparent pixels keep their color.

    Raises:
      InputError: the file is missing, corrupt, or not a single picture of 8 or 16 bits per channel.
    """
    with opened(path, "a picture") as image:
        check_single(path, image)
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            image = _eight_bits(image)
        if image.mode[0] in "IF":
            raise InputError(
                f"{path}: expected a picture of 8 or 16 bits per channel, found mode {image.mode}"
            )
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns a 16-bit gray picture with values scaled from 0..65535 to 0..255."""
    values = np.asarray(image).astype(np.uint32)
    result = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    result.getexif().update(image.getexif())
    return result


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes uint8 RGB [height, width, 3] or gray [height, width] as .jpg or .png, atomically."""
    with atomic_files.replacing(path) as temporary:
        Image.fromarray(image).save(temporary, quality=90)

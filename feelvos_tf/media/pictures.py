"""Reads pictures as RGB, checked whole and of a bearable size; writes pictures."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import regular_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_PIXELS = 1 << 26
"""Pictures, frames and masks with more pixels are refused: twice what 8K video has."""
# Whatever the suffix says; PIL would start other programs for some formats, Ghostscript for EPS.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# What PIL reports damaged files with.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    TypeError,
    LookupError,
    Image.DecompressionBombError,
)


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str], what: str, formats: tuple[str, ...] = _FORMATS
) -> Iterator[Image.Image]:
    """Yields an opened picture whose size is bearable and, of a PNG, whose checksums are right.

    Args:
      path: the file.
      what: what was expected there, e.g. "a picture".
      formats: the names of those that are taken, see PIL.

    Raises:
      InputError: the file is missing, of another format, too large or damaged. What PIL reports
        inside the block becomes one, too.
    """
    regular_file.check(path, what)
    try:
        with warnings.catch_warnings():
            # PIL warns of large pictures and of odd metadata; what cannot be used is told below.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=formats) as image:
                check_size(path, image.height, image.width)
                if image.format == "PNG":
                    # Decoding skips the checksum of the pixels.
                    image.verify()
            with Image.open(path, formats=formats) as image:
                yield image
    except _DAMAGE as error:
        raise InputError(f"{path}: cannot be read as {what} ({error})") from error


def check_size(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Raises InputError where a picture has no pixels or more than memory should be asked for."""
    if not 0 < height * width <= MAX_PIXELS or min(height, width) < 0:
        raise InputError(
            f"{path}: expected 1 to {MAX_PIXELS} pixels in a picture, found {width}x{height}"
        )


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Returns a picture as uint8 [height, width, 3] RGB, turned as its EXIF data says.

    Gray values of 16 bits are scaled to 8. What is transparent keeps its color.

    Raises:
      InputError: the file is missing, no picture of 8 or 16 bits per channel, or damaged.
    """
    with opened(path, "a picture") as image:
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
    """Writes uint8 [height, width, 3] RGB as .jpg or .png, whole or not at all."""
    with atomic_files.replacing(path) as temporary:
        Image.fromarray(image).save(temporary, quality=90)

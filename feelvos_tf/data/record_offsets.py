"""Finds where the records of a TFRecord file begin, even after one whose length is corrupt.

A record is its length (uint64, little endian), the length's checksum, its bytes, their checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from feelvos_tf.core.errors import InputError

_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4
_HEADER_BYTES = _LENGTH_BYTES + _CHECKSUM_BYTES
_BLOCK = 1 << 20


def record_offsets(path: Path, on_corrupt: Callable[[str], None] | None = None) -> list[int]:
    """Returns the byte at which each record of a TFRecord file begins.

    Args:
      path: the file.
      on_corrupt: called with a message, instead of raising, for a record with a corrupt length or
        one inside which the file ends; that record is skipped.

    Raises:
      InputError: the file is missing, ends inside a record, or holds a corrupt length.
    """
    if not path.is_file():
        found = "a folder; name the files in it" if path.is_dir() else "no such file"
        raise InputError(f"{path}: expected a TFRecord file, found {found}")
    size, position, offsets = path.stat().st_size, 0, []
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(_HEADER_BYTES)
            end = _end(position, header)
            if end is not None and end <= size:
                offsets.append(position)
                position = end
                continue
            what = f"the file ends inside record {len(offsets) + 1}"
            if end is None and len(header) == _HEADER_BYTES:
                what = f"the length of record {len(offsets) + 1} is corrupt"
            message = f"{path}: {what} (is it a complete TFRecord file?)"
            if on_corrupt is None:
                raise InputError(message)
            on_corrupt(message)
            position = _next(file, position + 1, size)
    return offsets


def _end(position: int, header: bytes) -> int | None:
    """Returns where a record ends; None if its length does not match its checksum."""
    if len(header) < _HEADER_BYTES:
        return None
    length, checksum = struct.unpack("<QI", header)
    [expected] = _checksums(np.frombuffer(header, np.uint8)[None, :_LENGTH_BYTES])
    return None if checksum != expected else position + _HEADER_BYTES + length + _CHECKSUM_BYTES


def _next(file: BinaryIO, position: int, size: int) -> int:
    """Returns the start of the next complete record from `position` on; `size` if there is none."""
    while position + _HEADER_BYTES <= size:
        file.seek(position)
        block = np.frombuffer(file.read(_BLOCK + _HEADER_BYTES - 1), np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(block, _HEADER_BYTES)
        found = np.ascontiguousarray(windows[:, _LENGTH_BYTES:]).view("<u4")[:, 0]
        for place in np.flatnonzero(found == _checksums(windows[:, :_LENGTH_BYTES])):
            if _end(position + int(place), windows[place].tobytes()) <= size:
                return position + int(place)
        position += len(windows)
    return size


def _checksums(lengths: np.ndarray) -> np.ndarray:
    """Returns TFRecord's masked CRC-32C of lengths, uint8 [n, 8] -> uint32 [n]."""
    crc = np.full(len(lengths), 0xFFFFFFFF, np.uint32)
    for column in lengths.T:
        crc = _TABLE[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc = ~crc
    return (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)


def _table() -> np.ndarray:
    """Returns the CRC-32C lookup table, uint32 [256]."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(0x82F63B78), values >> 1)
    return values.astype(np.uint32)


_TABLE = _table()

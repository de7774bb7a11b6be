"""Run lengths and boxes of binary masks in COCO's format.

The format is that of pycocotools: runs go down the columns and begin with zeros; as text, each
number is the difference from the one two before, in groups of five bits, lowest first, plus 48.
pycocotools itself (2.0.11) is not safe for untrusted files: runs that do not fill the mask return
uninitialized memory, and a polygon with a coordinate of 1e9 kills the process.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from feelvos_tf.media import masks


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Returns {"size": [height, width], "counts": text} for a bool mask [height, width]."""
    pixels = np.asarray(mask, bool).ravel(order="F")
    ends = np.flatnonzero(np.diff(pixels, prepend=False))
    counts = np.diff(ends, prepend=0, append=pixels.size)
    return {"size": list(mask.shape), "counts": _text(counts)}


def decode(counts: str | list[int], height: int, width: int) -> np.ndarray:
    """Returns the bool mask [height, width] of runs, which are given as text or as numbers.

    Raises:
      ValueError: the runs do not fill the mask exactly.
    """
    runs = _numbers(counts) if isinstance(counts, str) else counts
    if not all(type(run) is int and 0 <= run <= height * width for run in runs):
        raise ValueError("run lengths are not pixel counts")
    if sum(runs) != height * width:
        raise ValueError(f"run lengths add up to {sum(runs)}, not to {height} x {width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def box(mask: np.ndarray) -> list[float]:
    """Returns [x, y, width, height] of a bool mask's bounding box; zeros if it is empty."""
    top, bottom, left, right = masks.bounds(mask) or (0, 0, 0, 0)
    return [float(v) for v in (left, top, right - left, bottom - top)]


def _text(counts: np.ndarray) -> str:
    counts = counts.tolist()
    characters = []
    for position, count in enumerate(counts):
        value = count - counts[position - 2] if position > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            characters.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(characters)


def _numbers(text: str) -> list[int]:
    """Returns the runs encoded in a text. Raises ValueError if it is malformed."""
    numbers, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("the counts are not run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
            value, shift = 0, 0
    if shift:
        raise ValueError("the counts are truncated")
    return numbers

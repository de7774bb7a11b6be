"""Drawn masks in the layouts of the data sets, for tests of the score."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from feelvos_tf.media import masks
from feelvos_tf.testing import drawn_videos

SIZE = (48, 80)


def draw(frame: int, objects: Iterable[int], error: int = 0) -> np.ndarray:
    """Returns uint8 ids [48, 80] as in `drawn_videos.draw`.

    Args:
      frame: position in the sequence.
      objects: the ids.
      error: pixels by which predicted disks are too low.
    """
    return drawn_videos.draw(frame, objects, SIZE, lower=error)[1]


def write_masks(folder: pathlib.Path, sequence: Sequence[np.ndarray], step: int = 1) -> None:
    """Writes `00000.png ...`, numbered in steps as sparsely annotated data sets are."""
    for i, ids in enumerate(sequence):
        masks.write_mask(folder / f"{i * step:05d}.png", ids)


def write_images(folder: pathlib.Path, count: int, step: int = 1) -> None:
    """Writes gray JPEG frames of the masks' size."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", SIZE[::-1], (90, 120, 90)).save(folder / f"{i * step:05d}.jpg")


def write_predictions(
    folder: pathlib.Path, objects: dict[str, Sequence[int]], frames: int = 8, error: int = 2
) -> pathlib.Path:
    """Writes predictions for the same sequences, each disk `error` pixels too low."""
    for name, ids in objects.items():
        write_masks(folder / name, [draw(i, ids, error) for i in range(frames)])
    return folder

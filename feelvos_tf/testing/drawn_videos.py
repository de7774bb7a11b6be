"""Drawn videos of moving colored disks, for tests of inference."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from feelvos_tf.media import masks, video_writing

COLORS = np.array([[90, 110, 90], [220, 40, 40], [40, 60, 220], [230, 200, 40]], np.uint8)
"""Colors of the background and of the objects in the order they are drawn."""


def draw(
    frame: int, ids: Iterable[int], size: tuple[int, int] = (48, 80), lower: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns image uint8 [height, width, 3] and ids uint8 [height, width] of moving disks.

    There is one disk per id; all are drawn `lower` pixels lower.
    """
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, np.uint8)
    image = np.broadcast_to(COLORS[0], (*size, 3)).copy()
    for place, value in enumerate(ids):
        center_y, center_x = 10 + 14 * place + lower, 14 + 22 * place + 2 * frame
        inside = (y - center_y) ** 2 + (x - center_x) ** 2 < 50
        mask[inside] = value
        image[inside] = COLORS[1 + place]
    return image, mask


def write_davis(
    root: pathlib.Path,
    sequences: dict[str, Sequence[int]],
    num_frames: int = 5,
    year: str = "2017",
    split: str = "val",
) -> pathlib.Path:
    """Writes sequences (name -> ids) in DAVIS layout, nominally at 480p; returns `root`."""
    for name, ids in sequences.items():
        images = root / "JPEGImages" / "480p" / name
        images.mkdir(parents=True)
        for frame in range(num_frames):
            image, mask = draw(frame, ids)
            Image.fromarray(image).save(images / f"{frame:05d}.jpg", quality=98)
            path = root / "Annotations" / "480p" / name / f"{frame:05d}.png"
            if year == "2016":
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((mask > 0).astype(np.uint8) * 255).save(path)
            else:
                masks.write_mask(path, mask)
    names = root / "ImageSets" / year / f"{split}.txt"
    names.parent.mkdir(parents=True)
    names.write_text("\n".join(sequences) + "\n")
    return root


def write_video(path: pathlib.Path, images: Iterable[np.ndarray], frames_per_second: float) -> None:
    """Writes an .mp4 with a constant frame rate."""
    with video_writing.writing_video(path, frames_per_second) as write:
        for image in images:
            write(image)

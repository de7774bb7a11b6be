"""Shows the masks of two runs over the same video, side by side.

    python tools/side_by_side.py --video=clip.mp4 --left=masks --right=other_masks \\
        --output=compare.mp4

Only frames with a mask in both folders are shown. Timestamps and sound are those of the source.
"""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from tqdm import tqdm

from feelvos_tf.core import cli, whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import masks, overlay, video, video_writing

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_VIDEO = _DEFINE.string("video", "The video, or a folder of images.", required=True)
_LEFT = _DEFINE.string("left", "Folder of masks shown on the left.", required=True)
_RIGHT = _DEFINE.string("right", "Folder of masks shown on the right.", required=True)
_OUTPUT = _DEFINE.string("output", "The .mp4 to write.", required=True)


def main() -> None:
    """Writes the comparison video."""
    frames = video.open_frames(_VIDEO.value)
    folders = [pathlib.Path(folder) for folder in (_LEFT.value, _RIGHT.value)]
    video_writing.check_video_path(_OUTPUT.value)
    if whole_files.is_among(_OUTPUT.value, frames.paths):
        raise InputError(f"{_OUTPUT.value}: expected a file to write, found the video itself")
    for folder in folders:
        whole_files.check_is_folder(folder, "a folder of masks")
    sound = frames.paths[0] if len(frames.paths) == 1 else None
    with video_writing.writing_video(_OUTPUT.value, frames.frames_per_second, sound) as write:
        for frame in tqdm(frames.timed(), unit="frame", total=frames.length):
            paths = [folder / f"{frames.name(frame.number)}.png" for folder in folders]
            if all(path.is_file() for path in paths):
                write(beside(frame.image, *map(masks.read_annotation, paths)), frame.time)
    print(f"written: {_OUTPUT.value}")


def beside(image: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the image with each mask, side by side.

    Args:
      image: uint8 [height, width, 3] RGB.
      left: uint8 ids; both halves get its size.
      right: uint8 ids.
    """
    size = left.shape[::-1]
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    right = cv2.resize(right, size, interpolation=cv2.INTER_NEAREST)
    return overlay.contact_sheet([overlay.overlay(image, ids) for ids in (left, right)], columns=2)


if __name__ == "__main__":
    cli.run(main)

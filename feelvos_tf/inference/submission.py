"""The zip file for an evaluation server: the masks of a whole split and nothing else.

DAVIS 2017 (test-dev)    <sequence>/00000.png ...                every frame
YouTube-VOS              Annotations/<video>/00005.png ...       the frames of meta.json
"""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Callable, Sequence

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.inference import input_video
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.media import masks

FOLDERS = {"davis_2017": "", "youtube_vos": "Annotations/"}
"""Data set with a server -> the folder in the zip file for the videos' folders."""


def check(path: str, dataset: str, is_whole_split: bool) -> None:
    """Raises InputError if no server would accept these masks."""
    if pathlib.Path(path).suffix.lower() != ".zip":
        raise InputError(f"--submission: expected a name that ends in .zip, found {path}")
    datasets.check_names("--submission: --dataset", [dataset], list(FOLDERS))
    if not is_whole_split:
        raise InputError("--submission: expected a whole split, found --sequences")


def write(
    path: str,
    dataset: str,
    videos: Sequence[InputVideo],
    folder_of: Callable[[InputVideo], pathlib.Path],
) -> int:
    """Writes the zip file atomically and returns the number of its masks.

    Args:
      path: the file.
      dataset: one of `FOLDERS`.
      videos: of the split.
      folder_of: returns the folder of a video's masks.

    Raises:
      InputError: a mask is missing, differs in size from its frame, or has ids that were not given.
    """
    count = 0
    with atomic_files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for video in videos:
            asked = range(video.frames.length) if video.asked is None else sorted(video.asked)
            for name in map(video.frames.name, asked):
                mask = folder_of(video) / f"{name}.png"
                _check_mask(mask, video)
                archive.write(mask, f"{FOLDERS[dataset]}{video.name}/{name}.png")
                count += 1
    return count


def _check_mask(path: pathlib.Path, video: InputVideo) -> None:
    """Raises InputError if a server would reject a mask or score it wrongly."""
    ids, is_indexed = masks.read_pixels(path)
    if not is_indexed or ids.shape != video.size:
        raise InputError(
            f"{path}: expected an indexed PNG of {input_video.size_of(video.size)} pixels like the "
            f"frames, found {input_video.size_of(ids.shape)}{' not indexed' * (not is_indexed)}"
        )
    unknown = sorted(set(masks.object_ids(ids)) - set(video.object_ids()))
    if unknown:
        raise InputError(
            f"{path}: expected the given objects {', '.join(map(str, video.object_ids()))}, found "
            f"{unknown[0]}"
        )

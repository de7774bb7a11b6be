"""What prediction starts from: a video and the mask of its first frame, both still on disk."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.media import masks, video

MAX_DRAWN_OBJECTS = 100
"""A mask from a paint program with more values than this was smoothed, and is no mask of ids."""


@dataclass(frozen=True)
class InputVideo:
    """A video to segment.

    Attributes:
      name: what to call it.
      frames: its frames.
      mask_path: the mask of the first frame.
      binary_mask: the mask is one object painted 255 on 0; None: find out from its values.
      new_objects: position of a frame -> its mask and the ids that appear there first. Only
        YouTube-VOS has objects that appear later.
    """

    name: str
    frames: video.Frames
    mask_path: pathlib.Path
    binary_mask: bool | None = None
    new_objects: Mapping[int, tuple[pathlib.Path, tuple[int, ...]]] = field(default_factory=dict)

    def first_mask(self) -> np.ndarray:
        """Returns the ids of the first frame, uint8 [height, width].

        Raises:
          InputError: the mask cannot be read or holds no object.
        """
        ids = masks.read_mask(self.mask_path, binary=bool(self.binary_mask))
        values = np.unique(ids)
        if self.binary_mask is None and set(values) <= {0, masks.VOID}:
            ids = (ids != 0).astype(np.uint8)
        if not masks.object_ids(ids):
            raise InputError(
                f"{self.mask_path}: expected a mask with at least one object, found only the "
                f"value{'s' * (len(values) > 1)} {' and '.join(map(str, values))} "
                f"(0 is background, {masks.VOID} is void except in DAVIS 2016)"
            )
        if self.binary_mask is None and len(values) > MAX_DRAWN_OBJECTS:
            raise InputError(
                f"{self.mask_path}: expected one value per object, found {len(values)} values: "
                "the mask seems to be smoothed; save it without antialiasing"
            )
        return ids

    def frame_name(self, position: int) -> str:
        """Returns the name of a frame's picture, or its number in a video: `00012`."""
        return self.frames.names[position] if self.frames.names else f"{position:05d}"

    def mask_of_new_objects(self, position: int) -> np.ndarray:
        """Returns the mask at `position` with nothing but the objects that are new there."""
        path, new_ids = self.new_objects[position]
        ids = masks.read_mask(path)
        return np.where(np.isin(ids, new_ids), ids, 0).astype(np.uint8)

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that change with the mask or the files of the frames."""
        digest = hashlib.sha256(self.first_mask().tobytes())
        for path in self.frames.paths:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        return digest.hexdigest()[:16]


def from_sequences(sequences: Iterable[VideoFiles]) -> list[InputVideo]:
    """Returns the clips of a data set's sequences, each of which has a mask for its first frame."""
    return [
        InputVideo(
            name=sequence.name,
            frames=video.ImageFrames(sequence.frames),
            mask_path=sequence.masks[0],
            binary_mask=sequence.binary_masks,
            new_objects=_new_objects(sequence),
        )
        for sequence in sequences
    ]


def from_video(source: str | os.PathLike[str], mask_path: str | os.PathLike[str]) -> InputVideo:
    """Returns the clip of a video file or a folder of pictures.

    Args:
      source: see `video.open_frames`.
      mask_path: the first frame's mask: one id per object, or a single object as 255 on 0.
    """
    return InputVideo(pathlib.Path(source).name, video.open_frames(source), pathlib.Path(mask_path))


def check(clip: InputVideo) -> None:
    """Raises InputError unless the mask holds an object and fits the first frame."""
    mask = clip.first_mask()
    first = next(iter(clip.frames), None)
    if first is None:
        raise InputError(f"{clip.name}: expected a video with frames, found none")
    if first.shape[:2] != mask.shape:
        raise InputError(
            f"{clip.mask_path}: expected a mask of {size_of(first)} pixels (width x height) like "
            f"the first frame of {clip.name}, found {size_of(mask)}"
        )


def size_of(image: np.ndarray) -> str:
    """Returns `854x480` for an array [480, 854, ...]."""
    return f"{image.shape[1]}x{image.shape[0]}"


def _new_objects(sequence: VideoFiles) -> dict[int, tuple[pathlib.Path, tuple[int, ...]]]:
    """Returns where objects appear that the first frame does not show. See `InputVideo`."""
    first_positions = {key: positions[0] for key, positions in sequence.object_frames.items()}
    result = {}
    for position in sorted(set(first_positions.values()) - {0}):
        path = sequence.masks[position]
        ids = tuple(key for key, first in first_positions.items() if first == position)
        if path is None:
            raise InputError(
                f"{sequence.name}: objects {', '.join(map(str, ids))} appear in frame "
                f"{sequence.frames[position].stem}, which has no mask"
            )
        result[position] = (path, ids)
    return result

"""A video to segment and the given masks of its objects, still on disk."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.media import masks, video

MAX_DRAWN_OBJECTS = 100
"""A mask from a paint program with more values than this was smoothed, and is no mask of ids."""
_WIDEST_RIM = 3.0  # Pixels of smoothed outline around a white object.


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
          InputError: one of the video's masks cannot be used.
        """
        return self._given_masks[0].unpacked()

    def mask_of_new_objects(self, position: int) -> np.ndarray:
        """Returns the mask at `position` with nothing but the objects that are new there.

        Raises:
          InputError: one of the video's masks cannot be used.
        """
        return self._given_masks[position].unpacked()

    def object_ids(self) -> list[int]:
        """Returns the ids of all objects, ascending."""
        given = [masks.object_ids(mask.unpacked()) for mask in self._given_masks.values()]
        return sorted(set().union(*given))

    def frame_name(self, position: int) -> str:
        """Returns the name of a frame's picture, or its number in a video: `00012`."""
        return self.frames.names[position] if self.frames.names else f"{position:05d}"

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that change with the masks or the files of the frames."""
        digest = hashlib.sha256(self.first_mask().tobytes())
        for path in self.frames.paths:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        for position in sorted(self.new_objects):
            digest.update(f"{position}\n".encode())
            digest.update(self.mask_of_new_objects(position).tobytes())
        return digest.hexdigest()[:16]

    @functools.cached_property
    def _given_masks(self) -> dict[int, _PackedMask]:
        """Position -> mask; each file is read once."""
        given = {0: _PackedMask(_read_first_mask(self.mask_path, self.binary_mask))}
        for position, (path, ids) in self.new_objects.items():
            given[position] = _PackedMask(_read_new_objects(path, ids))
        return given


class _PackedMask:
    """A mask in some kilobytes: those of a whole data set wait in memory for their turn."""

    def __init__(self, ids: np.ndarray):
        self._shape = ids.shape
        self._packed = zlib.compress(ids.tobytes(), level=1)

    def unpacked(self) -> np.ndarray:
        """Returns uint8 [height, width]."""
        return np.frombuffer(zlib.decompress(self._packed), np.uint8).reshape(self._shape)


def from_dataset(videos: Iterable[VideoFiles]) -> list[InputVideo]:
    """Returns the videos of a data set, each of which has a mask for its first frame."""
    return [
        InputVideo(
            name=files.name,
            frames=video.ImageFrames(files.frames),
            mask_path=files.masks[0],
            binary_mask=files.binary_masks,
            new_objects=_new_objects(files),
        )
        for files in videos
    ]


def from_video(source: str | os.PathLike[str], mask_path: str | os.PathLike[str]) -> InputVideo:
    """Returns what is to be segmented of a video file or a folder of pictures.

    Args:
      source: see `video.open_frames`.
      mask_path: the first frame's mask: one id per object, or a single object as 255 on 0.
    """
    return InputVideo(pathlib.Path(source).name, video.open_frames(source), pathlib.Path(mask_path))


def check(input_video: InputVideo) -> None:
    """Raises InputError unless the masks hold objects and fit the first frame."""
    given = {input_video.mask_path: input_video.first_mask()}
    for position, (path, _) in input_video.new_objects.items():
        given[path] = input_video.mask_of_new_objects(position)
    first = next(iter(input_video.frames), None)
    if first is None:
        raise InputError(f"{input_video.name}: expected a video with frames, found none")
    for path, mask in given.items():
        if first.shape[:2] != mask.shape:
            raise InputError(
                f"{path}: expected a mask of {size_of(first)} pixels (width x height) like the "
                f"first frame of {input_video.name}, found {size_of(mask)}"
            )


def size_of(image: np.ndarray) -> str:
    """Returns `854x480` for an array [480, 854, ...]."""
    return f"{image.shape[1]}x{image.shape[0]}"


def _read_first_mask(path: pathlib.Path, binary: bool | None) -> np.ndarray:
    """Returns the ids of the first frame, uint8 [height, width]. See `InputVideo`.

    Raises:
      InputError: the mask cannot be read, holds no object or was smoothed.
    """
    ids = masks.read_mask(path, binary=bool(binary))
    values = np.unique(ids)
    if binary is None and set(values) <= {0, VOID}:
        ids = (ids != 0).astype(np.uint8)
    if not masks.object_ids(ids):
        raise InputError(
            f"{path}: expected a mask with at least one object, found only the "
            f"value{'s' * (len(values) > 1)} {' and '.join(map(str, values))} "
            f"(0 is background, {VOID} is void except in DAVIS 2016)"
        )
    if binary is None:
        _check_not_smoothed(path, ids)
    return ids


def _check_not_smoothed(path: pathlib.Path, ids: np.ndarray) -> None:
    """Raises InputError where a paint program has smoothed the outlines of a drawn mask."""
    counts = np.bincount(ids.ravel(), minlength=VOID + 1)
    num_values = np.count_nonzero(counts)
    if num_values > MAX_DRAWN_OBJECTS:
        raise InputError(
            f"{path}: expected one value per object, found {num_values} values: "
            "the mask seems to be smoothed; save it without antialiasing"
        )
    others = (ids != 0) & (ids != VOID)
    if not counts[VOID] or not others.any():
        return
    to_white = cv2.distanceTransform((ids != VOID).astype(np.uint8), cv2.DIST_L2, 3)
    is_rim = np.mean(to_white[others] <= _WIDEST_RIM) > 0.95
    if is_rim and (counts[VOID] > others.sum() or num_values > 4):
        raise InputError(
            f"{path}: expected one value per object, found {counts[VOID]} pixels of value {VOID} "
            f"(void) with {num_values - 2} other values along their outline: a smoothed white "
            f"object? save it without antialiasing, with 0 and {VOID} alone"
        )


def _read_new_objects(path: pathlib.Path, new_ids: tuple[int, ...]) -> np.ndarray:
    """Returns a mask with nothing but `new_ids`, uint8 [height, width].

    Raises:
      InputError: the mask cannot be read or lacks one of them.
    """
    ids = masks.read_mask(path)
    lacking = sorted(set(new_ids) - set(masks.object_ids(ids)))
    if lacking:
        raise InputError(
            f"{path}: expected pixels of the objects that appear here first "
            f"({', '.join(map(str, new_ids))}), found none of {', '.join(map(str, lacking))}"
        )
    return np.where(np.isin(ids, new_ids), ids, 0).astype(np.uint8)


def _new_objects(files: VideoFiles) -> dict[int, tuple[pathlib.Path, tuple[int, ...]]]:
    """Returns where objects appear that the first frame does not show. See `InputVideo`."""
    first_positions = {key: positions[0] for key, positions in files.object_frames.items()}
    result = {}
    for position in sorted(set(first_positions.values()) - {0}):
        path = files.masks[position]
        ids = tuple(key for key, first in first_positions.items() if first == position)
        if path is None:
            raise InputError(
                f"{files.name}: objects {', '.join(map(str, ids))} appear in frame "
                f"{files.frames[position].stem}, which has no mask"
            )
        result[position] = (path, ids)
    return result

"""A video to propagate masks through and the given masks of its objects, both still on disk."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import secrets
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from feelvos_tf.core import whole_files
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.inference.window import downsample_mask
from feelvos_tf.media import given_mask, masks, pictures, video
from feelvos_tf.media.points import Marks
from feelvos_tf.media.selection import SelectedFrames, Selection

LaterMask = tuple[pathlib.Path, Optional[tuple[int, ...]]]


@dataclass(frozen=True)
class InputVideo:
    """A video to propagate masks through.

    Attributes:
      name: name of the video.
      source: all of its frames.
      mask_path: the mask of the first frame.
      binary_mask: whether the mask is one object painted 255 on 0; None if it, like the later ones,
        may have any form that `given_mask.read` accepts.
      later_masks: position of a frame -> its mask and the ids to take from it, None for all. New
        objects are added, known ones corrected.
      selection: which frames to use, and at what size. Positions count within it.
      later_marks: position of a frame -> points that correct its propagated mask, at the size of
        the selection.
      asked: positions of the frames whose masks are wanted; None for all.
      more_masks: masks of the second, third, ... object if each object has its own file.
      problem: why the video cannot be opened, which is raised when it is used; empty if it can.
    """

    name: str
    source: video.Frames
    mask_path: pathlib.Path
    binary_mask: bool | None = None
    later_masks: Mapping[int, LaterMask] = field(default_factory=dict)
    later_marks: Mapping[int, Sequence[Marks]] = field(default_factory=dict)
    selection: Selection = Selection()
    asked: frozenset[int] | None = None
    more_masks: tuple[pathlib.Path, ...] = ()
    problem: str = ""
    _numbers: given_mask.ObjectNumbers = field(
        default_factory=given_mask.ObjectNumbers, init=False, compare=False
    )

    @functools.cached_property
    def frames(self) -> SelectedFrames:
        """The selected frames."""
        return SelectedFrames(self.source, self.selection)

    def first_mask(self) -> np.ndarray:
        """Returns the ids of the first frame, uint8 [height, width].

        Raises:
          InputError: one of the video's masks cannot be used.
        """
        return self._given_mask(0)

    def later_mask(self, position: int) -> np.ndarray | None:
        """Returns the ids that the mask given at `position`, 0 for the first, marks; None if none.

        Raises:
          InputError: one of the video's masks cannot be used.
        """
        return self._given_mask(position) if position in self._packed_masks else None

    def is_asked(self, position: int) -> bool:
        """Returns whether the mask of a frame is wanted."""
        return self.asked is None or position in self.asked

    @property
    def mask_paths(self) -> list[pathlib.Path]:
        """The files of all given masks."""
        later = [path for path, _ in self.later_masks.values()]
        return [self.mask_path, *self.more_masks, *later]

    def object_ids(self) -> list[int]:
        """Returns the ids of all objects, ascending."""
        given = [masks.object_ids(self._given_mask(position)) for position in self._packed_masks]
        return sorted(set().union(*given))

    def reading(self) -> str:
        """Returns which color or name became which id; empty if the masks hold ids."""
        return self._numbers.reading() if self._packed_masks else ""

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that change with the masks, the frames and the selection.

        Frame files are compared by name, size and modification time, as rsync does: reading a long
        video once more would delay its first mask. A live source never has the same fingerprint
        twice.

        Raises:
          InputError: a file or mask cannot be read.
        """
        digest = hashlib.sha256(self.first_mask().tobytes())
        if self.source.is_live:
            digest.update(secrets.token_bytes())
        for path in self.source.paths:
            digest.update(path.name.encode(errors="surrogateescape"))
            digest.update(_size_and_time(path))
        for position in sorted(self._packed_masks.keys() - {0}):
            digest.update(f"{position}\n".encode())
            digest.update(self._given_mask(position).tobytes())
        for position, marked in sorted(self.later_marks.items()):
            for marks in marked:
                points = (marks.points.tolist(), marks.labels.tolist())
                digest.update(repr((position, marks.object_id, points)).encode())
        if self.selection != Selection():
            digest.update(repr(self.selection).encode())
        return digest.hexdigest()[:16]

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame.

        Raises:
          InputError: there is no frame, or it cannot be read.
        """
        if self.problem:
            raise InputError(self.problem)
        first = self.frames.first()
        if first is None:
            after = f" from number {self.selection.start} on" if self.selection.start else ""
            raise InputError(f"{self.name}: expected a video with frames{after}, found none")
        return first.shape[:2]

    @functools.cached_property
    def _packed_masks(self) -> dict[int, tuple[bytes, tuple[int, ...]]]:
        """Position -> compressed mask and its shape. Each file is read once.

        They are compressed because those of a whole data set are in memory at once.
        """
        given = {0: _packed(self._first_mask())}
        for position, (path, ids) in sorted(self.later_masks.items()):
            mask = self._read(path, position) if ids is None else _read_new_objects(path, ids)
            if ids is None and not masks.object_ids(mask):
                raise InputError(f"{path}: expected a mask with at least one object, found none")
            if mask.any():
                given[position] = _packed(mask)
        return given

    def _given_mask(self, position: int) -> np.ndarray:
        packed, shape = self._packed_masks[position]
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)

    def _first_mask(self) -> np.ndarray:
        if self.binary_mask is None:
            ids = self._read(self.mask_path, 0)
        else:
            ids = masks.read_annotation(self.mask_path, binary=self.binary_mask)
        if not masks.object_ids(ids):
            values = np.unique(ids)
            is_white = self.binary_mask is False and values[-1] == VOID
            hint = "; the masks of DAVIS 2016 need --year=2016" if is_white else ""
            raise InputError(
                f"{self.mask_path}: expected a mask with at least one object, found only the "
                f"value{'s' * (len(values) > 1)} {' and '.join(map(str, values))} "
                f"(0 is background, {VOID} is void except in DAVIS 2016){hint}"
            )
        return ids

    def _read(self, path: pathlib.Path, position: int) -> np.ndarray:
        """Returns a mask drawn by a person, at the size the frames are scaled to."""
        size = self.size
        if position == 0 and self.more_masks:
            ids = given_mask.read_each((path, *self.more_masks), size, self._numbers)
        else:
            read_frame = functools.partial(self._frame_of_size, position)
            ids = given_mask.read(path, size, self._numbers, read_frame)
        _warn_of_background(path, ids)
        if ids.shape != size and self.selection.size(*ids.shape) == size:
            return downsample_mask(ids, size)
        return ids

    def _frame_of_size(self, position: int, size: tuple[int, int]) -> np.ndarray | None:
        """Returns a frame, original or scaled, uint8 [*size, 3]; None if neither has this size."""
        if self.source.is_live:
            found = self.frames.first() if position == 0 else None
        else:
            number = self.selection.number(position)
            frame = next(self.source.timed(number, number + 1), None)
            found = None if frame is None else frame.image
        if found is not None and found.shape[:2] != size:
            found = self.selection.scaled(found)
        return found if found is not None and found.shape[:2] == size else None


def _packed(ids: np.ndarray) -> tuple[bytes, tuple[int, ...]]:
    return zlib.compress(ids.tobytes(), level=1), ids.shape


def from_dataset(videos: Iterable[VideoFiles]) -> list[InputVideo]:
    """Returns the videos of a data set, each with a mask for its first frame."""
    return [
        InputVideo(
            name=files.name,
            source=video.ImageFrames(files.frames),
            mask_path=files.masks[0],
            binary_mask=files.binary_masks,
            later_masks=_new_objects(files),
            asked=_asked(files),
        )
        for files in videos
    ]


def from_video(
    source: str | os.PathLike[str] | video.Frames,
    mask_path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    later_masks: Mapping[int, str | os.PathLike[str]] | None = None,
    selection: Selection = Selection(),  # noqa: B008
    name: str | None = None,
    later_marks: Mapping[int, Sequence[Marks]] | None = None,
) -> InputVideo:
    """Returns one video to propagate masks through.

    Args:
      source: its frames, or what `video.open_frames` takes.
      mask_path: the first frame's mask, see `given_mask`; or several, each of one object.
      later_masks: number of a frame in the source -> its mask, with new objects or corrections.
      selection: which frames to use.
      name: name of the video; by default that of the source.
      later_marks: number of a selected frame in the source -> see `InputVideo`.

    Raises:
      InputError: the source cannot be used, or a mask is for a frame that is not selected.
    """
    frames = source
    if isinstance(source, (str, os.PathLike)):
        frames, name = video.open_frames(source), name or pathlib.Path(source).name
    placed = {}
    for number, path in (later_masks or {}).items():
        position = selection.position(number)
        if not position:
            raise InputError(
                f"{path}: expected a mask for a selected frame after the first "
                f"({selection.start}), found one for frame {number}"
            )
        placed[position] = (pathlib.Path(path), None)
    is_one = isinstance(mask_path, (str, os.PathLike))
    first, *more = map(pathlib.Path, [mask_path] if is_one else mask_path)
    marks = {selection.position(number): each for number, each in (later_marks or {}).items()}
    return InputVideo(
        name or "video", frames, first, None, placed, marks, selection, more_masks=tuple(more)
    )


def check(input_video: InputVideo) -> None:
    """Raises InputError unless the masks hold objects, fit the first frame and are no frames."""
    size = input_video.size
    for path in input_video.mask_paths:
        if whole_files.is_among(path, input_video.source.paths):
            raise InputError(
                f"{path}: expected a mask, found a frame of {input_video.name}: keep masks in "
                "another folder"
            )
    paths = {0: (input_video.mask_path, None), **input_video.later_masks}
    for position, (path, _) in paths.items():
        mask = input_video.later_mask(position)
        if mask is not None:
            like = f"the first frame of {input_video.name}"
            pictures.check_same_size(path, mask.shape, size, like)
    count = input_video.source.count() if input_video.later_masks else None
    if count is not None:
        selection = input_video.selection
        check_used(input_video, len(range(selection.start, count, selection.every)))


def check_used(input_video: InputVideo, length: int) -> None:
    """Raises InputError if a mask is given for a frame beyond the first `length` ones."""
    for position, (path, _) in sorted(input_video.later_masks.items()):
        if position >= length:
            raise InputError(
                f"{path}: expected a mask for a frame of {input_video.name}, which ends with frame "
                f"{input_video.selection.number(length - 1)}, found one for frame "
                f"{input_video.selection.number(position)}"
            )


def size_of(shape: tuple[int, ...]) -> str:
    """Returns `854x480` for [480, 854, ...]."""
    return f"{shape[1]}x{shape[0]}"


def _warn_of_background(path: pathlib.Path, ids: np.ndarray) -> None:
    """Warns about an object that reaches all borders: it may be a white background."""
    borders = (ids[0], ids[-1], ids[:, 0], ids[:, -1])
    for value in sorted(set.intersection(*(set(masks.object_ids(line)) for line in borders))):
        print(
            f"warning: {path}: object {value} reaches all four borders of the frame: if it is the "
            "background, paint that black or make it transparent",
            file=sys.stderr,
        )


def _size_and_time(path: pathlib.Path) -> bytes:
    """Returns a file's size and modification time as bytes."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return f"{status.st_size} {status.st_mtime_ns}\n".encode()


def _read_new_objects(path: pathlib.Path, new_ids: tuple[int, ...]) -> np.ndarray:
    """Returns a mask with only `new_ids`, uint8 [height, width].

    An object without pixels is skipped with a warning, since there is nothing to follow.
    """
    ids = masks.read_annotation(path)
    lacking = sorted(set(new_ids) - set(masks.object_ids(ids)))
    if lacking:
        print(
            f"warning: {path}: expected pixels of the objects that appear here first "
            f"({', '.join(map(str, new_ids))}), found none of {', '.join(map(str, lacking))}, "
            "which are skipped",
            file=sys.stderr,
        )
    return np.where(np.isin(ids, new_ids), ids, 0).astype(np.uint8)


def _asked(files: VideoFiles) -> frozenset[int] | None:
    """Returns the frames that YouTube-VOS lists for any object; None if it lists none."""
    listed = {position for frames in files.object_frames.values() for position in frames}
    return frozenset({0, *listed}) if listed else None


def _new_objects(files: VideoFiles) -> dict[int, LaterMask]:
    """Returns the `later_masks` of objects that are not in the first frame. See `InputVideo`."""
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

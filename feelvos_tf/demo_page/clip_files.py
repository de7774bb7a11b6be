"""A clip and its masks as one file per frame, and the downloads made from them."""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from fractions import Fraction

import av
import av.error
import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import masks, overlay, pictures, result_files, video_writing
from feelvos_tf.media.result_files import Result, ResultFiles, VideoFacts
from feelvos_tf.media.selection import Selection
from feelvos_tf.media.video import Frames

# Signatures of video files and their offsets in bytes: mp4 and mov, mkv and webm, avi.
_SIGNATURES = ((b"ftyp", 4), (b"moov", 4), (b"mdat", 4), (b"\x1a\x45\xdf\xa3", 0), (b"RIFF", 0))
_HEAD_BYTES = 4096
_LONGEST_CHARACTER = 4  # Bytes in UTF-8.
_CONTAINERS = "mov,mp4,matroska,webm,avi,gif,webp_anim,apng,mpeg,mpegts,ogg,flv,asf"
# A longer and narrower frame could be scaled down to nothing.
_LARGEST_RATIO = 20

Objects = Mapping[int, Mapping[str, str]]
"""id -> {"name": ..., "color": "#rrggbb"}."""
Write = Callable[["ClipFiles", Objects, pathlib.Path], None]


class ClipFiles:
    """The frames of a clip as `00000.jpg ...` and their masks as `00000.png ...`.

    Attributes:
      folder: holds the files.
      count: number of frames.
      size: height and width.
      frames_per_second: frame rate.
      pixel_aspect: see `Frames`.
      times: of each frame, in seconds since the first.
      is_cut: whether the clip was longer than the limit.
    """

    def __init__(self, folder: pathlib.Path, source: Frames, max_frames: int, max_side: int):
        """Writes the frames.

        Args:
          folder: an empty folder.
          source: the frames of the clip, with the times that its downloads get.
          max_frames: later frames are dropped.
          max_side: longest side of a frame, in pixels; larger frames are scaled down.

        Raises:
          InputError: there is no frame, or the frames are too narrow or differ in size.
        """
        self.folder = folder
        self.frames_per_second, self.pixel_aspect = source.frames_per_second, source.pixel_aspect
        self.count, self.size, self.is_cut = 0, (0, 0), False
        self.times: list[Fraction] = []
        for frame in source.timed():
            if self.count == max_frames:
                self.is_cut = True
                break
            image = _scaled(frame.image, max_side)
            if not self.count:
                self.size = image.shape[:2]
            name = f"frame {self.count + 1}"  # As the page counts.
            pictures.check_same_size(name, image.shape, self.size, "the first one")
            pictures.write_image(self.image_path(self.count), image)
            self.times.append(frame.time)
            self.count += 1
        if not self.count:
            raise InputError("expected a clip with at least one frame, found none")

    def image_path(self, position: int) -> pathlib.Path:
        """Returns the path of a frame."""
        return self.folder / f"{position:05d}.jpg"

    def mask_path(self, position: int) -> pathlib.Path:
        """Returns the path of a frame's mask, which need not exist."""
        return self.folder / f"{position:05d}.png"

    def image(self, position: int) -> np.ndarray:
        """Returns a frame, uint8 [height, width, 3] RGB."""
        return pictures.read_image(self.image_path(position))

    def mask(self, position: int) -> np.ndarray:
        """Returns a frame's ids, uint8 [height, width]; all background without a mask."""
        if self.mask_path(position).exists():
            return masks.read_annotation(self.mask_path(position))
        return np.zeros(self.size, np.uint8)

    def write_mask(self, position: int, ids: np.ndarray) -> None:
        """Writes the ids of a frame, uint8 [height, width]."""
        masks.write_mask(self.mask_path(position), ids)

    def masked(self) -> list[int]:
        """Returns the positions of the frames that have a mask, ascending."""
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.png"))


def _write_masks(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes a .zip of indexed PNGs, one per frame, and the objects' names as `objects.json`."""
    with zipfile.ZipFile(path, "w") as archive:
        for position in clip.masked():
            mask = clip.mask_path(position)
            archive.write(mask, mask.name)
        archive.writestr("objects.json", json.dumps(objects, indent=1))


def _write_overlay(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes an .mp4 of the clip with its objects tinted in their colors."""
    palette = masks.DAVIS_PALETTE.copy()
    for object_id, described in objects.items():
        palette[object_id] = list(bytes.fromhex(described["color"][1:]))
    with video_writing.writing_video(
        path, clip.frames_per_second, pixel_aspect=clip.pixel_aspect
    ) as write:
        for position in range(clip.count):
            picture = overlay.overlay(clip.image(position), clip.mask(position), palette=palette)
            write(picture, clip.times[position])


def _write_object_videos(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes a .zip of lossless videos, one per object, 255 on 0."""
    folder = path.parent / "objects"
    _write_results(result_files.ObjectVideos, False, clip, objects, folder)
    with zipfile.ZipFile(path, "w") as archive:
        for video in result_files.ObjectVideos(folder).paths():
            archive.write(video, video.name)


def _write_results(
    make: Callable[[pathlib.Path], ResultFiles],
    only_masked: bool,
    clip: ClipFiles,
    objects: Objects,
    path: pathlib.Path,
) -> None:
    """Writes the result files that `make` returns for a path, perhaps without unmasked frames."""
    facts = VideoFacts(clip.frames_per_second, clip.count, sorted(objects))
    with make(path).writing(facts) as write:
        for position in clip.masked() if only_masked else range(clip.count):
            name = clip.mask_path(position).stem
            time = clip.times[position]
            write(Result(name, time, clip.image(position), clip.mask(position)))


DOWNLOADS: Mapping[str, Write] = {
    "masks.zip": _write_masks,
    "overlay.mp4": _write_overlay,
    "cutout.webm": functools.partial(_write_results, result_files.Cutout, False),
    "objects.zip": _write_object_videos,
    "masks.json": functools.partial(_write_results, result_files.RunLengths, True),
    "objects.csv": functools.partial(_write_results, result_files.ObjectTable, True),
}
"""Name of a download -> function that writes it, to a folder of its own."""


def check_is_video(path: pathlib.Path) -> None:
    """Raises InputError unless the file is itself a video.

    A playlist would make the decoder open every file or address it names.
    """
    try:
        av.open(str(path), options={"format_whitelist": _CONTAINERS}).close()
    except (av.error.FFmpegError, OSError) as error:
        found = _found(path)
        raise InputError(f"expected a video (mp4, mov, webm, mkv, avi, gif), {found}") from error


def _found(path: pathlib.Path) -> str:
    """Describes a file that is not a video."""
    with contextlib.suppress(InputError), pictures.opened(path, "a picture"):
        return "found a picture: choose all pictures of a clip together"
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "found an empty file"
    if any(head[at : at + len(begin)] == begin for begin, at in _SIGNATURES):
        return "found a truncated or damaged one: copy or export it again"
    # The last character may be cut off.
    is_text = len(head) - len(head.decode(errors="ignore").encode()) < _LONGEST_CHARACTER
    if is_text and b"\0" not in head:
        return "found a text file"
    return "found something else"


def _scaled(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the image with at most `side` pixels along its long side."""
    height, width = image.shape[:2]
    if max(height, width) > _LARGEST_RATIO * min(height, width):
        raise InputError(
            f"expected an aspect ratio of at most {_LARGEST_RATIO}, found {width}x{height} pixels"
        )
    return Selection(max_side=side).scaled(image)

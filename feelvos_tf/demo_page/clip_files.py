"""A clip and its masks in a folder, one file per frame, and the files that visitors download."""

from __future__ import annotations

import contextlib
import json
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction

import av
import av.error
import cv2
import numpy as np

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import masks, overlay, pictures, result_files, video_writing
from feelvos_tf.media.result_files import Result, ResultFiles, VideoFacts

# How videos begin, and at which byte: mp4 and mov, mkv and webm, avi.
_BEGINNINGS = ((b"ftyp", 4), (b"moov", 4), (b"mdat", 4), (b"\x1a\x45\xdf\xa3", 0), (b"RIFF", 0))
_HEAD_BYTES = 4096
_LONGEST_CHARACTER = 4
_CONTAINERS = "mov,mp4,matroska,webm,avi,gif,mpeg,mpegts,ogg,flv,asf"
# Scaling would leave nothing of a frame that is longer than this many times its width.
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
      frames_per_second: of the clip.
      is_cut: whether the clip was longer than the limit.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        images: Iterable[np.ndarray],
        frames_per_second: float,
        max_frames: int,
        max_side: int,
    ):
        """Writes the frames.

        Args:
          folder: new and empty.
          images: uint8 [height, width, 3] RGB each.
          frames_per_second: of the clip.
          max_frames: later ones are dropped.
          max_side: pixels of a frame's long side; larger frames are scaled down.

        Raises:
          InputError: there is no frame, or frames are absurdly narrow or differ in size.
        """
        self.folder = folder
        self.frames_per_second = frames_per_second
        self.count, self.size, self.is_cut = 0, (0, 0), False
        for image in images:
            if self.count == max_frames:
                self.is_cut = True
                break
            image = _scaled(image, max_side)
            if not self.count:
                self.size = image.shape[:2]
            elif image.shape[:2] != self.size:
                raise InputError(f"frame {self.count} has another size than the first")
            pictures.write_image(self.image_path(self.count), image)
            self.count += 1
        if not self.count:
            raise InputError("expected a clip with at least one frame, found none")

    def image_path(self, position: int) -> pathlib.Path:
        """Returns the path of a frame."""
        return self.folder / f"{position:05d}.jpg"

    def mask_path(self, position: int) -> pathlib.Path:
        """Returns the path of a frame's mask, whether there is one or not."""
        return self.folder / f"{position:05d}.png"

    def image(self, position: int) -> np.ndarray:
        """Returns uint8 [height, width, 3] RGB."""
        return pictures.read_image(self.image_path(position))

    def mask(self, position: int) -> np.ndarray:
        """Returns uint8 [height, width] ids; only background if there is no mask."""
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
    with _zip(path) as archive:
        for position in clip.masked():
            mask = clip.mask_path(position)
            archive.write(mask, mask.name)
        archive.writestr("objects.json", json.dumps(objects, indent=1))


def _write_overlay(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes an .mp4 of the clip with its objects tinted in their colors."""
    palette = masks.DAVIS_PALETTE.copy()
    for object_id, described in objects.items():
        palette[object_id] = list(bytes.fromhex(described["color"][1:]))
    with video_writing.writing_video(path, clip.frames_per_second) as write:
        for position in range(clip.count):
            write(overlay.overlay(clip.image(position), clip.mask(position), palette=palette))


def _write_object_videos(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes a .zip of one lossless video, 255 on 0, per object."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, _zip(path) as archive:
        _write_results(
            clip, objects, result_files.ObjectVideos(pathlib.Path(folder)), range(clip.count)
        )
        for video in sorted(pathlib.Path(folder).iterdir()):
            archive.write(video, video.name)


def _write_results(
    clip: ClipFiles, objects: Objects, files: ResultFiles, positions: Iterable[int]
) -> None:
    """Writes one kind of result files, of some frames."""
    facts = VideoFacts(clip.frames_per_second, clip.count, sorted(objects))
    rate = Fraction(clip.frames_per_second).limit_denominator(1001)
    with files.writing(facts) as write:
        for position in positions:
            name = clip.mask_path(position).stem
            write(Result(name, position / rate, clip.image(position), clip.mask(position)))


def _write_cutout(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes a .webm of the objects on a transparent background."""
    _write_results(clip, objects, result_files.Cutout(path), range(clip.count))


def _write_rle(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes COCO's JSON of run lengths, boxes and areas."""
    _write_results(clip, objects, result_files.RunLengths(path), clip.masked())


def _write_table(clip: ClipFiles, objects: Objects, path: pathlib.Path) -> None:
    """Writes a .csv of areas, boxes and centers."""
    _write_results(clip, objects, result_files.ObjectTable(path), clip.masked())


DOWNLOADS: Mapping[str, Write] = {
    "masks.zip": _write_masks,
    "overlay.mp4": _write_overlay,
    "cutout.webm": _write_cutout,
    "objects.zip": _write_object_videos,
    "masks.json": _write_rle,
    "objects.csv": _write_table,
}
"""What can be downloaded -> what writes it."""


@contextlib.contextmanager
def _zip(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    """Yields an archive that appears when the block succeeds."""
    with atomic_files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        yield archive


def check_is_video(path: pathlib.Path) -> None:
    """Raises InputError unless the file holds a video itself.

    A playlist would make the decoder open any file or address that it names.
    """
    try:
        av.open(str(path), options={"format_whitelist": _CONTAINERS}).close()
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"expected a video (mp4, mov, webm, mkv, avi, gif), {_found(path)}") from (
            error
        )


def _found(path: pathlib.Path) -> str:
    """Returns what a file is that is no video."""
    with contextlib.suppress(InputError), pictures.opened(path, "a picture"):
        return "found a picture: choose all pictures of a clip together"
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "found an empty file"
    if any(head[at : at + len(begin)] == begin for begin, at in _BEGINNINGS):
        return "found one that breaks off or is damaged: copy or export it again"
    # The last character may be cut.
    is_text = len(head) - len(head.decode(errors="ignore").encode()) < _LONGEST_CHARACTER
    if is_text and b"\0" not in head:
        return "found a text file"
    return "found something else"


def _scaled(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the image with at most `side` pixels along its long side."""
    height, width = image.shape[:2]
    if max(height, width) > _LARGEST_RATIO * min(height, width):
        raise InputError(f"expected frames of a usual shape, found {width}x{height} pixels")
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)

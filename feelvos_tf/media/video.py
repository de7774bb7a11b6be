"""Reads frames from video files and folders of pictures; writes videos and pictures."""

from __future__ import annotations

import contextlib
import fractions
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Union

import av
import av.error
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image, ImageOps

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import regular_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
DEFAULT_FRAMES_PER_SECOND = 24.0
# Whatever the suffix says; PIL would start other programs for some formats, Ghostscript for EPS.
_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


class ImageFrames:
    """The pictures of a sequence in the given order, read one at a time as they are asked for.

    Attributes:
      paths: the files.
      names: one name per frame: the file name without its suffix.
      length: the number of frames.
      frames_per_second: pictures carry no time, so this is what DAVIS was recorded at.
    """

    frames_per_second = DEFAULT_FRAMES_PER_SECOND

    def __init__(self, paths: Sequence[str | os.PathLike[str]]):
        self.paths = [pathlib.Path(path) for path in paths]
        self.names = [path.stem for path in self.paths]
        self.length = len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields uint8 [height, width, 3] RGB; InputError where a picture cannot be read."""
        return map(read_image, self.paths)


class VideoFrames:
    """The frames of a video file, decoded one at a time as they are asked for.

    Attributes:
      paths: the one file.
      names: None: frames in a video have no names.
      length: the number of frames the file claims to hold (good for a progress bar, not more), or
        None where it claims nothing.
      frames_per_second: the average.
    """

    names = None

    def __init__(self, path: str | os.PathLike[str]):
        """Opens the file once to see that it is a video.

        Raises:
          InputError: the file is missing or no video.
        """
        self.paths = [pathlib.Path(path)]
        with self._open() as container:
            rate = container.streams.video[0].average_rate
            self.length = container.streams.video[0].frames or None
        self.frames_per_second = float(rate or DEFAULT_FRAMES_PER_SECOND)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields uint8 [height, width, 3] RGB, upright; InputError where decoding fails."""
        with self._open() as container:
            container.streams.video[0].thread_type = "AUTO"
            number = 0
            try:
                for frame in container.decode(video=0):
                    yield _upright(frame)
                    number += 1
            except av.error.FFmpegError as error:
                raise InputError(
                    f"{self.paths[0]}: the video cannot be decoded after frame {number} ({error})"
                ) from error

    def _open(self) -> av.container.InputContainer:
        regular_file.check(self.paths[0], "a video")
        try:
            container = av.open(str(self.paths[0]))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self.paths[0]}: cannot be read as a video ({error})") from error
        if not container.streams.video:
            container.close()
            raise InputError(f"{self.paths[0]}: expected a video, found a file without pictures")
        return container


Frames = Union[ImageFrames, VideoFrames]


def open_frames(source: str | os.PathLike[str]) -> Frames:
    """Returns the frames of a video file, or of a folder of .jpg and .png pictures.

    Pictures are ordered as people count: `frame2.jpg` before `frame10.jpg`.

    Raises:
      InputError: the source is missing, no video, or a folder without usable pictures.
    """
    path = pathlib.Path(source)
    if not path.is_dir():
        return VideoFrames(path)
    paths = [
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
    ]
    if not paths:
        raise InputError(f"{path}: expected .jpg or .png pictures in this folder, found none")
    frames = ImageFrames(sorted(paths, key=_natural_key))
    for name, again in zip(frames.names, frames.names[1:]):
        if name == again:
            raise InputError(f"{path}: two pictures are called {name}, expected one of each name")
    return frames


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Returns a picture as uint8 [height, width, 3] RGB, turned as its EXIF data says.

    Raises:
      InputError: the file is missing, no picture of 8 bits per channel, or damaged.
    """
    regular_file.check(path, "a picture")
    try:
        with Image.open(path, formats=_IMAGE_FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError(
                    f"{path}: expected a picture of 8 bits per channel, found mode {image.mode}"
                )
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # PIL reports damaged files with any of these.
        raise InputError(f"{path}: cannot be read as a picture ({error})") from error


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes uint8 [height, width, 3] RGB as .jpg or .png, whole or not at all."""
    with atomic_files.replacing(path) as temporary:
        Image.fromarray(image).save(temporary, quality=90)


def write_video(
    path: str | os.PathLike[str], images: Iterable[np.ndarray], frames_per_second: float
) -> None:
    """Writes an .mp4, whole or not at all. See `writing_video`."""
    with writing_video(path, frames_per_second) as write:
        for image in images:
            write(image)


@contextlib.contextmanager
def writing_video(
    path: str | os.PathLike[str], frames_per_second: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields a function that writes the next frame; the .mp4 appears when the block ends well.

    It is H.264 where the encoder is there, else MPEG-4. The function takes uint8 [height, width, 3]
    RGB, all of one size. A size that is odd grows by one pixel, repeating the edge: the encoders
    take even sizes only.

    Args:
      path: the file to write, ending in .mp4.
      frames_per_second: of the video.

    Raises:
      InputError: the path does not end in .mp4, or no frame was written.
    """
    path = pathlib.Path(path)
    check_video_path(path)
    with atomic_files.replacing(path) as temporary, av.open(str(temporary), "w") as container:
        stream = None

        def write(image: np.ndarray) -> None:
            nonlocal stream
            image = np.pad(image, [(0, size % 2) for size in image.shape[:2]] + [(0, 0)], "edge")
            if stream is None:
                stream = _add_stream(container, image.shape, frames_per_second)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=stream.codec_context.colorspace)
            container.mux(stream.encode(frame))

        yield write
        if stream is None:
            raise InputError(f"{path}: no frame to write into this video")
        container.mux(stream.encode())


def check_video_path(path: str | os.PathLike[str]) -> None:
    """Raises InputError unless `write_video` can write a file of this name."""
    if pathlib.Path(path).suffix.lower() != ".mp4":
        raise InputError(f"{path}: expected a name that ends in .mp4 for the video to write")


def _add_stream(
    container: av.container.OutputContainer, shape: tuple[int, ...], frames_per_second: float
) -> av.video.VideoStream:
    """Returns a new stream of the given [height, width, ...] that every player understands."""
    h264 = "libx264" in av.codecs_available
    # 1001 keeps 30000/1001 and its kin exact; MPEG-4 refuses large denominators.
    rate = fractions.Fraction(frames_per_second).limit_denominator(1001)
    stream = container.add_stream("libx264" if h264 else "mpeg4", rate=rate)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    # MPEG-4 cannot tell its color space, and players take it for the one of analogue television.
    stream.codec_context.colorspace = Colorspace.ITU709 if h264 else Colorspace.ITU601
    if h264:
        stream.options = {"crf": "18", "preset": "veryfast"}
    else:
        stream.bit_rate = 8_000_000
    return stream


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Returns a decoded frame as RGB, turned as the file's display matrix says (phone videos)."""
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _natural_key(path: pathlib.Path) -> list[tuple[int, int, str]]:
    """Returns a sort key under which runs of digits count as numbers."""
    parts = re.split(r"(\d+)", path.stem)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]

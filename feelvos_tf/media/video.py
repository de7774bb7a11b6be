"""Frames of videos, folders and lists of pictures, read lazily."""

from __future__ import annotations

import bisect
import collections
import contextlib
import functools
import glob
import os
import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.video.reformatter import Colorspace

from feelvos_tf.core import whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import pictures, whole_video

DEFAULT_FRAMES_PER_SECOND = 24.0
# Seconds by which a time that a person types, or that a container stores, may be rounded.
_ROUNDING = Fraction(1, 1000)


class Frame(NamedTuple):
    """One frame.

    Attributes:
      number: its position in the source, from 0.
      time: seconds since the source's first frame.
      image: uint8 [height, width, 3] RGB, upright.
    """

    number: int
    time: Fraction
    image: np.ndarray


def exact_rate(frames_per_second: float) -> Fraction:
    """Returns a frame rate as the fraction that it was rounded from, such as 30000/1001."""
    return Fraction(frames_per_second).limit_denominator(1001)


class Frames:
    """The frames of one source.

    Attributes:
      paths: the files they come from.
      length: the number of frames, an estimate for progress bars; None if unknown.
      frames_per_second: the average.
      is_live: whether frames arrive only once, in real time, and their number is unknown.
      pixel_aspect: width of an upright frame's pixels, relative to their height.
    """

    paths: list[pathlib.Path]
    length: int | None
    frames_per_second: float
    is_live = False
    pixel_aspect = Fraction(1)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the images of all frames. See `Frame`."""
        return (frame.image for frame in self.timed())

    def timed(self, start: int = 0, end: int | None = None, every: int = 1) -> Iterator[Frame]:
        """Yields the frames start, start + every, ... before `end`, or all if `end` is None.

        Raises:
          InputError: a frame cannot be read, or the source is truncated.
        """
        raise NotImplementedError

    def number_at(self, seconds: Fraction) -> int:
        """Returns the number of the first frame at or after a time, 0 or more, since the first.

        After the last frame, it is a number that no frame has.
        """
        return round(seconds * exact_rate(self.frames_per_second))

    def count(self) -> int | None:
        """Returns the exact number of frames; None if frames must be decoded to know it."""
        return None

    def name(self, number: int) -> str:
        """Returns the file name, without suffix, of a frame's mask: `00012`."""
        return f"{number:05d}"


class ImageFrames(Frames):
    """The pictures of a sequence in the given order.

    Attributes:
      frames_per_second: pictures carry no time; by default that of DAVIS.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        frames_per_second: float = DEFAULT_FRAMES_PER_SECOND,
    ):
        self.paths = [pathlib.Path(path) for path in paths]
        self.length = len(self.paths)
        self.frames_per_second = frames_per_second

    def timed(self, start: int = 0, end: int | None = None, every: int = 1) -> Iterator[Frame]:
        """Yields chosen frames. See `Frames`."""
        step = 1 / exact_rate(self.frames_per_second)
        for number in range(self.length)[start:end:every]:
            yield Frame(number, number * step, pictures.read_image(self.paths[number]))

    def count(self) -> int:
        """Returns the number of pictures."""
        return self.length

    def name(self, number: int) -> str:
        """Returns the name of the frame's picture."""
        return self.paths[number].stem


class VideoFrames(Frames):
    """The frames of a video file."""

    def __init__(self, path: str | os.PathLike[str]):
        """Opens the file once to check that it is a video.

        Raises:
          InputError: the file is missing, not a video, or holds several pictures of which only
            one would be read.
        """
        self.paths = [pathlib.Path(path)]
        with self._open() as container:
            stream = container.streams.video[0]
            self._check_is_whole(container)
            self._stored_aspect = Fraction(stream.sample_aspect_ratio or 1)
            self.length = stream.frames or None
            # 1000 or more is the clock of a container without a frame rate.
            average = stream.average_rate or 0
            self.frames_per_second = float(
                average if 0 < average < 1000 else DEFAULT_FRAMES_PER_SECOND
            )

    def timed(self, start: int = 0, end: int | None = None, every: int = 1) -> Iterator[Frame]:
        """Yields chosen frames. See `Frames`."""
        with self._open() as container:
            container.streams.video[0].thread_type = "AUTO"
            seen = whole_video.Seen()
            rate, first_time = exact_rate(self.frames_per_second), None
            try:
                for number, frame in enumerate(_decoded(container, seen)):
                    if end is not None and number >= end:
                        return
                    time = time_of(frame, number, rate)
                    first_time = time if first_time is None else first_time
                    if number >= start and (number - start) % every == 0:
                        yield Frame(number, time - first_time, upright(self.paths[0], frame))
            except av.error.FFmpegError as error:
                raise InputError(
                    f"{self.paths[0]}: the video cannot be decoded after frame {seen.num_frames} "
                    f"({error.strerror})"
                ) from error
            whole_video.check(self.paths[0], container, seen)

    def number_at(self, seconds: Fraction) -> int:
        """Returns the number of a frame by the times of all frames. See `Frames`."""
        if not self._times:
            return super().number_at(seconds)  # As `time_of` does.
        return bisect.bisect_left(self._times, self._times[0] + seconds - _ROUNDING)

    def count(self) -> int | None:
        """Returns the number of frames, for which the whole file is read. See `Frames`."""
        return len(self._times) or None

    @functools.cached_property
    def _times(self) -> list[Fraction]:
        """The times of all frames in seconds, ascending; none if the file holds no times."""
        with self._open() as container:
            stream = container.streams.video[0]
            tick, ticks = Fraction(stream.time_base), []
            # Damaged parts are reported once frames are decoded.
            with contextlib.suppress(av.error.FFmpegError):
                for packet in container.demux(stream):
                    if packet.size and not packet.is_discard:
                        ticks.append(packet.pts)
        return [] if None in ticks else [value * tick for value in sorted(ticks)]

    @functools.cached_property
    def pixel_aspect(self) -> Fraction:
        """Width of an upright frame's pixels, relative to their height; 1 if unknown."""
        aspect = self._stored_aspect
        if aspect == 1:
            return aspect
        # Only a decoded frame tells whether it is turned.
        with self._open() as container, contextlib.suppress(av.error.FFmpegError):
            first = next(container.decode(video=0), None)
            return (
                1 / aspect if first is not None and _is_turned(_display_matrix(first)) else aspect
            )
        return Fraction(1)

    def _check_is_whole(self, container: av.container.InputContainer) -> None:
        """Raises InputError if the first stream has one picture, but the file has more."""
        if container.format.name == "tiff_pipe":  # FFmpeg reads only the first page.
            with pictures.opened(self.paths[0], "a picture") as image:
                pictures.check_single(self.paths[0], image)
        first, *others = container.streams.video
        longest = max((other.frames for other in others), default=0)
        if first.frames == 1 < longest:  # An animated AVIF, or a cover picture.
            raise InputError(
                f"{self.paths[0]}: expected a video, found a picture beside a video of {longest} "
                "frames: convert the file to .mp4"
            )

    def _open(self) -> av.container.InputContainer:
        whole_files.check_is_file(self.paths[0], "a video")
        # Absolute, because FFmpeg takes what precedes a colon for a protocol.
        return opened(self.paths[0], os.path.abspath(self.paths[0]), "a video")


def opened(
    name: str | os.PathLike[str], file: Any, what: str, **options: Any
) -> av.container.InputContainer:
    """Returns the video that `av.open(file, **options)` opens.

    Raises:
      InputError: it is not `what` was expected, such as "a video", or its pictures cannot be
        decoded. The message calls it `name`.
    """
    with whole_files.errors_about(name, what):
        container = av.open(file, **options)
    streams = container.streams.video
    if not streams or streams[0].codec_context is None:
        container.close()
        lack = "a decoder" if streams else "pictures"
        raise InputError(f"{name}: expected {what}, found a file without {lack}")
    return container


def open_frames(
    source: str | os.PathLike[str], frames_per_second: float = DEFAULT_FRAMES_PER_SECOND
) -> Frames:
    """Returns the frames of a video file, or the pictures of a folder or pattern.

    Pictures are in natural order: `frame2.jpg` before `frame10.jpg`.

    Args:
      source: a file, a folder, or a pattern like `shots/*.jpg`.
      frames_per_second: of pictures, which carry no time.

    Raises:
      InputError: the source is missing, not a video, or without usable pictures.
    """
    path = pathlib.Path(source)
    if path.is_dir():
        found, where = list(path.iterdir()), f"{path}: expected pictures in this folder"
    elif glob.has_magic(str(source)) and not path.exists():
        found = list(map(pathlib.Path, glob.glob(str(source), recursive=True)))
        where = f"{source}: expected pictures that match this pattern"
    else:
        return VideoFrames(path)
    paths = [entry for entry in found if pictures.is_visible(entry)]
    if not paths:
        raise InputError(f"{where} ({', '.join(pictures.IMAGE_SUFFIXES)}), found none")
    for name, count in collections.Counter(entry.stem for entry in paths).items():
        if count > 1:
            raise InputError(
                f"{source}: expected one picture per name, found {count} called {name}"
            )
    return ImageFrames(pictures.in_natural_order(paths), frames_per_second)


def time_of(frame: av.VideoFrame, number: int, rate: Fraction) -> Fraction:
    """Returns a frame's time in seconds, by its number and the frame rate if it carries none."""
    if frame.pts is None or frame.time_base is None:
        return number / rate
    return frame.pts * Fraction(frame.time_base)


def upright(path: str | os.PathLike[str], frame: av.VideoFrame) -> np.ndarray:
    """Returns a decoded frame as RGB, rotated and mirrored by its display matrix (phone videos).

    Raises:
      InputError: it has more than `pictures.MAX_PIXELS` pixels.
    """
    pictures.check_size(path, frame.height, frame.width)
    # PyAV 15, the last one for Python 3.9, heeds the frame's color matrix only if another is named.
    image = frame.reformat(format="rgb24", dst_colorspace=Colorspace.ITU601).to_ndarray()
    matrix = _display_matrix(frame)
    if _is_turned(matrix):
        image, matrix = image.transpose(1, 0, 2), matrix[::-1]
    right, down = np.where(np.diag(matrix) < 0, -1, 1)
    return np.ascontiguousarray(image[::down, ::right])


def _is_turned(matrix: np.ndarray) -> bool:
    """Returns whether a frame with this display matrix is shown with rows as columns."""
    (x_by_x, y_by_x), (x_by_y, y_by_y) = abs(matrix)
    return bool(x_by_y + y_by_x > x_by_x + y_by_y)


def _display_matrix(frame: av.VideoFrame) -> np.ndarray:
    """Returns the shown (x, y) step for one step in stored x, and in stored y, float [2, 2]."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # The frame carries another kind of side data that PyAV does not know.
        angle = np.deg2rad(frame.rotation)
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if data is None:
        return np.eye(2)
    return np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].astype(float)


def _decoded(
    container: av.container.InputContainer, seen: whole_video.Seen
) -> Iterator[av.VideoFrame]:
    """Yields the frames of a video; of a truncated one, up to the last that can be decoded."""
    stream = container.streams.video[0]
    packets, failure = container.demux(stream), None
    while failure is None:
        try:
            packet = next(packets)
            seen.add(packet)
            frames = packet.decode()
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            # The decoder may still hold some frames.
            failure, frames = error, stream.codec_context.decode(None)
        for frame in frames:
            seen.num_frames += 1
            seen.last_frame_is_corrupt = frame.is_corrupt
            yield frame
    raise failure

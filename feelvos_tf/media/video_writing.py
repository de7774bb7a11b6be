"""Writes videos: every frame at its own time, with the sound of the source where it has some."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import av.error
import numpy as np
from av.video.reformatter import Colorspace

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError

_CLOCK = 90000  # Ticks a second: what videos of any rate are timed by.
# What an .mp4 may hold and browsers play; other sound is left out.
_SOUND_CODECS = ("aac", "mp3", "mp3float", "opus", "flac", "ac3", "eac3")


class VideoWriter:
    """A video that is being written. See `writing_video`."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        frames_per_second: float,
        sound: str | os.PathLike[str] | None = None,
    ):
        self._container = container
        # 1001 keeps 30000/1001 and its kin exact; MPEG-4 refuses large denominators.
        self._rate = Fraction(frames_per_second).limit_denominator(1001)
        self._sound = Sound(container, sound) if sound is not None else None
        self._stream = None
        self._first_time = None
        self._last = -1
        self._count = 0

    def __call__(self, image: np.ndarray, time: Fraction | None = None) -> None:
        """Writes the next frame.

        Args:
          image: uint8 [height, width, 3] RGB. A size that is odd grows by one pixel, repeating the
            edge: the encoders take even sizes only.
          time: when it was taken, seconds; None for one frame after the other.
        """
        image = np.pad(image, [(0, size % 2) for size in image.shape[:2]] + [(0, 0)], "edge")
        time = self._count / self._rate if time is None else time
        if self._stream is None:
            self._first_time = time
            self._stream = _add_stream(self._container, image.shape, self._rate)
            if self._sound is not None:
                self._sound.begin()
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        context = self._stream.codec_context
        frame = frame.reformat(format="yuv420p", dst_colorspace=context.colorspace)
        frame.time_base = context.time_base
        # Two frames at one time are a defect of the source; encoders refuse them.
        ticks = round((time - self._first_time) / Fraction(context.time_base))
        frame.pts = self._last = max(ticks, self._last + 1)
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> int:
        """Returns the number of frames, after writing what the encoder still has and the sound."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
            if self._sound is not None:
                end = self._first_time + (self._last + 1) * Fraction(
                    self._stream.codec_context.time_base
                )
                self._sound.copy(self._first_time, end + 1 / self._rate)
        return self._count


class Sound:
    """The sound of a video file, copied as it is into another."""

    def __init__(self, container: av.container.OutputContainer, path: str | os.PathLike[str]):
        self._container, self._path = container, path
        self._stream = None

    def begin(self) -> None:
        """Adds the stream, where the source has one that can be copied."""
        with contextlib.suppress(av.error.FFmpegError, OSError), av.open(str(self._path)) as source:
            if source.streams.audio and source.streams.audio[0].codec_context.name in _SOUND_CODECS:
                self._stream = self._container.add_stream_from_template(source.streams.audio[0])

    def copy(self, start: Fraction, end: Fraction) -> None:
        """Writes what lies between two times, seconds since the source's first frame."""
        if self._stream is None:
            return
        with contextlib.suppress(av.error.FFmpegError), av.open(str(self._path)) as source:
            video, audio = source.streams.video[0], source.streams.audio[0]
            zero = (video.start_time or 0) * Fraction(video.time_base) + start
            offset = round(zero / Fraction(audio.time_base))
            for packet in source.demux(audio):
                if packet.pts is None or packet.pts < offset:
                    continue
                if (packet.pts - offset) * Fraction(audio.time_base) >= end - start:
                    break
                packet.pts, packet.dts = packet.pts - offset, packet.pts - offset
                packet.stream = self._stream
                self._container.mux(packet)


def write_video(
    path: str | os.PathLike[str], images: Iterable[np.ndarray], frames_per_second: float
) -> None:
    """Writes an .mp4, whole or not at all. See `writing_video`."""
    with writing_video(path, frames_per_second) as write:
        for image in images:
            write(image)


@contextlib.contextmanager
def writing_video(
    path: str | os.PathLike[str],
    frames_per_second: float,
    sound: str | os.PathLike[str] | None = None,
) -> Iterator[VideoWriter]:
    """Yields what writes the next frame; the .mp4 appears when the block ends well.

    It is H.264 where the encoder is there, else MPEG-4, and begins with its index, so that browsers
    play it while it loads.

    Args:
      path: the file to write, ending in .mp4.
      frames_per_second: of the video; frames that come with their times keep them.
      sound: a video file whose sound is copied, as far as the frames' times go.

    Raises:
      InputError: the path does not end in .mp4, or no frame was written.
    """
    path = pathlib.Path(path)
    check_video_path(path)
    with atomic_files.replacing(path) as temporary:
        options = {"movflags": "faststart"}
        with av.open(str(temporary), "w", options=options) as container:
            writer = VideoWriter(container, frames_per_second, sound)
            yield writer
            if not writer.finish():
                raise InputError(f"{path}: no frame to write into this video")


def check_video_path(path: str | os.PathLike[str]) -> None:
    """Raises InputError unless `write_video` can write a file of this name."""
    if pathlib.Path(path).suffix.lower() != ".mp4":
        raise InputError(f"{path}: expected a name that ends in .mp4 for the video to write")


def _add_stream(
    container: av.container.OutputContainer, shape: tuple[int, ...], rate: Fraction
) -> av.video.VideoStream:
    """Returns a new stream of the given [height, width, ...] that every player understands."""
    h264 = "libx264" in av.codecs_available
    stream = container.add_stream("libx264" if h264 else "mpeg4", rate=rate)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    # MPEG-4 cannot tell its color space, and players take it for the one of analog television.
    stream.codec_context.colorspace = Colorspace.ITU709 if h264 else Colorspace.ITU601
    if h264:
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        stream.options = {"crf": "18", "preset": "veryfast"}
    else:
        stream.codec_context.time_base = 1 / rate
        stream.bit_rate = 8_000_000
    return stream

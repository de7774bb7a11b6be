"""Writes videos: every frame at its own time, with the sound of the source."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping
from fractions import Fraction

import av
import av.error
import numpy as np
from av.video.reformatter import Colorspace

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import video

_CLOCK = 90000  # Ticks per second: exact for the usual frame rates.
# Codecs that .mp4 may hold and browsers play; other sound is dropped.
_SOUND_CODECS = ("aac", "mp3", "mp3float", "opus", "flac", "ac3", "eac3")


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How pictures become a video.

    Attributes:
      suffix: of the file, which determines the container.
      codec: FFmpeg's name of the encoder.
      takes: pixel format of the arrays that are written.
      pixels: pixel format of the video.
      options: of the encoder.
    """

    suffix: str
    codec: str
    takes: str
    pixels: str
    options: Mapping[str, str]


TO_LOOK_AT = Encoding(".mp4", "libx264", "rgb24", "yuv420p", {"crf": "18", "preset": "veryfast"})
"""H.264, which every browser plays."""
WITH_ALPHA = Encoding(
    ".webm",
    "libvpx-vp9",
    "rgba",
    "yuva420p",
    {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0", "row-mt": "1"},
)
"""VP9 with transparency, from RGBA, uint8 [height, width, 4]."""
LOSSLESS_GRAY = Encoding(".mkv", "ffv1", "gray", "gray", {"level": "3"})
"""FFV1, lossless, from uint8 [height, width]."""
_WITHOUT_H264 = dataclasses.replace(TO_LOOK_AT, codec="mpeg4", options={"b": "8000000"})


class VideoWriter:
    """Writes the frames of one video. See `writing_video`."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        path: pathlib.Path,
        frames_per_second: float,
        sound: str | os.PathLike[str] | None,
        encoding: Encoding,
        pixel_aspect: Fraction,
    ):
        self._container, self._path = container, path
        # 1001 keeps rates such as 30000/1001 exact; MPEG-4 refuses large denominators.
        self._rate = video.exact_rate(frames_per_second)
        # Absolute, because FFmpeg takes what precedes a colon for a protocol.
        self._sound = None if sound is None else os.path.abspath(sound)
        self._encoding, self._pixel_aspect = encoding, pixel_aspect
        self._stream = self._sound_stream = self._first_time = None
        self._last, self._count = -1, 0

    def __call__(self, image: np.ndarray, time: Fraction | None = None) -> None:
        """Writes the next frame.

        Args:
          image: uint8 as the encoding takes it, by default [height, width, 3] RGB.
          time: seconds; None: one frame period after the last frame.

        Raises:
          InputError: the frame cannot be encoded or written.
        """
        # Here, because another video may be written in the same block.
        with _naming(self._path):
            self._write(image, time)

    def _write(self, image: np.ndarray, time: Fraction | None) -> None:
        if "420" in self._encoding.pixels:  # Colors have half the size.
            odd = [(0, size % 2) for size in image.shape[:2]]
            image = np.pad(image, odd + [(0, 0)] * (image.ndim - 2), "edge")
        time = self._count / self._rate if time is None else time
        if self._stream is None:
            self._first_time = time
            self._stream = _add_stream(self._container, image.shape, self._rate, self._encoding)
            self._stream.codec_context.sample_aspect_ratio = self._pixel_aspect
            if self._sound is not None:
                self._sound_stream = _add_sound_stream(self._container, self._sound)
        frame = av.VideoFrame.from_ndarray(image, format=self._encoding.takes)
        context = self._stream.codec_context
        if self._encoding.pixels != self._encoding.takes:
            frame = frame.reformat(format=self._encoding.pixels, dst_colorspace=context.colorspace)
        frame.time_base = context.time_base
        # Broken sources may have two frames with the same time, which encoders refuse.
        ticks = round((time - self._first_time) / Fraction(context.time_base))
        frame.pts = self._last = max(ticks, self._last + 1)
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Flushes the encoder and writes the sound; raises InputError if there are no frames."""
        if self._stream is None:
            raise InputError(f"{self._path}: no frames to write into this video")
        self._container.mux(self._stream.encode())
        if self._sound_stream is not None:
            last = self._last * Fraction(self._stream.codec_context.time_base)
            self._copy_sound(last + 1 / self._rate)

    def _copy_sound(self, seconds: Fraction) -> None:
        """Writes the sound from the first frame on."""
        with contextlib.suppress(av.error.FFmpegError), av.open(self._sound) as source:
            video, audio = source.streams.video[0], source.streams.audio[0]
            zero = (video.start_time or 0) * Fraction(video.time_base) + self._first_time
            offset = round(zero / Fraction(audio.time_base))
            for packet in source.demux(audio):
                if packet.pts is None or packet.pts < offset:
                    continue
                if (packet.pts - offset) * Fraction(audio.time_base) >= seconds:
                    break
                packet.pts, packet.dts = packet.pts - offset, packet.pts - offset
                packet.stream = self._sound_stream
                self._container.mux(packet)


@contextlib.contextmanager
def writing_video(
    path: str | os.PathLike[str],
    frames_per_second: float,
    sound: str | os.PathLike[str] | None = None,
    encoding: Encoding = TO_LOOK_AT,
    pixel_aspect: Fraction = Fraction(1),  # noqa: B008
) -> Iterator[VideoWriter]:
    """Yields a function that writes the next frame; the video appears when the block succeeds.

    By default it is an .mp4 with H.264 (MPEG-4 if that encoder is missing) and its index in front,
    so that browsers play it while it loads.

    Args:
      path: the file to write, with the suffix of the encoding.
      frames_per_second: of the video; frames with their own times keep them.
      sound: a video file whose sound is copied, up to the last frame.
      encoding: of the frames.
      pixel_aspect: see `video.Frames`. PyAV can store it only in .mp4.

    Raises:
      InputError: the path has another suffix, no frame was written, or the encoder is missing.
    """
    path = pathlib.Path(path)
    check_video_path(path, encoding)
    options = {"movflags": "faststart"} if encoding.suffix == ".mp4" else {}
    with (
        atomic_files.replacing(path) as temporary,
        _naming(path),
        av.open(os.path.abspath(temporary), "w", options=options) as container,
    ):
        writer = VideoWriter(container, path, frames_per_second, sound, encoding, pixel_aspect)
        yield writer
        writer.finish()


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Turns FFmpeg's errors, which do not name the file, into InputErrors."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise atomic_files.refusal(path, error) from error


def check_video_path(path: str | os.PathLike[str], encoding: Encoding = TO_LOOK_AT) -> None:
    """Raises InputError unless `writing_video` can write a file of this name."""
    if pathlib.Path(path).suffix.lower() != encoding.suffix:
        raise InputError(
            f"{path}: expected a name that ends in {encoding.suffix} for the video to write"
        )


def _add_sound_stream(
    container: av.container.OutputContainer, path: str
) -> av.audio.AudioStream | None:
    """Returns a new stream for the sound of a video; None if it has none that can be copied."""
    with contextlib.suppress(av.error.FFmpegError, OSError), av.open(path) as source:
        # Without a decoder, a stream has no context.
        context = source.streams.audio[0].codec_context if source.streams.audio else None
        if context is not None and context.name in _SOUND_CODECS:
            return container.add_stream_from_template(source.streams.audio[0])
    return None


def _add_stream(
    container: av.container.OutputContainer,
    shape: tuple[int, ...],
    rate: Fraction,
    encoding: Encoding,
) -> av.video.VideoStream:
    """Returns a new video stream for frames of shape [height, width, ...]."""
    if encoding == TO_LOOK_AT and encoding.codec not in av.codecs_available:
        encoding = _WITHOUT_H264
    options = dict(encoding.options)
    if encoding == LOSSLESS_GRAY and shape[1] == 1:
        options["level"] = "1"  # Without slices, which cannot divide a single column.
    stream = container.add_stream(encoding.codec, rate=rate, options=options)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = encoding.pixels
    if encoding.takes == "rgba":
        stream.metadata["alpha_mode"] = "1"
    context = stream.codec_context
    # MPEG-4 cannot declare its color space, so players assume that of analog television; it also
    # has no fine clock.
    is_old = encoding.codec == "mpeg4"
    context.time_base = 1 / rate if is_old else Fraction(1, _CLOCK)
    if encoding.pixels != "gray":
        context.colorspace = Colorspace.ITU601 if is_old else Colorspace.ITU709
    return stream

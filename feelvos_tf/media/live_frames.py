"""Live frames from a camera, or from another program through a pipe."""

from __future__ import annotations

import contextlib
import io
import itertools
import queue
import sys
import threading
import time
import types
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.error
import cv2
import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import video
from feelvos_tf.media.video import DEFAULT_FRAMES_PER_SECOND, Frame, Frames

_PIPE = "standard input"
_POLL_SECONDS = 0.1  # How often waiting threads check whether the video was stopped.
# Formats whose frames carry no timestamps.
_WITHOUT_TIME = ("mjpeg", "rawvideo", "jpeg_pipe", "png_pipe", "image2pipe")


class LiveFrames(Frames):
    """Frames that can be read only once, until they end or are stopped.

    A daemon thread waits for the source, so that the video can be stopped, and the program can
    exit, even if the next frame never arrives.
    """

    is_live = True
    length = None

    def __init__(self, source: Iterator[Frame], frames_per_second: float):
        """Stores the source, which yields the frames, and their average rate."""
        self.paths = []
        self.frames_per_second = frames_per_second
        self._source = source
        self._arrived: queue.Queue[Frame | Exception | None] = queue.Queue(maxsize=1)
        self._is_stopped = threading.Event()
        self._reader: threading.Thread | None = None

    def stop(self) -> None:
        """Ends the video."""
        self._is_stopped.set()

    def timed(self, start: int = 0, end: int | None = None, every: int = 1) -> Iterator[Frame]:
        """Yields chosen frames. See `Frames`."""
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        try:
            yield from itertools.islice(iter(self._next, None), start, end, every)
        finally:
            self.stop()

    def _next(self) -> Frame | None:
        """Returns the next frame, None at the end; re-raises errors of the reader thread."""
        while not self._is_stopped.is_set():
            with contextlib.suppress(queue.Empty):
                arrived = self._arrived.get(timeout=_POLL_SECONDS)
                if isinstance(arrived, Exception):
                    raise arrived
                return arrived
        return None

    def _read(self) -> None:
        """Passes on the frames of the source, then None or the error that ended it."""
        last = None
        try:
            with contextlib.closing(self._source) as source:
                for frame in source:
                    self._hand_over(frame)
                    if self._is_stopped.is_set():
                        break
        except Exception as error:
            last = error
        self._hand_over(last)

    def _hand_over(self, item: Frame | Exception | None) -> None:
        while not self._is_stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._arrived.put(item, timeout=_POLL_SECONDS)
                return


def open_camera(index: int) -> LiveFrames:
    """Returns the frames of a local camera, each with its time of arrival.

    Args:
      index: 0 for the first camera.

    Raises:
      InputError: there is no such camera.
    """
    camera = cv2.VideoCapture(index)
    if not camera.isOpened():
        raise InputError(f"camera {index} cannot be opened: expected a camera with this number")
    rate = camera.get(cv2.CAP_PROP_FPS)
    return LiveFrames(
        _camera_frames(camera), rate if 0 < rate < 1000 else DEFAULT_FRAMES_PER_SECOND
    )


def _camera_frames(camera: Any) -> Iterator[Frame]:
    """Yields the frames of a `cv2.VideoCapture` until its end."""
    begin = None
    try:
        for number in itertools.count():
            is_there, image = camera.read()
            if not is_there:
                return
            now = time.monotonic()
            begin = now if begin is None else begin
            seconds = Fraction(now - begin).limit_denominator(1000)
            yield Frame(number, seconds, np.ascontiguousarray(image[..., ::-1]))
    finally:
        camera.release()


def open_pipe(
    file: BinaryIO | None = None,
    raw_size: tuple[int, int] | None = None,
    raw_format: str = "rgb24",
    frames_per_second: float = DEFAULT_FRAMES_PER_SECOND,
) -> LiveFrames:
    """Returns the frames of a stream: MJPEG or any other format, or raw pixels.

    Args:
      file: to read from; standard input by default.
      raw_size: (height, width) of raw frames; None for any other format.
      raw_format: FFmpeg's name of the pixel format of raw frames.
      frames_per_second: of raw frames and MJPEG, which carry no timestamps.

    Raises:
      InputError: no frames can be read.
    """
    if file is None and sys.stdin.isatty():
        raise InputError(f"{_PIPE}: expected a video from another program, found a terminal")
    what, options = "a video or MJPEG (raw frames need --raw_size=WxH)", {}
    if raw_size is not None:
        what = f"raw frames with pixel format {raw_format}"
        raw = {"video_size": f"{raw_size[1]}x{raw_size[0]}", "pixel_format": raw_format}
        options = {"format": "rawvideo", "options": raw}
    # Only `read`, as a pipe cannot seek. An unbuffered one returns what has arrived so far, and
    # takes no lock: Python would wait at exit for a thread that reads from `sys.stdin.buffer`.
    file = file or io.FileIO(0, closefd=False)
    container = video.opened(_PIPE, types.SimpleNamespace(read=file.read), what, **options)
    carry_time = container.format.name not in _WITHOUT_TIME
    rate = container.streams.video[0].average_rate if carry_time else None
    frames = _pipe_frames(container, video.exact_rate(frames_per_second), carry_time)
    return LiveFrames(frames, float(rate or frames_per_second))


def _pipe_frames(
    container: av.container.InputContainer, rate: Fraction, carry_time: bool
) -> Iterator[Frame]:
    """Yields the frames of a stream until it ends."""
    number, first_time = 0, None
    with container:
        try:
            for frame in container.decode(video=0):
                now = video.time_of(frame, number, rate) if carry_time else number / rate
                first_time = now if first_time is None else first_time
                yield Frame(number, now - first_time, video.upright(_PIPE, frame))
                number += 1
        except av.error.FFmpegError as error:
            raise InputError(
                f"{_PIPE}: the video breaks off after frame {number} ({error})"
            ) from error

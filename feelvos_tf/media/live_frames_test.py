"""Frames through pipes, as FFmpeg writes them, and from a fake camera."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import live_frames, video

IMAGES = np.stack([np.full((32, 48, 3), 25 * n + 5, np.uint8) for n in range(6)])


def mjpeg():
    return b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in IMAGES)


def container(format_name, codec):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format_name) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for image in IMAGES:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    return buffer.getvalue()


class Pipe:
    """Bytes that can only be read forward, a few at a time."""

    def __init__(self, content):
        self._file = io.BytesIO(content)

    def read(self, size=-1):
        """Returns at most 1000 bytes."""
        return self._file.read(min(size, 1000) if size >= 0 else 1000)


@pytest.mark.parametrize(
    ("content", "options", "rate"),
    [
        (mjpeg(), {}, 24),
        (mjpeg(), {"frames_per_second": 10}, 10),
        (container("matroska", "libx264"), {}, 25),
        (container("mpegts", "libx264"), {}, 25),
        (IMAGES.tobytes(), {"raw_size": (32, 48), "frames_per_second": 12}, 12),
        (IMAGES.tobytes(), {"raw_size": (32, 48), "raw_format": "bgr24"}, 24),
    ],
)
def test_streams_are_read_frame_by_frame_with_their_times(content, options, rate):
    frames = list(live_frames.open_pipe(Pipe(content), **options).timed())
    assert [frame.number for frame in frames] == list(range(6))
    assert [float(frame.time) for frame in frames] == pytest.approx(
        [n / rate for n in range(6)], abs=0.002
    )
    for frame, expected in zip(frames, IMAGES):
        np.testing.assert_allclose(frame.image, expected, atol=6)


def test_other_pixel_formats_become_rgb():
    gray = np.full((4, 32, 48), 77, np.uint8).tobytes()
    frames = list(live_frames.open_pipe(Pipe(gray), (32, 48), "gray"))
    assert len(frames) == 4 and (frames[0] == 77).all()


def test_other_input_gives_one_line_errors():
    for content, options, sentence in (
        (b"", {}, "standard input: expected a video or MJPEG"),
        (b"no video" * 1000, {}, "standard input: expected a video or MJPEG"),
        (b"x", {"raw_size": (32, 48), "raw_format": "none of those"}, "pixel format none of those"),
    ):
        with pytest.raises(InputError, match=sentence):
            live_frames.open_pipe(Pipe(content), **options)
    with pytest.raises(InputError, match="standard input: the video breaks off after frame 5"):
        list(live_frames.open_pipe(Pipe(IMAGES.tobytes()[:-99]), (32, 48)))


@pytest.fixture(scope="module")
def ffmpeg():
    """Returns the path of a real ffmpeg, or skips the test."""
    path = shutil.which("ffmpeg")
    return path or pytest.importorskip("imageio_ffmpeg", reason="no ffmpeg").get_ffmpeg_exe()


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["-f", "mjpeg", "-q:v", "3"], {"frames_per_second": 12}),
        (["-f", "rawvideo", "-pix_fmt", "rgb24"], {"raw_size": (240, 426)}),
        (
            ["-f", "rawvideo", "-pix_fmt", "yuv420p"],
            {"raw_size": (240, 426), "raw_format": "yuv420p"},
        ),
        (["-f", "matroska"], {}),
        (["-q:v", "2", "-f", "mpegts"], {}),
        (["-f", "image2pipe", "-c:v", "png"], {"frames_per_second": 12}),
        (["-movflags", "frag_keyframe+empty_moov", "-f", "mp4"], {}),
        (["-f", "yuv4mpegpipe", "-pix_fmt", "yuv420p"], {}),
    ],
    ids=lambda value: " ".join(value[-3:]) if isinstance(value, list) else "",
)
def test_streams_of_ffmpeg_are_read(ffmpeg, testdata, arguments, options):
    """As shown in the README in this folder."""
    clip = testdata / "bunny.mp4"
    command = [ffmpeg, "-loglevel", "error", "-i", clip, *arguments, "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        frames = list(live_frames.open_pipe(process.stdout, **options).timed())
    expected = list(video.open_frames(clip))
    assert process.returncode == 0 and len(frames) == len(expected)
    for frame, image in zip(frames, expected):
        assert np.abs(frame.image.astype(int) - image).mean() < 6
    # The clip has 25 frames per second; raw frames get the default of 24.
    rate = options.get("frames_per_second", 24 if "rawvideo" in arguments else 25)
    assert float(frames[-1].time) == pytest.approx((len(frames) - 1) / rate, abs=0.01)


def test_standard_input_is_read_as_it_arrives():
    program = (
        "from feelvos_tf.media import live_frames\n"
        "for image in live_frames.open_pipe(raw_size=(32, 48)):\n"
        "    print(image[0, 0, 0], flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdin.write(IMAGES[:3].tobytes())
    process.stdin.flush()
    assert process.stdout.readline() == b"5\n"
    process.stdin.write(IMAGES[3:].tobytes())
    process.stdin.close()
    rest = process.stdout.read()
    assert process.wait() == 0 and rest.split() == [b"30", b"55", b"80", b"105", b"130"]


def test_a_stalled_stream_can_be_stopped_and_lets_the_program_exit():
    program = (
        "import signal\n"
        "from feelvos_tf.core import background\n"
        "from feelvos_tf.media import live_frames\n"
        "frames = live_frames.open_pipe(raw_size=(32, 48))\n"
        "signal.signal(signal.SIGINT, lambda *_: frames.stop())\n"
        "for frame in background.prefetched(frames.timed()):\n"
        "    print(frame.number, flush=True)\n"
        "print('end', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(IMAGES[:3].tobytes())
    process.stdin.flush()
    assert [process.stdout.readline() for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"end\n"
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""
    process.stdin.close()


def test_a_camera_gives_frames_with_their_arrival_times(monkeypatch):
    class Camera:
        left = list(IMAGES)

        def __init__(self, index):
            self._index = index

        def isOpened(self):  # noqa: N802
            return self._index == 0

        def get(self, _):
            return 15.0

        def read(self):
            return (True, self.left.pop(0) // (1, 2, 4)) if self.left else (False, None)

        def release(self):
            self.left.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    frames = live_frames.open_camera(0)
    seen = list(frames.timed())
    assert frames.is_live and frames.length is None and frames.frames_per_second == 15
    assert len(seen) == 6 and Camera.left == ["released"]
    assert seen[0].image[0, 0].tolist() == [1, 2, 5]  # OpenCV's order is BGR.
    assert seen[0].time == 0 and all(a.time <= b.time for a, b in zip(seen, seen[1:]))
    with pytest.raises(InputError, match="camera 7 cannot be opened"):
        live_frames.open_camera(7)

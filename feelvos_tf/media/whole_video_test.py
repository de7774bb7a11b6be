"""Truncated videos are told from complete ones in every container."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import video

CODECS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("libx264", "yuv420p"),
    "mkv": ("libx264", "yuv420p"),
    "avi": ("mjpeg", "yuvj420p"),
    "webm": ("libvpx-vp9", "yuv420p"),
    "gif": ("gif", "rgb8"),
    "ts": ("mpeg2video", "yuv420p"),
    "m2ts": ("libx264", "yuv420p"),
    "mpg": ("mpeg2video", "yuv420p"),
    "y4m": ("rawvideo", "yuv420p"),
    "nut": ("libx264", "yuv420p"),
    "flv": ("flv1", "yuv420p"),
    "wmv": ("wmv2", "yuv420p"),
    "ogv": ("libvpx", "yuv420p"),
    "mjpeg": ("mjpeg", "yuvj420p"),
}


def write(path, options=None, count=12, times=None, sound=None, codec=None):
    """Writes frames of noise, so that all need space.

    Args:
      path: the file.
      options: of the container.
      count: number of frames.
      times: of the frames in tenths of a second, followed by the end of the last frame.
      sound: (codec, seconds) of a silent track that begins at 0.
      codec: (codec, pixel format) in place of the suffix's.
    """
    codec, pixels = codec or CODECS[path.suffix[1:]]
    noise = np.random.default_rng(0).integers(0, 255, (count, 48, 64, 3), dtype=np.uint8)
    times = list(range(count + 1)) if times is None else times
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        if codec == "libx264":
            stream.options = {"bf": "0"}
        audio = container.add_stream(sound[0], rate=44100) if sound else None
        packets = []
        for image, time in zip(noise, times):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = time, Fraction(1, 10)
            packets += stream.encode(frame)
        packets += stream.encode()
        if sound:
            packets += silence(audio, sound[1])
        for packet in packets:
            if packet.stream is stream:
                packet.duration = round(0.1 / packet.time_base)
        last = max((p for p in packets if p.stream is stream), key=lambda p: p.pts)
        last.duration = round(
            Fraction(times[len(noise)] - times[len(noise) - 1], 10) / last.time_base
        )
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)


def silence(stream, seconds):
    """Returns the packets of a silent track."""
    context = stream.codec_context
    context.bit_rate = 64000
    context.open()
    size = context.frame_size or 1024
    packets = []
    for number in range(int(seconds * 44100 / size)):
        samples = np.zeros((context.layout.nb_channels, size), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=context.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = 44100, number * size, Fraction(1, 44100)
        packets += stream.encode(frame)
    return packets + stream.encode()


@pytest.mark.parametrize("suffix", CODECS)
def test_complete_videos_give_all_frames_with_their_times(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    write(path)
    frames = list(video.open_frames(path).timed())
    assert [frame.number for frame in frames] == list(range(12))
    step = 0.04 if suffix == "mjpeg" else 0.1  # MJPEG carries no time.
    assert [float(frame.time) for frame in frames] == pytest.approx([n * step for n in range(12)])
    assert frames[0].image.shape == (48, 64, 3)


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.85, 0.999])
def test_truncated_videos_fail_after_their_remaining_frames(tmp_path, suffix, share):
    path = tmp_path / f"clip.{suffix}"
    # With its index in front, a truncated .mp4 can still be opened.
    write(path, {"movflags": "faststart"} if suffix in ("mp4", "mov") else None)
    content = path.read_bytes()
    path.write_bytes(content[: min(int(len(content) * share), len(content) - 2)])
    seen = []
    with pytest.raises(
        InputError, match=r"clip\.\w+: the video (is cut off|cannot be decoded) after"
    ):
        for frame in video.open_frames(path).timed():
            seen.append(frame)
    assert (share < 0.5 or seen) and (share > 0.7 or len(seen) < 12)


def test_a_selection_before_the_cut_of_a_truncated_video_is_read(tmp_path):
    path = tmp_path / "clip.webm"
    write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(list(video.open_frames(path).timed(0, 3))) == 3


COMPLETE = {
    # The pictures begin later than the sound.
    "late.mkv": {"times": range(4, 17), "sound": ("aac", 1.4), "codec": ("libx264", "yuv420p")},
    "late.nut": {"times": range(4, 17), "codec": ("mpeg4", "yuv420p")},
    "late.flv": {"times": range(4, 17), "codec": ("flv1", "yuv420p")},
    # The writer leaves gaps for frames 3 to 8.
    "dropped.avi": {"times": [0, 1, 2, 9, 10, 11, 12], "count": 6},
    "sound.flv": {"sound": ("aac", 4.0), "codec": ("flv1", "yuv420p")},
    "sound.wmv": {"sound": ("wmav2", 4.0), "codec": ("wmv2", "yuv420p")},
    "variable.mp4": {"times": [0, 1, 5, 6, 20, 50], "count": 5},
    "variable.webm": {"times": [0, 1, 5, 6, 20, 50], "count": 5},
    # The last frame lasts 3 seconds, which its packet does not declare.
    "undeclared.mkv": {"times": [0, 1, 5, 6, 20, 21], "count": 5},
}


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_videos_pass_even_if_the_declared_length_is_an_estimate(tmp_path, capfd, name):
    path = tmp_path / name
    write(path, **COMPLETE[name])
    if name == "undeclared.mkv":
        content = path.read_bytes()
        for old, new in (
            (b"00:00:02.100", b"00:00:05.000"),
            (struct.pack(">d", 2100), struct.pack(">d", 5000)),
        ):
            assert content.count(old) == 1
            content = content.replace(old, new)
        path.write_bytes(content)
    frames = list(video.open_frames(path).timed())
    assert len(frames) == COMPLETE[name].get("count", 12)
    may_warn = name.split(".")[0] in ("sound", "undeclared")
    assert may_warn or "warning" not in capfd.readouterr().err


def test_a_shortfall_from_an_estimated_length_only_warns(tmp_path, capfd):
    write(tmp_path / "sound.flv", **COMPLETE["sound.flv"])
    assert len(list(video.open_frames(tmp_path / "sound.flv").timed())) == 12
    (line,) = [x for x in capfd.readouterr().err.splitlines() if "sound.flv" in x]
    assert line.startswith("warning: ") and "may be cut off after 12 frames: expected" in line
    write(tmp_path / "clip.mkv")
    list(video.open_frames(tmp_path / "clip.mkv").timed())
    assert "warning" not in capfd.readouterr().err


def test_a_gap_between_the_first_frames_does_not_make_a_video_short(tmp_path):
    """With reordered frames, the container adds the gap to the duration, not to the last frame."""
    with av.open(str(tmp_path / "gap.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, time in enumerate((3, 4, 7, 8, 9, 10, 11)):
            image = np.full((48, 64, 3), 20 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert len(list(video.open_frames(tmp_path / "gap.mp4"))) == 7

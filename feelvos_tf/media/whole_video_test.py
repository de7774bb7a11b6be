"""Videos that broke off are told from whole ones, in every container."""

from __future__ import annotations

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
}


def write(path, options=None, count=12):
    """Writes noise: frames that all need space."""
    codec, pixels = CODECS[path.suffix[1:]]
    noise = np.random.default_rng(0).integers(0, 255, (count, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for image in noise:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("suffix", CODECS)
def test_whole_videos_give_all_frames_with_their_times(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    write(path)
    frames = list(video.open_frames(path).timed())
    assert [frame.number for frame in frames] == list(range(12))
    assert [float(frame.time) for frame in frames] == pytest.approx([n / 10 for n in range(12)])
    assert frames[0].image.shape == (48, 64, 3)


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_cut_videos_are_told_after_the_frames_they_still_have(tmp_path, suffix, share):
    path = tmp_path / f"clip.{suffix}"
    # With its index in front an .mp4 can still be opened.
    write(path, {"movflags": "faststart"} if suffix in ("mp4", "mov") else None)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    seen = []
    with pytest.raises(
        InputError, match=r"clip\.\w+: the video (is cut off|cannot be decoded) after"
    ):
        for frame in video.open_frames(path).timed():
            seen.append(frame)
    assert (share < 0.5 or seen) and len(seen) < 12


def test_the_end_of_a_part_is_not_the_end_of_a_cut_video(tmp_path):
    path = tmp_path / "clip.webm"
    write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(list(video.open_frames(path).timed(0, 3))) == 3

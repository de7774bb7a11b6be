"""Written videos: times, sound, transparency and exactness."""

from __future__ import annotations

import dataclasses
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import video, video_writing
from feelvos_tf.testing import drawn_videos

IMAGES = [np.full((32, 48, 3), 25 * n + 5, np.uint8) for n in range(8)]


def write_with_sound(path, codec="aac", seconds=2.0, tone=440):
    """Writes 2 s at 10 frames per second with a tone that gets louder."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=10)
        picture.width, picture.height, picture.pix_fmt = 48, 32, "yuv420p"
        sound = container.add_stream(codec, rate=48000)
        for n in range(int(10 * seconds)):
            image = np.full((32, 48, 3), 10 * n, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(picture.encode())
        t = np.arange(int(48000 * seconds)) / 48000
        wave = (t / seconds * np.sin(2 * np.pi * tone * t)).astype(np.float32)
        size = 960
        for start in range(0, len(wave) - size + 1, size):
            chunk = wave[None, start : start + size]
            if codec == "libopus":
                frame = av.AudioFrame.from_ndarray(chunk, "flt", "mono")
            else:
                frame = av.AudioFrame.from_ndarray(chunk, "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())


def loudness(path):
    """Returns the loudness in every tenth of a second."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    wave = np.concatenate(frames)
    return np.array([np.abs(part).max() for part in np.array_split(wave, len(wave) // 4800)])


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mkv", "aac"), ("mkv", "libopus")])
def test_sound_of_the_source_is_copied_and_begins_with_the_first_frame(tmp_path, suffix, codec):
    source = tmp_path / f"source.{suffix}"
    write_with_sound(source, codec)
    frames = list(video.open_frames(source).timed(5, 15))
    path = tmp_path / "part.mp4"
    with video_writing.writing_video(path, 10, source) as write:
        for frame in frames:
            write(frame.image, frame.time)
    assert [float(f.time) for f in video.open_frames(path).timed()] == pytest.approx(
        [n / 10 for n in range(10)], abs=0.001
    )
    whole, part = loudness(source), loudness(path)
    assert len(part) == pytest.approx(10, abs=1.5)
    np.testing.assert_allclose(part[2:8], whole[7:13], atol=0.12)


def test_a_source_without_usable_sound_gives_a_silent_video(tmp_path):
    drawn_videos.write_video(tmp_path / "silent.mp4", IMAGES, 10)
    with av.open(str(tmp_path / "raw.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    for name in ("silent.mp4", "raw.mkv"):
        with video_writing.writing_video(tmp_path / "out.mp4", 10, tmp_path / name) as write:
            for image in IMAGES:
                write(image)
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert len(container.streams) == 1
        assert len(list(video.open_frames(tmp_path / "out.mp4"))) == 8


def test_frames_keep_irregular_times(tmp_path):
    times = [Fraction(n, 1000) for n in (500, 540, 600, 601, 900, 900, 2500)]
    with video_writing.writing_video(tmp_path / "out.mp4", 30) as write:
        for time, image in zip(times, IMAGES):
            write(image, time)
    frames = list(video.open_frames(tmp_path / "out.mp4").timed())
    found = [float(frame.time) for frame in frames]
    assert found == pytest.approx([0, 0.04, 0.1, 0.101, 0.4, 0.4, 2.0], abs=0.0005)
    assert [int(frame.image.mean().round(-1)) // 5 for frame in frames] != []
    assert len(frames) == 7


def test_sound_without_a_decoder_is_left_out(tmp_path):
    source = tmp_path / "source.mp4"
    write_with_sound(source)
    content = source.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"free")
    source.write_bytes(content)
    with video_writing.writing_video(tmp_path / "out.mp4", 10, source) as write:
        write(IMAGES[0])
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_browsers_can_play_the_video_while_it_loads(tmp_path):
    drawn_videos.write_video(tmp_path / "out.mp4", IMAGES, 10)
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")


def test_transparency_is_read_back_from_webm(tmp_path):
    image = np.zeros((33, 47, 4), np.uint8)
    image[8:24, 8:24] = (200, 30, 40, 255)
    encoding = video_writing.WITH_ALPHA
    with video_writing.writing_video(tmp_path / "out.webm", 10, encoding=encoding) as write:
        for _ in range(5):
            write(image)
    with av.open(str(tmp_path / "out.webm")) as container:
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        frames = [f for packet in container.demux(video=0) for f in decoder.decode(packet)]
    assert len(frames) == 5
    back = frames[-1].reformat(format="rgba", dst_colorspace=Colorspace.ITU601).to_ndarray()
    assert back.shape == (34, 48, 4)
    assert (back[10:22, 10:22, 3] > 240).all() and (back[28:, 28:, 3] < 15).all()
    np.testing.assert_allclose(back[12:20, 12:20, :3].mean((0, 1)), image[16, 16, :3], atol=12)


@pytest.mark.parametrize("size", [(33, 47), (240, 1), (500, 1), (1, 500), (2, 2), (700, 3)])
def test_gray_is_read_back_losslessly_even_if_narrow(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 2, (5, *size), dtype=np.uint8) * 255
    encoding = video_writing.LOSSLESS_GRAY
    with video_writing.writing_video(tmp_path / "out.mkv", 10, encoding=encoding) as write:
        for image in noise:
            write(image)
    back = list(video.open_frames(tmp_path / "out.mkv"))
    np.testing.assert_array_equal(np.stack(back)[..., 0], noise)


def test_an_error_names_its_own_file_among_several_that_are_written(tmp_path):
    slices = {"level": "3", "slices": "5"}  # 5 is not a number of slices that FFV1 has.
    encoding = dataclasses.replace(video_writing.LOSSLESS_GRAY, options=slices)
    with (
        pytest.raises(InputError, match="bad.mkv: cannot be written"),
        video_writing.writing_video(tmp_path / "bad.mkv", 10, encoding=encoding) as write_bad,
        video_writing.writing_video(tmp_path / "good.mp4", 10) as write,
    ):
        write(IMAGES[0])
        write_bad(IMAGES[0][..., 0])
    assert not list(tmp_path.iterdir())


def test_a_wrong_suffix_and_a_video_without_frames_are_refused(tmp_path):
    with pytest.raises(InputError, match="a.avi: expected a name that ends in .mp4"):
        drawn_videos.write_video(tmp_path / "a.avi", IMAGES, 10)
    with pytest.raises(InputError, match="a.mp4: no frames to write"):
        drawn_videos.write_video(tmp_path / "a.mp4", [], 10)
    assert not list(tmp_path.iterdir())


# Runs in the page: both videos must load, and the background must show through the cutout.
_PLAY = """<body><video src="overlay.mp4" muted></video><video src="cutout.webm" muted></video>
<canvas width="96" height="64"></canvas><script>
const videos = [...document.querySelectorAll("video")];
const loaded = videos.map(v => new Promise(done => {
  v.onloadeddata = () => { v.currentTime = 0.3; };
  v.onseeked = v.onerror = done;
}));
Promise.all(loaded).then(() => {
  const canvas = document.querySelector("canvas").getContext("2d");
  canvas.drawImage(videos[1], 0, 0);
  const alpha = [32, 90].map(x => canvas.getImageData(x, 32, 1, 1).data[3]);
  document.title = [...videos.map(v => `${v.readyState} ${v.videoWidth} ${v.duration}`), alpha];
});</script></body>"""


def test_a_browser_plays_overlay_and_cutout(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium: none is installed")
    write_with_sound(tmp_path / "source.mp4")
    with video_writing.writing_video(
        tmp_path / "overlay.mp4", 10, tmp_path / "source.mp4"
    ) as write:
        for frame in video.open_frames(tmp_path / "source.mp4").timed():
            write(frame.image, frame.time)
    image = np.zeros((64, 96, 4), np.uint8)
    image[16:48, 16:48] = (250, 0, 0, 255)
    encoding = video_writing.WITH_ALPHA
    with video_writing.writing_video(tmp_path / "cutout.webm", 10, encoding=encoding) as write:
        for _ in range(8):
            write(image)
    (tmp_path / "page.html").write_text(_PLAY)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--allow-file-access-from-files"]
        )
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function("document.title", timeout=60_000)
        title = page.title()
        browser.close()
    assert title == "4 48 2,4 96 0.8,255,0"

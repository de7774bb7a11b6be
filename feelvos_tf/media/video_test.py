"""Frames, overlays and videos, through real files drawn by the tests."""

from __future__ import annotations

import os
import pathlib
import struct
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, features

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import masks, overlay, pictures, video, video_writing
from feelvos_tf.media.masks import DAVIS_PALETTE
from feelvos_tf.testing import drawn_videos


def color_bars(height: int = 48, width: int = 64, shift: int = 0) -> np.ndarray:
    """Returns four vertical bars: red, green, blue, gray."""
    colors = np.array([[200, 30, 40], [20, 180, 60], [30, 50, 190], [128, 128, 128]], np.uint8)
    bars = colors[np.arange(width) * 4 // width]
    return np.broadcast_to(np.roll(bars, shift, axis=0), (height, width, 3)).copy()


def test_folder_is_read_in_natural_order_without_hidden_files(tmp_path):
    for number in (10, 9, 1):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "._frame1.png").write_bytes(b"what macOS leaves behind")
    (tmp_path / "notes.txt").write_text("no picture")
    frames = video.open_frames(tmp_path)
    assert [frames.name(number) for number in range(3)] == ["frame1", "frame9", "frame10"]
    assert frames.length == 3
    assert [image[0, 0, 0] for image in frames] == [1, 9, 10]


def test_pictures_of_any_mode_become_rgb_and_are_rotated_by_exif(tmp_path):
    Image.new("L", (8, 6), 77).save(tmp_path / "gray.png")
    Image.new("RGBA", (8, 6), (1, 2, 3, 128)).save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotate by 90 degrees clockwise for display.
    Image.fromarray(color_bars(16, 32)).save(tmp_path / "phone.jpg", exif=exif, quality=100)
    assert (pictures.read_image(tmp_path / "gray.png") == 77).all()
    assert (pictures.read_image(tmp_path / "alpha.png") == (1, 2, 3)).all()
    turned = pictures.read_image(tmp_path / "phone.jpg")
    assert turned.shape == (32, 16, 3)
    assert turned[2, 8].argmax() == 0 and turned[12, 8].argmax() == 1


def test_frames_are_read_lazily(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"damaged")
    frames = iter(video.open_frames(tmp_path))
    assert next(frames).shape == (6, 8, 3)
    with pytest.raises(InputError, match="1.png: expected a picture"):
        next(frames)


@pytest.mark.parametrize("encoders", ["all", "no H.264"])
def test_video_written_and_read_back_keeps_frames_colors_and_rate(tmp_path, monkeypatch, encoders):
    if encoders == "no H.264":
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    path = tmp_path / "deeper" / "bars.mp4"
    images = [color_bars(47, 63, shift=8 * index) for index in range(5)]
    drawn_videos.write_video(path, images, frames_per_second=30000 / 1001)
    frames = video.open_frames(path)
    assert frames.frames_per_second == pytest.approx(30000 / 1001)
    assert frames.length == 5 and frames.name(12) == "00012"
    back = list(frames)
    assert [image.shape for image in back] == [(48, 64, 3)] * 5  # Odd sizes grow by one pixel.
    for image, original in zip(back, images):
        np.testing.assert_allclose(image[10, 4::8], original[10, 4::8], atol=12)
    assert [entry.name for entry in path.parent.iterdir()] == ["bars.mp4"]


def test_seconds_are_looked_up_among_irregular_times(tmp_path):
    times = [Fraction(n, 100) for n in (0, 12, 24, 28, 36, 48)]
    with video_writing.writing_video(tmp_path / "irregular.mp4", 25) as write:
        for time in times:
            write(color_bars(), 3 + time)
    frames = video.open_frames(tmp_path / "irregular.mp4")
    assert [frame.time for frame in frames.timed()] == times
    assert [frames.number_at(time) for time in times] == [0, 1, 2, 3, 4, 5]
    asked = ("0.001", "0.25", "0.281", "0.3", "9")
    assert [frames.number_at(Fraction(text)) for text in asked] == [0, 3, 3, 4, 6]


def test_phone_video_is_rotated_upright(tmp_path):
    path = tmp_path / "phone.mp4"
    drawn_videos.write_video(path, [color_bars(32, 64)] * 3, frames_per_second=24)
    content = path.read_bytes()
    # The display matrix is 44 bytes into the track header; 90 degrees clockwise is b=1, c=-1.
    start = content.index(b"tkhd") + 44
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    path.write_bytes(content[:start] + turned + content[start + 36 :])
    image = next(iter(video.open_frames(path)))
    assert image.shape == (64, 32, 3)
    assert [image[row, 16].argmax() for row in (8, 24, 40)] == [0, 1, 2]


@pytest.mark.parametrize("is_turned", [False, True])
def test_the_pixel_aspect_is_that_of_upright_frames(tmp_path, is_turned):
    path, aspect = tmp_path / "wide.mp4", Fraction(4, 3)
    with video_writing.writing_video(path, 24, pixel_aspect=aspect) as write:
        write(color_bars())
    if is_turned:
        content = path.read_bytes()
        start = content.index(b"tkhd") + 44
        turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
        path.write_bytes(content[:start] + turned + content[start + 36 :])
    assert video.open_frames(path).pixel_aspect == (1 / aspect if is_turned else aspect)
    drawn_videos.write_video(tmp_path / "square.mp4", [color_bars()], 24)
    assert video.open_frames(tmp_path / "square.mp4").pixel_aspect == 1


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("down", [1, -1])
@pytest.mark.parametrize("right", [1, -1])
def test_mirrored_and_rotated_videos_are_shown_upright(tmp_path, is_turned, down, right):
    """The display matrix is (x by x, y by x, 0), (x by y, y by y, 0), and a shift."""
    path = tmp_path / "phone.mp4"
    picture = color_bars(32, 64)
    picture[:8] = 0  # Otherwise upside down would look the same.
    drawn_videos.write_video(path, [picture] * 3, frames_per_second=24)
    content = path.read_bytes()
    start = content.index(b"tkhd") + 44
    turns = (0, down, right, 0) if is_turned else (right, 0, 0, down)
    a, b, c, d = (turn * (1 << 16) for turn in turns)
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:start] + matrix + content[start + 36 :])
    expected = picture.transpose(1, 0, 2) if is_turned else picture
    shown = next(iter(video.open_frames(path)))
    assert shown.shape == expected.shape
    assert abs(shown.astype(int) - expected[::down, ::right]).mean() < 8


def test_failing_frame_leaves_no_video_behind(tmp_path):
    def images():
        yield color_bars()
        raise InputError("second frame is damaged")

    with pytest.raises(InputError, match="damaged"):
        drawn_videos.write_video(tmp_path / "out.mp4", images(), 24)
    assert not list(tmp_path.iterdir())


def test_unusable_sources_give_one_line_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "twice").mkdir()
    for suffix in ("png", "jpg"):
        Image.new("RGB", (8, 6)).save(tmp_path / "twice" / f"0.{suffix}")
    for name, sentence in {
        "missing.mp4": "expected a video, found no such file",
        "text.mp4": "expected a video .Invalid data found",
        "empty": "expected pictures in this folder .*, found none",
        "twice": "expected one picture per name, found 2 called 0",
    }.items():
        with pytest.raises(InputError, match=f"{name}.*{sentence}"):
            video.open_frames(tmp_path / name)


def test_files_of_several_pictures_are_refused_rather_than_read_in_part(tmp_path):
    first, *others = (Image.fromarray(color_bars(shift=shift)) for shift in (0, 8, 16))
    for suffix in ("png", "webp", "tif"):
        folder = tmp_path / suffix
        folder.mkdir()
        first.save(folder / f"0.{suffix}", save_all=True, append_images=others)
        with pytest.raises(InputError, match=f"0.{suffix}: expected one picture per file, found 3"):
            list(video.open_frames(folder))
    with pytest.raises(InputError, match="0.tif: expected one picture per file, found 3"):
        video.open_frames(tmp_path / "tif" / "0.tif")
    first.save(tmp_path / "page.tif")
    assert len(list(video.open_frames(tmp_path / "page.tif"))) == 1
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=others)
    assert pictures.read_image(tmp_path / "phone.jpg").shape == (48, 64, 3)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_an_animated_avif_is_refused_rather_than_read_in_part(tmp_path):
    first, *others = (Image.fromarray(color_bars(shift=shift)) for shift in (0, 8, 16))
    first.save(tmp_path / "a.avif", save_all=True, append_images=others)
    with pytest.raises(InputError, match="a.avif: expected a video, found a picture .* 3 frames"):
        video.open_frames(tmp_path / "a.avif")


def test_pipes_are_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for read in (pictures.read_image, masks.read_annotation, video.open_frames):
        with pytest.raises(InputError, match="pipe.png: expected .* found something that is no"):
            read(tmp_path / "pipe.png")


def test_only_picture_formats_are_opened_regardless_of_suffix(tmp_path):
    (tmp_path / "drawing.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(InputError, match="drawing.jpg: expected a picture"):
        pictures.read_image(tmp_path / "drawing.jpg")
    Image.new("F", (8, 6), 0.5).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="float.tif: expected .* 8 or 16 bits .*, found mode F"):
        pictures.read_image(tmp_path / "float.tif")


def test_reading_leaves_warning_filters_alone(tmp_path):
    """`warnings.catch_warnings` is not thread-safe: another thread's filters would be lost."""
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        before = list(warnings.filters)
        with pictures.opened(tmp_path / "a.png", "a picture"):
            warnings.simplefilter("error", ResourceWarning)  # As another thread might.
            during = list(warnings.filters)
        assert warnings.filters == during != before


def test_16_bit_gray_is_scaled_to_8_bits_and_rotated(tmp_path):
    deep = np.array([[0, 257, 65535], [128 * 257, 129 * 257 + 100, 1]], np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 3  # Show upside down.
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "turned.png", exif=exif)
    expected = np.array([[0, 1, 255], [128, 129, 0]])
    np.testing.assert_array_equal(pictures.read_image(tmp_path / "deep.png")[..., 1], expected)
    turned = pictures.read_image(tmp_path / "turned.png")[..., 1]
    np.testing.assert_array_equal(turned, expected[::-1, ::-1])


def test_a_corrupt_video_fails_with_the_frame_number(tmp_path):
    path = tmp_path / "cut.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    drawn_videos.write_video(path, noise, frames_per_second=24)
    content = bytearray(path.read_bytes())
    middle = content.index(b"mdat") + 4
    content[middle + 20 : middle + 30000] = bytes(30000 - 20)
    path.write_bytes(content)
    with pytest.raises(InputError, match="cut.mp4: the video cannot be decoded after frame"):
        list(video.open_frames(path))


def test_names_with_colons_are_no_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "take:12:30.mp4"
    drawn_videos.write_video(pathlib.Path(name), [color_bars()] * 3, 10)
    assert len(list(video.open_frames(name))) == 3
    with video_writing.writing_video("again:1.mp4", 10, sound=name) as write:
        write(color_bars())
    assert len(list(video.open_frames("again:1.mp4"))) == 1


def test_sound_without_pictures_is_not_a_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="sound.mp4: expected a video, found a file without"):
        video.open_frames(path)


def test_overlay_tints_and_outlines_objects_and_keeps_the_rest():
    image = np.full((60, 80, 3), 100, np.uint8)
    ids = np.zeros((60, 80), np.uint8)
    ids[10:40, 10:40] = 1
    ids[10:40, 40:70] = 2
    ids[45:55, 10:20] = 255
    before = image.copy()
    result = overlay.overlay(image, ids, alpha=0.25)
    assert (image == before).all()
    assert (result[(ids == 0) | (ids == 255)] == 100).all()
    for value, column in ((1, 25), (2, 55)):
        expected = 0.75 * 100 + 0.25 * DAVIS_PALETTE[value].astype(float)
        np.testing.assert_allclose(result[25, column], expected, atol=1)
    contour = (result == np.minimum(DAVIS_PALETTE[1].astype(int) * 2 + 40, 255)).all(axis=-1)
    rows, columns = np.nonzero(contour)
    assert contour[25, [10, 39]].all() and not contour[25, 11:39].any()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 39, 10, 39)


def test_contact_sheet_places_pictures_row_by_row():
    images = [np.full((30, 60, 3), 10 * value, np.uint8) for value in range(1, 6)]
    sheet = overlay.contact_sheet(images, columns=3, tile_width=40)
    assert sheet.shape == (20 + 6 + 20, 3 * 40 + 2 * 6, 3)
    assert [sheet[10, column, 0] for column in (5, 51, 97)] == [10, 20, 30]
    assert [sheet[36, column, 0] for column in (5, 51, 97)] == [40, 50, 255]
    assert overlay.contact_sheet(images[:1], columns=3).shape == (30, 60, 3)

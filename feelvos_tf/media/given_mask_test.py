"""Masks in all the forms that people draw and programs write."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import given_mask, masks, rle

SIZE = (48, 80)


def drawn(*ids):
    """Returns a mask of squares side by side."""
    mask = np.zeros(SIZE, np.uint8)
    for place, value in enumerate(ids):
        mask[10:30, 5 + 20 * place : 20 + 20 * place] = value
    return mask


def read(path, numbers=None):
    return given_mask.read(path, SIZE, numbers or given_mask.ObjectNumbers())


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_values_are_ids_in_indexed_gray_one_bit_and_16_bit_pictures(tmp_path):
    mask = drawn(3, 7, 200)
    masks.write_mask(tmp_path / "indexed.png", mask)
    saved(tmp_path / "gray.png", mask)
    saved(tmp_path / "deep.png", mask.astype(np.uint16))
    saved(tmp_path / "gray.bmp", mask)
    for name in ("indexed.png", "gray.png", "deep.png", "gray.bmp"):
        np.testing.assert_array_equal(read(tmp_path / name), mask)
    saved(tmp_path / "bit.png", drawn(1) > 0)
    np.testing.assert_array_equal(read(tmp_path / "bit.png"), drawn(1))
    with pytest.raises(InputError, match="large.png: expected object ids 0..255, found 0..300"):
        read(saved(tmp_path / "large.png", drawn(1).astype(np.uint16) * 300))


def test_white_on_black_is_one_object_in_gray_and_in_colors(tmp_path):
    white = drawn(255)
    for number, array in enumerate((white, np.stack([white] * 3, -1))):
        ids = read(saved(tmp_path / f"{number}.png", array))
        np.testing.assert_array_equal(ids, drawn(1))
    clear = np.stack([np.full(SIZE, 255, np.uint8)] * 3 + [white], -1)
    np.testing.assert_array_equal(read(saved(tmp_path / "clear.png", clear)), drawn(1))


def test_every_color_is_an_object_and_keeps_its_id_in_later_masks(tmp_path):
    colors = np.array([[0, 0, 0], [250, 10, 10], [10, 10, 250], [10, 250, 10]], np.uint8)
    numbers = given_mask.ObjectNumbers()
    first = read(saved(tmp_path / "first.png", colors[drawn(2, 1)]), numbers)
    np.testing.assert_array_equal(first, drawn(1, 2))
    assert numbers.reading() == "1 = (10, 10, 250), 2 = (250, 10, 10)"
    later = read(saved(tmp_path / "later.png", colors[drawn(3, 1)]), numbers)
    np.testing.assert_array_equal(later, drawn(3, 2))


def test_colors_of_the_davis_palette_are_its_ids(tmp_path):
    mask = drawn(5, 2)
    ids = read(saved(tmp_path / "colors.png", masks.DAVIS_PALETTE[mask]))
    np.testing.assert_array_equal(ids, mask)


@pytest.mark.parametrize("name", ["drawn.gif", "quantized.png", "clear.gif"])
def test_indices_that_are_sorted_by_color_are_no_ids(tmp_path, name):
    """Pillow puts the background last in these."""
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    image = Image.fromarray(colors[drawn(1, 2)])
    if name == "clear.gif":
        indices = 2 - drawn(1, 2)  # Object 2 is index 0.
        image = Image.fromarray(indices)
        image.putpalette([0, 255, 0, 255, 0, 0, 200, 200, 200])
        image.save(tmp_path / name, transparency=2)
    elif name == "drawn.gif":
        image.save(tmp_path / name)
    else:
        image.quantize(16).save(tmp_path / name)
    assert np.asarray(Image.open(tmp_path / name))[0, 0] != 0
    np.testing.assert_array_equal(read(tmp_path / name), drawn(2, 1))


def test_indices_of_a_palette_whose_first_color_is_black_are_ids(tmp_path):
    image = Image.fromarray(drawn(15, 40))
    image.putpalette([0, 0, 0] + [200, 100, 0] * 39 + [0, 0, 9])
    for name in ("ids.png", "ids.gif"):
        image.save(tmp_path / name, optimize=False)
        np.testing.assert_array_equal(read(tmp_path / name), drawn(15, 40))


@pytest.mark.parametrize("quality", [99, 98, 95, 90])
def test_white_on_black_that_was_once_a_jpeg_is_one_object(tmp_path, quality):
    saved(tmp_path / "once.jpg", drawn(255), quality=quality)
    with Image.open(tmp_path / "once.jpg") as image:
        image.save(tmp_path / "mask.png")
        assert set(np.unique(image)) > {0, 255}
    np.testing.assert_array_equal(read(tmp_path / "mask.png"), drawn(1))
    # Two small ids beside void are ids.
    np.testing.assert_array_equal(
        read(saved(tmp_path / "ids.png", drawn(1, 255, 2))), drawn(1, 255, 2)
    )


def test_soft_edges_are_refused_in_all_colors(tmp_path):
    disk = cv2.circle(np.zeros((4 * 48, 4 * 80), np.uint8), (100, 90), 60, 255, -1)
    soft = cv2.resize(disk, SIZE[::-1], interpolation=cv2.INTER_AREA)
    red = np.stack([soft, soft // 8, soft // 8], -1)
    blurred = cv2.GaussianBlur(drawn(200, 100), (0, 0), 1.5)
    ids = cv2.resize(cv2.resize(drawn(1, 2, 7), (320, 192)), SIZE[::-1])
    for name, array in {"soft": soft, "red": red, "blurred": blurred}.items():
        with pytest.raises(InputError, match=f"{name}.png: .*smoothed"):
            read(saved(tmp_path / f"{name}.png", array))
    assert read(saved(tmp_path / "small.png", ids)) is not None
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="photo.png: expected one color per object, found"):
        read(saved(tmp_path / "photo.png", photo))
    saved(tmp_path / "lossy.jpg", drawn(255))
    with pytest.raises(InputError, match="lossy.jpg: cannot be read as a mask"):
        read(tmp_path / "lossy.jpg")


def written(tmp_path, content):
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_run_lengths_are_read_in_all_their_wrappings(tmp_path):
    mask = drawn(1, 2)
    runs = [rle.encode(mask == value) for value in (1, 2)]
    segments = [{"segmentation": run, "category_id": 5} for run in runs]
    for content in (
        runs,
        segments,
        {"annotations": segments, "images": [{"height": 48, "width": 80}]},
    ):
        np.testing.assert_array_equal(read(written(tmp_path, content)), mask)
    np.testing.assert_array_equal(read(written(tmp_path, runs[0])), drawn(1))
    named = [{**segment, "object_id": 7 + i} for i, segment in enumerate(segments)]
    np.testing.assert_array_equal(read(written(tmp_path, named)), drawn(7, 8))


def test_polygons_of_coco_and_labelme_are_filled(tmp_path):
    square = [[5, 10], [20, 10], [20, 30], [5, 30]]
    coco = [{"segmentation": [np.ravel(square).tolist()]}]
    shapes = [
        {"label": "cat", "points": square},
        {"label": "dog", "points": [[25, 10], [40, 30]], "shape_type": "rectangle"},
    ]
    found = read(written(tmp_path, coco))
    np.testing.assert_array_equal(found, drawn(1))
    numbers = given_mask.ObjectNumbers()
    found = read(
        written(tmp_path, {"shapes": shapes, "imageHeight": 48, "imageWidth": 80}), numbers
    )
    assert numbers.reading() == "1 = cat, 2 = dog"
    np.testing.assert_array_equal(found, drawn(1, 2))
    circle = {"label": "3", "points": [[40, 24], [50, 24]], "shape_type": "circle"}
    found = read(written(tmp_path, {"shapes": [circle]}))
    assert set(np.unique(found)) == {0, 3} and abs((found == 3).sum() - np.pi * 100) < 6


def test_masks_inside_labelme_files_are_read(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 15), 255, np.uint8)).save(buffer, "PNG")
    shape = {
        "label": "cat",
        "points": [[5, 10], [19, 29]],
        "shape_type": "mask",
        "mask": base64.b64encode(buffer.getvalue()).decode(),
    }
    np.testing.assert_array_equal(read(written(tmp_path, {"shapes": [shape]})), drawn(1))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"size": [1, 1], "counts": [1]}, "run lengths of 1x1 pixels .*, not of the frame's 80x48"),
        ({"size": [48, 80], "counts": [5]}, "run lengths add up to 5"),
        ({"size": [48, 80], "counts": 5}, "counts are neither"),
        ([{"segmentation": [[1, 2]]}], "three points"),
        ([{"segmentation": [[1, 2, 3, 4, 1e300, float("nan")]]}], "near the frame"),
        ([{"segmentation": [[1, 2, 3, 4, 5]]}], "cannot reshape"),
        ([{"object_id": 255, "segmentation": [[1, 2, 3, 4, 5, 9]]}], "ids 1..254, found 255"),
        ({"shapes": [{"label": "0", "points": [[1, 1]] * 3}]}, "ids 1..254, found 0"),
        ({"shapes": [{"label": "a", "points": [[1, 1]], "shape_type": "point"}]}, "has no inside"),
        ({"shapes": [], "imageHeight": 10**9, "imageWidth": 10**9}, "1 to .* pixels"),
        ({"annotations": [{"image_id": 1}, {"image_id": 2}]}, "annotations of 2 pictures"),
        ([{"segmentation": [[1, 2, 3, 4, 5, 6]] * 3000}], "more than 2000 polygons"),
        (3, "found something else"),
        ([None], "found something else"),
    ],
)
def test_json_that_is_no_mask_is_told_in_one_sentence(tmp_path, content, sentence):
    with pytest.raises(InputError, match=f"mask.json: .*{sentence}") as told:
        read(written(tmp_path, content))
    assert "\n" not in str(told.value)


def test_a_png_whose_pixels_do_not_fit_their_checksum_is_refused(tmp_path):
    masks.write_mask(tmp_path / "m.png", drawn(1, 2))
    content = bytearray((tmp_path / "m.png").read_bytes())
    at = content.index(b"IDAT")
    length = int.from_bytes(content[at - 4 : at], "big")
    content[at + 4 + length] ^= 1  # The checksum itself: the pixels could still be decoded.
    (tmp_path / "m.png").write_bytes(content)
    for reader in (read, masks.read_mask):
        with pytest.raises(InputError, match="m.png: cannot be read as a mask"):
            reader(tmp_path / "m.png")


def test_a_mask_of_absurd_size_is_refused_before_it_is_decoded(tmp_path):
    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    for side, sentence in ((30000, "could be decompression bomb"), (9000, "pixels .* 9000x9000")):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        pixels = chunk(b"IDAT", zlib.compress(b""))
        (tmp_path / "bomb.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
        )
        for reader in (read, masks.read_mask):
            with pytest.raises(InputError, match=f"bomb.png: .*{sentence}"):
                reader(tmp_path / "bomb.png")

"""Masks in all forms that people draw and programs write."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import given_mask, masks, rle

SIZE = (48, 80)


def drawn(*ids):
    """Returns a mask of adjacent squares."""
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
    with pytest.raises(
        InputError, match="large.png: expected whole object ids 0..255, found 0..300"
    ):
        read(saved(tmp_path / "large.png", drawn(1).astype(np.uint16) * 300))


def test_white_on_black_is_one_object_in_gray_and_in_colors(tmp_path):
    white = drawn(255)
    for number, array in enumerate((white, np.stack([white] * 3, -1))):
        ids = read(saved(tmp_path / f"{number}.png", array))
        np.testing.assert_array_equal(ids, drawn(1))
    clear = np.stack([np.full(SIZE, 255, np.uint8)] * 3 + [white], -1)
    np.testing.assert_array_equal(read(saved(tmp_path / "clear.png", clear)), drawn(1))


def test_black_on_transparency_is_one_object(tmp_path):
    black = np.dstack([np.zeros((*SIZE, 3), np.uint8), drawn(255)])
    np.testing.assert_array_equal(read(saved(tmp_path / "rgba.png", black)), drawn(1))
    np.testing.assert_array_equal(read(saved(tmp_path / "la.png", black[..., 2:])), drawn(1))


def test_every_color_is_an_object_and_keeps_its_id_in_later_masks(tmp_path):
    colors = np.array([[0, 0, 0], [250, 10, 10], [10, 10, 250], [10, 250, 10]], np.uint8)
    numbers = given_mask.ObjectNumbers()
    first = read(saved(tmp_path / "first.png", colors[drawn(2, 1)]), numbers)
    np.testing.assert_array_equal(first, drawn(1, 2))
    assert numbers.reading() == "1 = (10, 10, 250), 2 = (250, 10, 10)"
    later = read(saved(tmp_path / "later.png", colors[drawn(3, 1)]), numbers)
    np.testing.assert_array_equal(later, drawn(3, 2))


@pytest.mark.parametrize("first", ["jpg", "png"])
def test_objects_keep_their_ids_between_exact_colors_and_those_of_jpeg(tmp_path, first):
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    mask = np.kron(drawn(1, 2), np.ones((4, 4), np.uint8))
    saved(tmp_path / "both.jpg", colors[mask], quality=85)
    saved(tmp_path / "both.png", colors[mask])
    saved(tmp_path / "blue.png", colors[np.where(mask == 2, 2, 0)])
    numbers = given_mask.ObjectNumbers()

    def red_and_blue(name):
        ids = read(tmp_path / name, numbers)
        return [int(np.bincount(ids[mask == value]).argmax()) for value in (1, 2)]

    red, blue = red_and_blue(f"both.{first}")
    assert {red, blue} == {1, 2}
    for suffix in ("png", "jpg"):
        assert red_and_blue("blue.png") == [0, blue]
        assert red_and_blue(f"both.{suffix}") == [red, blue]


def test_similar_exact_colors_are_different_objects(tmp_path):
    colors = np.array([[0, 0, 0], [250, 0, 0], [240, 0, 0]], np.uint8)
    numbers = given_mask.ObjectNumbers()
    for ids in ((1,), (2, 1), (2,)):
        path = saved(tmp_path / "mask.png", colors[drawn(*ids)])
        np.testing.assert_array_equal(read(path, numbers), drawn(*ids))


def test_ids_in_a_mask_are_not_given_to_new_colors(tmp_path):
    colors = np.array([[0, 0, 0], [250, 10, 10]], np.uint8)
    red = saved(tmp_path / "red.png", colors[drawn(1)])
    for first, new in ((drawn(1, 2), 3), (drawn(255), 2)):
        numbers = given_mask.ObjectNumbers()
        read(saved(tmp_path / "first.png", first), numbers)
        np.testing.assert_array_equal(read(red, numbers), drawn(new))
        # A color of the palette still means its id.
        palette = saved(tmp_path / "palette.png", masks.DAVIS_PALETTE[drawn(1)])
        np.testing.assert_array_equal(read(palette, numbers), drawn(1))


def test_colors_of_the_davis_palette_are_its_ids(tmp_path):
    mask = drawn(5, 2)
    ids = read(saved(tmp_path / "colors.png", masks.DAVIS_PALETTE[mask]))
    np.testing.assert_array_equal(ids, mask)


@pytest.mark.parametrize("name", ["drawn.gif", "quantized.png", "clear.gif"])
def test_indices_sorted_by_color_are_not_ids(tmp_path, name):
    """In these files, Pillow puts the background last."""
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


def test_indices_are_ids_if_the_palette_begins_with_black(tmp_path):
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
    # Two small values next to void are ids.
    np.testing.assert_array_equal(
        read(saved(tmp_path / "ids.png", drawn(1, 255, 2))), drawn(1, 255, 2)
    )


def smooth(mask):
    """Returns a mask scaled up and down again, so that its edges are soft."""
    large = cv2.resize(mask, (4 * SIZE[1], 4 * SIZE[0]), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(np.roll(large, (1, 2), (0, 1)), SIZE[::-1], interpolation=cv2.INTER_AREA)


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


BLURS = {
    "antialiasing": smooth,
    "half pixels": lambda mask: cv2.blur(mask, (2, 2)),
    "brush": lambda mask: cv2.GaussianBlur(mask, (0, 0), 2),
}


@pytest.mark.parametrize("blur", BLURS)
def test_soft_edges_are_cut_at_half_and_reported(tmp_path, blur):
    for name, colors in {
        "white": [(255, 255, 255)],
        "red": [(255, 30, 30)],
        "two": [(255, 0, 0), (0, 255, 0)],
        "grays": [(255, 255, 255), (128, 128, 128)],
    }.items():
        mask = drawn(*range(1, len(colors) + 1))
        picture = BLURS[blur](np.array([(0, 0, 0), *colors], np.uint8)[mask])
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > len(colors) + 1
        numbers = given_mask.ObjectNumbers()
        ids = read(saved(tmp_path / f"{name}.png", picture), numbers)
        assert len(masks.object_ids(ids)) == len(colors)
        assert numbers.reading().endswith("soft edges cut at half")
        for value in range(1, len(colors) + 1):
            [found] = {*masks.object_ids(ids * (mask == value))}
            assert overlap(ids == found, mask == value) > 0.8


def test_soft_strokes_on_transparency_keep_their_colors(tmp_path):
    """Paint programs round the colors of nearly transparent pixels."""
    alpha = np.maximum(*(BLURS["brush"](drawn(*at)) for at in ((255,), (0, 255))))
    red = drawn(1) | np.roll(drawn(1), 5, 1)
    rgb = np.where(red[..., None] > 0, (255, 0, 0), (0, 0, 255))
    noise = np.random.default_rng(0).integers(-2, 3, rgb.shape) * (alpha < 250)[..., None]
    picture = np.dstack([np.clip(rgb + noise, 0, 255).astype(np.uint8), alpha])
    ids = read(saved(tmp_path / "strokes.png", picture))
    assert len(masks.object_ids(ids)) == 2
    assert overlap(ids > 0, drawn(1, 1) > 0) > 0.9


@pytest.mark.parametrize("mode", ["gray", "colors", "indexed"])
def test_thin_objects_are_objects(tmp_path, mode):
    mask = np.zeros(SIZE, np.uint8)
    for value in range(1, 9):
        mask[4 * value : 4 * value + 2, 10:70] = value
    picture = mask if mode == "gray" else masks.DAVIS_PALETTE[mask]
    image = Image.fromarray(picture)
    if mode == "indexed":
        masks.write_mask(tmp_path / "thin.png", mask)
    else:
        image.save(tmp_path / "thin.png")
    np.testing.assert_array_equal(read(tmp_path / "thin.png"), mask)


def test_touching_soft_objects_leave_no_line_between_them(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[10:40, 10:40], mask[10:40, 40:70] = 1, 2
    picture = BLURS["brush"](np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[mask])
    ids = read(saved(tmp_path / "two.png", picture))
    assert (ids[20:30, 20:60] > 0).all()
    assert overlap(ids == 2, mask == 1) > 0.85 and overlap(ids == 1, mask == 2) > 0.85


def test_photographs_and_textures_are_refused(tmp_path, testdata):
    rng = np.random.default_rng(0)
    photo = np.array(Image.open(testdata / "overlay.jpg"))
    noise = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (144, 240), dtype=np.uint8), (0, 0), 1)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    spotted = np.where(np.kron(drawn(1), np.ones((3, 3))) > 0, texture, 0).astype(np.uint8)
    for number, array in enumerate((photo, photo[..., 1], noise, texture, spotted)):
        with pytest.raises(InputError, match=f"{number}.png: .*one color per object, .* found"):
            read(saved(tmp_path / f"{number}.png", array))


def test_jpeg_is_read_if_its_colors_are_clear_and_refused_if_not(tmp_path):
    colors = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
    mask = np.kron(drawn(1, 2), np.ones((4, 4), np.uint8))
    saved(tmp_path / "mask.jpg", colors[mask], quality=85)
    numbers = given_mask.ObjectNumbers()
    ids = given_mask.read(tmp_path / "mask.jpg", mask.shape, numbers)
    assert overlap(ids > 0, mask > 0) > 0.98 and masks.object_ids(ids) == [1, 2]
    later = given_mask.read(saved(tmp_path / "l.png", colors[mask[::-1]]), mask.shape, numbers)
    assert masks.object_ids(later)
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="noise.jpg: .*JPEG adds colors to those drawn"):
        read(saved(tmp_path / "noise.jpg", noise))


@pytest.mark.parametrize("is_soft", [False, True])
def test_a_mask_may_be_drawn_on_its_frame(tmp_path, testdata, is_soft):
    frame = np.array(Image.open(testdata / "overlay.jpg"))[:240, :320]
    mask = cv2.resize(drawn(1, 2), (320, 240), interpolation=cv2.INTER_NEAREST)
    colors = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.float32)
    shares = np.stack([(mask == value).astype(np.float32) for value in (1, 2)])
    if is_soft:
        shares = np.stack([cv2.GaussianBlur(share, (0, 0), 1.5) for share in shares])
    drawing = frame * (1 - shares.sum(0))[..., None] + np.einsum("nhw,nc->hwc", shares, colors[1:])
    path = saved(tmp_path / "drawn.png", drawing.round().astype(np.uint8))
    numbers = given_mask.ObjectNumbers()
    ids = given_mask.read(path, mask.shape, numbers, lambda size: frame)
    assert ("soft edges" in numbers.reading()) == is_soft
    for value in (1, 2):
        [found] = masks.object_ids(ids * (mask == value))
        assert overlap(ids == found, mask == value) > (0.97 if is_soft else 0.999)
    for other in (lambda size: None, lambda size: np.roll(frame, 40, 1)):
        with pytest.raises(InputError, match="on black or on the frame itself, found"):
            given_mask.read(path, mask.shape, given_mask.ObjectNumbers(), other)


def test_grays_of_the_davis_palette_in_color_pictures_keep_their_ids(tmp_path):
    ids = read(saved(tmp_path / "seven.png", masks.DAVIS_PALETTE[drawn(7)]))
    np.testing.assert_array_equal(ids, drawn(7))
    # Other grays are ids, as in some copies of DAVIS 2016.
    np.testing.assert_array_equal(
        read(saved(tmp_path / "ids.png", np.dstack([drawn(7, 3)] * 3))), drawn(7, 3)
    )


def test_floats_and_32_bit_values_are_ids_or_refused(tmp_path):
    for value, expected in ((3, 3), (255, 1), (65535, 1)):
        for kind in (np.float32, np.int32):
            path = saved(tmp_path / "ids.tif", drawn(1).astype(kind) * value)
            np.testing.assert_array_equal(read(path), drawn(expected))
    for value in (300, 0.5, -1, float("nan")):
        path = saved(tmp_path / "no.tif", drawn(1).astype(np.float32) * np.float32(value))
        with pytest.raises(InputError, match=r"no.tif: expected whole object ids 0..255"):
            read(path)


def test_several_pictures_in_one_file_are_refused(tmp_path):
    first, second = (Image.fromarray(drawn(value)) for value in (1, 2))
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="two.tif: expected a mask, found 2 pictures"):
        read(tmp_path / "two.tif")


def test_every_object_may_have_its_own_file(tmp_path):
    white = saved(tmp_path / "a.png", drawn(255))
    red = saved(tmp_path / "b.png", masks.DAVIS_PALETTE[drawn(0, 1)])
    paths = [white, red, saved(tmp_path / "c.png", drawn(0, 0, 7))]
    ids = given_mask.read_each(paths, SIZE, given_mask.ObjectNumbers())
    np.testing.assert_array_equal(ids, drawn(1, 2, 3))
    for array, sentence in (
        (drawn(1, 2), "expected one object per file, found 2"),
        (drawn(0), "expected one object per file, found 0"),
        (np.ones((9, 9), np.uint8), "expected 80x48 pixels like .*a.png, found 9x9"),
    ):
        with pytest.raises(InputError, match=f"d.png: {sentence}"):
            given_mask.read_each(
                [white, saved(tmp_path / "d.png", array)], SIZE, given_mask.ObjectNumbers()
            )
    with pytest.raises(InputError, match="expected at most 254 masks of one object, found 255"):
        given_mask.read_each([white] * 255, SIZE, given_mask.ObjectNumbers())


def written(tmp_path, content):
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_run_lengths_are_read_in_every_form(tmp_path):
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


def test_masks_embedded_in_labelme_files_are_read(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 15), 255, np.uint8)).save(buffer, "PNG")
    shape = {
        "label": "cat",
        "points": [[5, 10], [19, 29]],
        "shape_type": "mask",
        "mask": base64.b64encode(buffer.getvalue()).decode(),
    }
    np.testing.assert_array_equal(read(written(tmp_path, {"shapes": [shape]})), drawn(1))


def test_names_and_entries_get_the_ids_left_by_numbers(tmp_path):
    squares = [[[5, 10], [20, 10], [20, 30]], [[25, 10], [40, 10], [40, 30]]]

    def labelme(*labels):
        return {"shapes": [{"label": n, "points": p} for n, p in zip(labels, squares)]}

    numbers = given_mask.ObjectNumbers()
    ids = read(written(tmp_path, labelme("dog", "1")), numbers)
    assert ids[12, 18] == 2 and ids[12, 38] == 1 and numbers.reading() == "2 = dog"
    # In another group, or with a leading zero, it is a different name.
    grouped = labelme("1", "1 2")
    grouped["shapes"][0]["group_id"] = 2
    assert len(masks.object_ids(read(written(tmp_path, grouped)))) == 2
    assert len(masks.object_ids(read(written(tmp_path, labelme("01", "1"))))) == 2
    numbers = given_mask.ObjectNumbers()
    read(written(tmp_path, labelme("dog", "cat")), numbers)
    with pytest.raises(InputError, match="mask.json: expected a free id, found 1, which is .* dog"):
        read(written(tmp_path, labelme("dog", "1")), numbers)

    polygons = [{"segmentation": [np.ravel(points).tolist()]} for points in squares]
    numbers = given_mask.ObjectNumbers()
    ids = read(written(tmp_path, [polygons[0], {**polygons[1], "object_id": 1}]), numbers)
    assert ids[12, 18] == 2 and ids[12, 38] == 1 and numbers.reading() == "2 = entry 1"
    for wrong in (True, 1.0, [1]):
        with pytest.raises(InputError, match="mask.json: expected"):
            read(written(tmp_path, [{**polygons[0], "object_id": wrong}]))


def test_results_of_several_pictures_are_refused_and_the_annotated_picture_is_chosen(tmp_path):
    run = rle.encode(drawn(1) > 0)
    results = [{"segmentation": run, "image_id": number} for number in range(50)]
    with pytest.raises(InputError, match="annotations of 50 pictures, expected those of one"):
        read(written(tmp_path, results))
    images = [{"id": 1, "height": 9, "width": 9}, {"id": 2, "height": 48, "width": 80}]
    content = {"annotations": [{"segmentation": run, "image_id": 2}], "images": images}
    np.testing.assert_array_equal(read(written(tmp_path, content)), drawn(1))


@pytest.mark.parametrize("size", [(480, 854), (6000, 8000)])
def test_polygons_that_would_take_minutes_are_refused_immediately(tmp_path, size):
    rng = np.random.default_rng(0)
    frame = [0, 0, size[1], 0, size[1], size[0], 0, size[0]]
    polygons = [(rng.random((100000, 2)) * size[::-1]).ravel().tolist()]
    if size[0] > 1000:
        polygons = [frame] * 300
    begin = time.process_time()
    with pytest.raises(InputError, match="a polygon of 100000 points|pixels in all"):
        given_mask.read(
            written(tmp_path, [{"segmentation": polygons}]), size, given_mask.ObjectNumbers()
        )
    assert time.process_time() - begin < 8


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"size": [1, 1], "counts": [1]}, "run lengths of 1x1 pixels .* for a frame of 80x48"),
        ({"size": [48, 80], "counts": [5]}, "run lengths add up to 5"),
        ({"size": [48, 80], "counts": 5}, "counts are neither"),
        ([{"segmentation": [[1, 2]]}], "three or more points"),
        ([{"segmentation": [[1, 2, 3, 4, 1e300, float("nan")]]}], "near the frame"),
        ([{"segmentation": [[1, 2, 3, 4, 5]]}], "cannot reshape"),
        (
            [{"object_id": 255, "segmentation": [[1, 2, 3, 4, 5, 9]]}],
            "^expected object ids 1..254, found 255",
        ),
        (
            {"shapes": [{"label": "0", "points": [[1, 1]] * 3}]},
            "^expected object ids 1..254, found 0",
        ),
        (
            {"annotations": [{"bbox": [1, 2, 3, 4], "segmentation": []}]},
            "^expected a segmentation in every annotation, found a bbox alone",
        ),
        (
            {"annotations": [{"bbox": [1, 2, 3, 4], "image_id": 1}]},
            "^expected a segmentation in every annotation, found a bbox alone: give boxes with",
        ),
        (
            {"shapes": [{"label": "a", "points": [[1, 1]], "shape_type": "point"}]},
            "has no interior",
        ),
        ({"shapes": [], "imageHeight": 10**9, "imageWidth": 10**9}, "1 to .* pixels"),
        ({"annotations": [{"image_id": 1}, {"image_id": 2}]}, "annotations of 2 pictures"),
        ([{"segmentation": [[1, 2, 3, 4, 5, 6]] * 3000}], "more than 2000 polygons"),
        (3, "expected objects as JSON"),
        ([None], "expected objects as JSON"),
    ],
)
def test_json_that_is_not_a_mask_gives_a_one_line_error(tmp_path, content, sentence):
    path = written(tmp_path, content)
    with pytest.raises(InputError) as error:
        read(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ") and re.search(sentence, said[len(f"{path}: ") :])
    assert "\n" not in said


def test_a_png_with_a_wrong_checksum_is_refused(tmp_path):
    masks.write_mask(tmp_path / "m.png", drawn(1, 2))
    content = bytearray((tmp_path / "m.png").read_bytes())
    at = content.index(b"IDAT")
    length = int.from_bytes(content[at - 4 : at], "big")
    content[at + 4 + length] ^= 1  # In the checksum, so that the pixels can still be decoded.
    (tmp_path / "m.png").write_bytes(content)
    for reader in (read, masks.read_annotation):
        with pytest.raises(InputError, match="m.png: expected a mask"):
            reader(tmp_path / "m.png")


def test_a_huge_mask_is_refused_before_decoding(tmp_path):
    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    for side, sentence in ((30000, "could be decompression bomb"), (9000, "pixels .* 9000x9000")):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        pixels = chunk(b"IDAT", zlib.compress(b""))
        (tmp_path / "bomb.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
        )
        for reader in (read, masks.read_annotation):
            with pytest.raises(InputError, match=f"bomb.png: .*{sentence}"):
                reader(tmp_path / "bomb.png")

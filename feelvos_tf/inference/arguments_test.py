"""Images and masks of many types are accepted if unambiguous, and rejected otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import feelvos_tf
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.arguments import as_image, as_mask, check_marks
from feelvos_tf.media import given_mask, masks

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 256, (6, 8, 3), np.uint8)
GRAY = IMAGE[..., 0]
IDS = np.zeros((6, 8), np.uint8)
IDS[1:3, 1:4], IDS[3:5, 4:7] = 1, 7


def _saved(tmp_path, array: np.ndarray) -> str:
    Image.fromarray(array).save(tmp_path / "saved.png")
    return str(tmp_path / "saved.png")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (IMAGE, IMAGE),
        (IMAGE.tolist(), IMAGE),
        (IMAGE.astype(np.int64), IMAGE),
        (IMAGE.astype(np.float32), IMAGE),
        (IMAGE / 255, IMAGE),
        ((IMAGE / 255).astype(np.float32), IMAGE),
        (tf.constant(IMAGE), IMAGE),
        (tf.constant(IMAGE / 255), IMAGE),
        (np.dstack([IMAGE, GRAY]), IMAGE),
        (GRAY, np.dstack([GRAY] * 3)),
        (GRAY[..., None], np.dstack([GRAY] * 3)),
        (Image.fromarray(IMAGE), IMAGE),
        (Image.fromarray(GRAY), np.dstack([GRAY] * 3)),
    ],
)
def test_images_of_all_accepted_types_are_converted(given, expected):
    found = as_image(given)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_a_picture_file_is_read_and_turned_upright(tmp_path):
    np.testing.assert_array_equal(as_image(_saved(tmp_path, IMAGE)), IMAGE)
    exif = Image.Exif()
    exif[0x0112] = 3  # Upside down.
    Image.fromarray(IMAGE).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(as_image(tmp_path / "turned.png"), IMAGE[::-1, ::-1])
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(as_image(image), IMAGE[::-1, ::-1])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.moveaxis(IMAGE, 2, 0), "found uint8 [3, 6, 8]; channels come last here"),
        (IMAGE[None], "found uint8 [1, 6, 8, 3]"),
        (IMAGE[:0], "found uint8 [0, 8, 3]"),
        (IMAGE.astype(np.int32) - 200, "found int32 values from -"),
        (IMAGE.astype(np.uint16) * 2, "found uint16 values from"),
        (IMAGE / 255 - 0.5, "found float64 values from -"),
        (IMAGE / 100, "fractions from 0 to 1, found float64 values from 0"),
        (IMAGE * np.nan, "not finite"),
        (IMAGE > 9, "found bool values"),
        (None, "found NoneType"),
        ({"image": 1}, "found dict"),
        ([[1, 2], [3]], "found list"),
        ([["a"]], "found list"),
        (Image.fromarray(GRAY.astype(np.int32)), "found a PIL image of mode I"),
        ("missing.png", "missing.png: expected a picture, found no such file"),
    ],
)
def test_invalid_images_are_rejected_with_one_sentence(given, sentence):
    with pytest.raises(InputError) as caught:
        as_image(given)
    assert sentence in str(caught.value) and "expected a" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (IDS, IDS),
        (IDS.tolist(), IDS),
        (IDS.astype(np.int64), IDS),
        (IDS.astype(np.float32), IDS),
        (IDS[..., None], IDS),
        (tf.constant(IDS), IDS),
        (IDS == 7, IDS == 7),
        ({1: IDS == 1, 7: IDS == 7}, IDS),
        ({np.int64(1): (IDS == 1) * np.uint8(255), 7: (IDS == 7).tolist()}, IDS),
        ({7: IDS > 0, 1: IDS == 1}, IDS),  # The last one wins.
        (Image.fromarray(IDS), IDS),
        (Image.fromarray((IDS == 7).astype(np.uint8) * 255), IDS == 7),  # White on black.
        (Image.fromarray(masks.DAVIS_PALETTE[IDS]), IDS),
    ],
)
def test_masks_of_all_accepted_types_are_converted(given, expected):
    found = as_mask(given, IDS.shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_a_path_is_read_as_on_the_command_line(tmp_path):
    path = _saved(tmp_path, np.where(IDS[..., None] == 7, np.uint8([250, 10, 0]), np.uint8(0)))
    expected = given_mask.read(path, IDS.shape, given_mask.ObjectNumbers())
    np.testing.assert_array_equal(expected, IDS == 7)
    for found in (
        as_mask(path, IDS.shape),
        feelvos_tf.read_mask(path),
        as_mask({1: path}, IDS.shape),
    ):
        np.testing.assert_array_equal(found, expected)


def test_json_without_a_size_is_read_at_the_frame_size(tmp_path):
    runs = '[{"segmentation": {"size": [6, 8], "counts": [9, 2, 37]}}]'
    (tmp_path / "runs.json").write_text(runs)
    expected = np.zeros(48, np.uint8)
    expected[9:11] = 1
    found = feelvos_tf.read_mask(tmp_path / "runs.json")
    np.testing.assert_array_equal(found, expected.reshape(8, 6).T)
    (tmp_path / "outline.json").write_text('[{"segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}]')
    with pytest.raises(InputError, match="outline.json: expected the frame's size"):
        feelvos_tf.read_mask(tmp_path / "outline.json")
    found = feelvos_tf.read_mask(tmp_path / "outline.json", (6, 8))
    assert found.shape == (6, 8) and found.sum() == 12


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (IDS / 10, "for probabilities, use mask > 0.5"),
        (IDS[None], "found uint8 [1, 6, 8]; mask[0] has two dimensions"),
        (IMAGE, "colors are read from a file or a PIL image"),
        (IDS.astype(int) * 100, "found 0 to 700"),
        (IDS.astype(int) - 1, "found -1 to 6"),
        (np.where(IDS, np.inf, 0), "found fractions"),
        ({}, "found an empty dict"),
        ({"dog": IDS}, "expected object ids 1..254 as keys, found 'dog'"),
        ({255: IDS == 1}, "expected object ids 1..254 as keys, found 255"),
        ({True: IDS == 1}, "as keys, found True"),
        ({3: IDS}, "expected the mask of object 3 alone, found the values 1, 7"),
        ({1: IDS == 1, 2: IDS[1:] == 7}, "of the frames' size [6, 8], found [5, 8]"),
        (None, "found NoneType"),
        ("missing.png", "missing.png: expected a mask"),
    ],
)
def test_invalid_masks_are_rejected_with_one_sentence(given, sentence):
    with pytest.raises(InputError) as caught:
        as_mask(given, IDS.shape)
    assert sentence in str(caught.value)


def test_a_white_on_black_array_is_void_and_the_message_names_the_fix():
    white = np.where(IDS > 0, 255, 0).astype(np.uint8)
    with pytest.raises(InputError, match="255 void; for white on black, use mask > 0"):
        check_marks(as_mask(white, IDS.shape))
    check_marks(as_mask(white, IDS.shape), background_counts=True)
    check_marks(as_mask(white > 0, IDS.shape))

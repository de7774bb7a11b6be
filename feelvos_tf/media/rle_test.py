"""Run lengths, checked against pycocotools and against masks drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from feelvos_tf.media import rle


def random_masks():
    rng = np.random.default_rng(0)
    for height, width, share in (
        (1, 1, 1),
        (1, 9, 0.5),
        (9, 1, 0.5),
        (37, 53, 0.02),
        (300, 400, 0.9),
    ):
        yield rng.random((height, width)) < share
    yield np.zeros((480, 854), bool)
    yield np.ones((480, 854), bool)
    y, x = np.mgrid[:480, :854]
    yield (y - 200) ** 2 + (x - 500) ** 2 < 150**2


def test_encoding_and_decoding_are_inverse():
    for mask in random_masks():
        encoded = rle.encode(mask)
        np.testing.assert_array_equal(rle.decode(encoded["counts"], *mask.shape), mask)


def test_runs_go_down_the_columns_and_begin_with_zeros():
    mask = np.array([[1, 0], [1, 1]], bool)
    np.testing.assert_array_equal(rle.decode([0, 2, 1, 1], 2, 2), mask)
    assert rle.encode(mask) == {"size": [2, 2], "counts": "021O"}


def test_text_and_boxes_match_pycocotools():
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    for mask in random_masks():
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle.encode(mask)["counts"] == theirs["counts"].decode()
        np.testing.assert_array_equal(coco.decode(rle.encode(mask)), mask)
        assert rle.box(mask) == coco.toBbox(theirs).tolist()


@pytest.mark.parametrize(
    "counts", ["", "4", "o", "0\x00", "Ω", "0" * 50, [5], [-1, 5], [4.0], [True, 3], [[4]]]
)
def test_counts_that_are_not_a_mask_of_this_size_are_refused(counts):
    with pytest.raises(ValueError, match="run lengths|counts"):
        rle.decode(counts, 1, 3)

"""Outlines on images of two noisy colors, whose edge is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from feelvos_tf.media import outline

SIZE = (120, 160)
UNKNOWN = np.full(SIZE, -1)
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]]
TRUE = ((ROWS - 60) / 40) ** 2 + ((COLUMNS - 80) / 60) ** 2 < 1
COARSE = TRUE[2::4, 2::4].repeat(4, 0).repeat(4, 1)


@pytest.fixture
def image() -> np.ndarray:
    colors = np.where(TRUE[..., None], (170, 90, 60), (90, 120, 140))
    noise = np.random.default_rng(1).normal(0, 12, (*SIZE, 3))
    return np.clip(colors + noise, 0, 255).astype(np.uint8)


def test_a_coarse_outline_moves_to_the_edge(image):
    assert np.mean(COARSE != TRUE) > 0.01
    assert np.mean(outline.snap(image, COARSE, UNKNOWN) != TRUE) < 0.001


def test_it_moves_by_three_pixels_at_most(image):
    mask = ((ROWS - 60) / 30) ** 2 + ((COLUMNS - 80) / 50) ** 2 < 1
    outside, inside = (
        cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (~mask, mask)
    )
    snapped = outline.snap(image, mask, UNKNOWN)
    assert not snapped[outside > 3.5].any() and snapped[inside > 3.5].all()
    assert snapped[~mask].any()


def test_known_pixels_stay(image):
    wrong = TRUE != COARSE
    known = np.where(wrong, COARSE, UNKNOWN)
    np.testing.assert_array_equal(outline.snap(image, COARSE, known)[wrong], COARSE[wrong])


def test_the_same_arguments_give_the_same_mask(image):
    noisy = np.random.default_rng(2).integers(0, 256, image.shape, np.uint8)
    cv2.setRNGSeed(3)
    first = outline.snap(noisy, COARSE, UNKNOWN)
    cv2.setRNGSeed(4)
    np.testing.assert_array_equal(outline.snap(noisy, COARSE, UNKNOWN), first)
    assert (first != COARSE).any()


@pytest.mark.parametrize("kind", ["empty", "full", "pixel", "nearly full"])
def test_masks_without_two_sides_are_returned_as_they_are(image, kind):
    mask = np.full(SIZE, "full" in kind)
    if kind in ("pixel", "nearly full"):
        mask[50, 50] ^= True
    before = mask.copy()
    np.testing.assert_array_equal(outline.snap(image, mask, UNKNOWN), before)
    np.testing.assert_array_equal(mask, before)


def test_objects_at_the_border_are_snapped(image):
    rolled = np.roll(image, -80, 1)
    snapped = outline.snap(rolled, np.roll(COARSE, -80, 1), UNKNOWN)
    # The two halves of the object lie at opposite borders.
    assert np.mean(snapped != np.roll(TRUE, -80, 1)) < 0.001


def test_thin_objects_and_parts_do_not_vanish():
    """A pole five pixels wide, with a wire, in colors much like those of the background."""
    pole = np.zeros(SIZE, bool)
    pole[10:110, 78:83] = True
    pole[20:23, 40:120] = True
    noise = np.random.default_rng(1).normal(0, 14, (*SIZE, 3))
    colors = np.where(pole[..., None], (150, 100, 80), (110, 110, 110))
    snapped = outline.snap(np.clip(colors + noise, 0, 255).astype(np.uint8), pole, UNKNOWN)
    assert snapped[pole].all() and snapped.sum() < 1.1 * pole.sum()

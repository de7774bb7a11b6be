from __future__ import annotations

import cv2
import numpy as np
import pytest

from feelvos_tf.demo_page import cut_out

CENTER, RADIUS = (70, 60), 25


def scene(size=(120, 200)):
    """Returns an image with a textured disk on grass, and where the disk is."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 110, (*size, 3))
    image[..., 1] += 60
    inside = np.hypot(*(np.mgrid[: size[0], : size[1]] - np.reshape(CENTER, (2, 1, 1)))) < RADIUS
    image[inside] = rng.integers(170, 230, (inside.sum(), 3)) * [1, 0.4, 0.3]
    return image.astype(np.uint8), inside


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_the_outline_in_a_box_is_found():
    image, inside = scene()
    hint = np.zeros(image.shape[:2], np.uint8)
    hint[40:100, 25:95] = cut_out.BOX
    assert overlap(cut_out.cut_out(image, hint), inside) > 0.95


def test_the_outline_around_a_scribble_is_found_and_a_second_one_takes_away():
    image, inside = scene()
    hint = np.zeros(image.shape[:2], np.uint8)
    cv2.line(hint, (50, 60), (72, 80), cut_out.OBJECT, 5)
    assert overlap(cut_out.cut_out(image, hint), inside) > 0.95
    hint[:, 70:] = cut_out.BACKGROUND
    assert not cut_out.cut_out(image, hint)[:, 70:].any()


def test_large_frames_are_cut_out_at_their_own_size():
    image, inside = scene()
    image, inside = (each.repeat(7, 0).repeat(7, 1) for each in (image, inside))
    hint = np.zeros(image.shape[:2], np.uint8)
    hint[280:700, 175:665] = cut_out.BOX
    found = cut_out.cut_out(image, hint)
    assert found.shape == inside.shape and overlap(found, inside) > 0.93


@pytest.mark.parametrize(
    "value", [cut_out.UNKNOWN, cut_out.BACKGROUND, cut_out.BOX, cut_out.OBJECT]
)
def test_a_hint_of_one_kind_alone_is_taken_as_it_is(value):
    image, _ = scene()
    found = cut_out.cut_out(image, np.full(image.shape[:2], value, np.uint8))
    assert found.all() if value in (cut_out.BOX, cut_out.OBJECT) else not found.any()

import numpy as np

from feelvos_tf.data import object_pasting
from feelvos_tf.data.synthetic_motion import View

RED, GREEN, GREY = (255, 0, 0), (0, 255, 0), (90, 90, 90)


def square(color, side=20) -> object_pasting.Cutout:
    """Returns a square of one color, cut out of grey."""
    image = np.full((side + 20, side + 20, 3), GREY, np.uint8)
    inside = np.zeros(image.shape[:2], bool)
    inside[10 : 10 + side, 10 : 10 + side] = True
    image[inside] = color
    return object_pasting.cut(image, inside)


def at(cutout, x, y, scale=1.0) -> View:
    return View(cutout.center, np.array([x, y], float), scale)


def blank():
    return np.full((60, 80, 3), 30, np.uint8), np.zeros((60, 80), np.uint8)


def test_a_pasted_object_has_its_position_pixels_and_label():
    red = square(RED)
    image, labels = object_pasting.paste(*blank(), red, at(red, 39.5, 29.5), 7)
    rows, columns = np.nonzero(labels == 7)
    assert (rows.mean(), columns.mean()) == (29.5, 39.5)
    assert (labels == 7).sum() == 400
    inner = np.zeros(labels.shape, bool)
    inner[23:37, 33:47] = True
    assert (image[inner] == RED).all() and (labels[inner] == 7).all()
    np.testing.assert_array_equal(labels == 7, image[..., 0] > 120)


def test_later_pastes_occlude_earlier_ones():
    red, green = square(RED), square(GREEN)
    frame = object_pasting.paste(*blank(), red, at(red, 30, 30), 1)
    image, labels = object_pasting.paste(*frame, green, at(green, 40, 30), 2)
    assert labels[30, 37] == 2 and tuple(image[30, 37]) == GREEN
    assert labels[30, 24] == 1 and tuple(image[30, 24]) == RED


def test_pasting_leaves_no_halo_of_the_old_background():
    white = square((255, 255, 255))
    dark = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80), np.uint8)
    image, labels = object_pasting.paste(*dark, white, at(white, 40, 30), 1)
    # The object was cut out of grey: little of that may be left just inside its outline.
    assert image[labels == 1].mean() > 215


def test_filling_removes_the_object_and_keeps_the_rest():
    image = np.full((100, 120, 3), GREY, np.uint8)
    image[:, 60:] = (200, 180, 40)
    inside = np.zeros((100, 120), bool)
    inside[20:80, 30:90] = True
    image[inside] = RED
    filled = object_pasting.fill(image, inside)
    assert filled[inside][:, 2].min() >= 38  # red has no blue
    far = np.ones_like(inside)
    far[17:83, 27:93] = False
    np.testing.assert_array_equal(filled[far], image[far])
    # Near colors come first: the left half stays greyer than the right one.
    assert filled[50, 40, 0] < 110 < filled[50, 80, 0]


def test_a_picture_that_is_all_object_is_unchanged():
    image = np.full((30, 30, 3), RED, np.uint8)
    np.testing.assert_array_equal(object_pasting.fill(image, np.ones((30, 30), bool)), image)


def test_mirroring_keeps_the_center_of_mass_on_the_object():
    cutout = square(RED)._replace(center=(3.0, 8.0))
    mirrored = object_pasting.mirrored(cutout)
    np.testing.assert_array_equal(mirrored.pixels[:, ::-1], cutout.pixels)
    assert mirrored.center == (cutout.pixels.shape[1] - 4.0, 8.0)


def test_void_and_specks_are_not_cut_out():
    ids = np.zeros((40, 40), np.uint8)
    ids[:20, :20], ids[30:35, 30:35], ids[:, 39] = 4, 5, 255
    assert [i for i, _ in object_pasting.object_masks(ids)] == [4]

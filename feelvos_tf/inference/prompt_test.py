"""Marks on images, with a model that segments by color."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import prompt
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.testing import color_model, drawn_videos

SIZE = (64, 96)
IMAGE, IDS = drawn_videos.draw(3, (1, 2), SIZE)


class CountingModel(color_model.ColorModel):
    """Counts how often features are computed and how often an image is segmented."""

    def __init__(self):
        super().__init__()
        self.looks = self.passes = 0

    def features(self, image):
        self.looks += 1
        return super().features(image)

    def segment_marked(self, *arguments):
        self.passes += 1
        return super().segment_marked(*arguments)


@pytest.fixture(scope="module")
def model():
    return CountingModel()


@pytest.fixture
def prompter(model):
    return prompt.Prompter(model, None)


def middle(object_id: int) -> tuple[float, float]:
    """Returns x, y."""
    rows, columns = np.nonzero(np.equal(IDS, object_id))
    return columns.mean(), rows.mean()


def box_of(object_id: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(np.equal(IDS, object_id))
    return columns.min() - 2, rows.min() - 2, columns.max() + 2, rows.max() + 2


def test_a_click_on_each_object_finds_that_object(prompter):
    for object_id in (1, 2):
        mask = prompter(IMAGE, [middle(object_id)], [1])
        np.testing.assert_array_equal(mask, np.equal(IDS, object_id))
        assert mask.dtype == np.uint8


def test_several_points_make_one_object_and_background_points_remove_parts(prompter):
    both = [middle(1), middle(2)]
    np.testing.assert_array_equal(prompter(IMAGE, both, [1, 1]), IDS != 0)
    np.testing.assert_array_equal(prompter(IMAGE, both, [1, 0]), IDS == 1)


def test_a_box_finds_the_object_inside_and_nothing_outside(prompter):
    np.testing.assert_array_equal(prompter(IMAGE, box=box_of(2)), IDS == 2)
    mask = prompter(
        IMAGE, box=(0, 0, middle(1)[0], SIZE[0]), points=[(middle(1)[0] - 3, 10)], labels=[1]
    )
    assert mask.any() and not mask[:, int(middle(1)[0]) + 1 :].any()


def test_a_box_finds_an_object_that_is_hardly_different_from_its_surroundings(prompter):
    image = np.full((*SIZE, 3), 100, np.uint8)
    image[20:40, 30:60, 0] = 101  # A squared distance of 1: no pixel is confident.
    mask = prompter(image, box=(28, 18, 62, 42))
    assert np.mean(mask != (image[..., 0] == 101)) < 0.02


def test_parts_without_a_mark_are_dropped_and_small_holes_filled(prompter):
    image = drawn_videos.draw(3, (1,), SIZE)[0]
    alone = prompter(image, [middle(1)], [1])
    image[50:56, 60:70] = drawn_videos.COLORS[1]
    np.testing.assert_array_equal(prompter(image, [middle(1)], [1]), alone)
    x, y = (round(each) for each in middle(1))
    image[y + 1, x + 1] = drawn_videos.COLORS[0]
    np.testing.assert_array_equal(prompter(image, [middle(1)], [1]), alone)
    assert not prompter(image, [middle(1), (x + 1, y + 1)], [1, 0])[y + 1, x + 1]


def test_a_mask_is_corrected_only_where_the_points_are(prompter):
    before = np.zeros(SIZE, np.uint8)
    before[50:, :20] = 1  # Of another color; stays.
    before[IDS == 2] = 1  # Wrong.
    mask = prompter(IMAGE, [middle(1), middle(2)], [1, 0], mask=before)
    assert mask[50:, :20].all() and not mask[IDS == 2].any()
    np.testing.assert_array_equal(mask[:40] == 1, (IDS == 1)[:40])
    kept = prompter(IMAGE, [(90, 60)], [0], mask=before)
    np.testing.assert_array_equal(kept, before)


def test_outlines_move_to_edges_only_where_the_mask_was_changed(model):
    """A given mask's outline is its maker's; a click elsewhere must not move it."""
    image, ids = (each.repeat(4, 0).repeat(4, 1) for each in (IMAGE, IDS))
    prompter, points = prompt.Prompter(model, 64), np.float32([middle(1), middle(2)]) * 4 + 2
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    generous = cv2.dilate((ids == 1).astype(np.uint8), disc)
    corrected = prompter(image, points, [1, 0], mask=generous | (ids == 2))
    np.testing.assert_array_equal(corrected, generous)
    # Without a given mask, the outline is that of the image, although the network ran at a quarter.
    assert np.mean(prompter(image, points[:1], [1]) != (ids == 1)) < 0.0005


def test_later_marks_correct_the_mask_and_results_do_not_depend_on_earlier_calls(model):
    """From the fourth click on, a click changes only the region it is on."""
    points = [middle(1), (middle(1)[0] + 2, 10), (60, 60), (90, 60), middle(2)]
    labels = [1, 1, 0, 0, 1]
    one_by_one, at_once = prompt.Prompter(model, None), prompt.Prompter(model, None)
    found = [one_by_one(IMAGE, points[:n], labels[:n]) for n in range(1, 6)]
    np.testing.assert_array_equal(found[3], IDS == 1)
    np.testing.assert_array_equal(found[4], IDS != 0)
    np.testing.assert_array_equal(at_once(IMAGE, points, labels), found[4])
    np.testing.assert_array_equal(one_by_one(IMAGE, points[:4], labels[:4]), found[3])


def test_points_of_a_stroke_count_as_one_mark():
    stroke = [(10, 10), (12, 10), (14, 11), (60, 40), (61, 41), (61, 42)]
    marks = prompt._Marks((100, 100), np.float32(stroke), np.array([1, 1, 1, 1, 1, 0]), None)
    assert marks.ends() == [3, 5, 6]
    assert marks.part(0, 0).ends() == [0]


def test_a_mark_wins_over_the_network(prompter):
    before = np.zeros(SIZE, np.uint8)
    before[IDS == 1] = 1
    x, y = 50, 60  # Background, marked as object.
    mask = prompter(IMAGE, [(x, y)], [1], mask=before)
    assert mask[y, x] == 1 and (mask != before).any()
    assert prompter(IMAGE, [(round(middle(1)[0]), 10)], [0], mask=before)[10, 20] == 0


def test_nearness_compares_the_squared_distances_to_the_nearest_marks():
    random = np.random.default_rng(5)
    embeddings = random.normal(size=(4, 6, 3)).astype(np.float32)
    known = np.full((4, 6), -1)
    known[0, 1] = known[3, 3] = 1
    known[2, 2] = known[1, 5] = known[3, 0] = 0

    def squared(pixel, label):
        return min(np.sum((pixel - mark) ** 2) for mark in embeddings[known == label])

    for place in np.ndindex(4, 6):
        difference = squared(embeddings[place], 0) - squared(embeddings[place], 1)
        expected = 1 / (1 + np.exp(-prompt._CONTRAST * difference))
        found = prompt._nearness(embeddings, known)[place]
        assert found == pytest.approx(expected, abs=1e-4)
    for label in (0, 1):
        alone = prompt._nearness(embeddings, np.where(known == label, label, -1))
        np.testing.assert_allclose(alone, label, atol=1e-6)


def test_features_of_an_image_are_computed_once(model):
    prompter, image = prompt.Prompter(model, 48), IMAGE.copy()
    model.looks = 0
    prompter.prepare(image)
    prompter(image, [middle(1)], [1])
    prompter(image, [middle(2)], [1])
    assert model.looks == 1
    image[0, 0] += 1
    prompter(image, [middle(1)], [1])
    assert model.looks == 2


def test_large_images_are_first_segmented_small_and_masks_have_full_size(model):
    image, ids = (each.repeat(9, 0).repeat(9, 1) for each in (IMAGE, IDS))
    prompter = prompt.Prompter(model, 300)
    model.looks = model.passes = 0
    x, y = middle(1)
    mask = prompter(image, [(9 * x + 4, 9 * y + 4)], [1])
    assert model.looks == model.passes == 2 and mask.shape == image.shape[:2]
    assert np.mean(mask != (ids == 1)) < 0.002


def test_prompting_does_not_change_the_video_in_progress(model):
    predictor = VideoPredictor(model)
    predictor.start(IMAGE, IDS)
    mask = predictor.prompt(IMAGE, [middle(1)], [1])
    np.testing.assert_array_equal(mask, IDS == 1)
    assert predictor.object_ids == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "a point on the object, or a box"),
        ({"points": [(1, 2)], "labels": [0]}, "a point on the object, or a box"),
        ({"points": [(1, 2)]}, r"labels: expected \[1\] numbers, found \[0\]"),
        ({"points": [(1, 2)], "labels": [2]}, r"labels of 1 \(on the object\) and 0 .*, found 2"),
        ({"points": [(1, 2), (3,)], "labels": [1, 1]}, r"points: expected \[n, 2\] numbers \("),
        (
            {"box": (1, 2, "a", 4)},
            r"box: expected \[4\] numbers \(could not convert string to float: 'a'\)",
        ),
        ({"points": [(96, 2)], "labels": [1]}, "inside an image of 96x64 pixels, found 96, 2"),
        (
            {"points": [(float("nan"), 2)], "labels": [1]},
            r"points: expected finite numbers, found nan",
        ),
        ({"box": (1, 2, 3)}, r"box: expected \[4\] numbers, found \[3\]"),
        ({"box": (5, 2, 3, 8)}, "expected a box of left, top, right, bottom"),
        ({"box": (97, 2, 110, 8)}, "that overlaps an image of 96x64 pixels, found .97"),
        ({"box": (5, -9, 9, -1)}, "a box .* that overlaps an image"),
        ({"mask": np.zeros((3, 3))}, r"mask .* of the frames' size \[64, 96\], found \[3, 3\]"),
        ({"mask": np.ones(SIZE)}, "a point on the object"),
        ({"mask": np.ones(SIZE), "box": (5, 2, 9, 8)}, "a box or a mask .*, found both"),
    ],
)
def test_invalid_marks_are_rejected(prompter, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        prompter(IMAGE, **arguments)


def test_invalid_images_and_older_models_are_rejected(prompter):
    with pytest.raises(InputError, match="expected an image"):
        prompter(IMAGE[0, 0], [(1, 2)], [1])
    with pytest.raises(InputError, match="export it again"):
        prompt.Prompter(object(), None).prepare(IMAGE)

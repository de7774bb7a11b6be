import math

import numpy as np
import pytest

from feelvos_tf.evaluation import boundary


def slow_contour(mask):
    """The definition, pixel by pixel."""
    height, width = mask.shape
    result = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            block = mask[y : min(y + 2, height), x : min(x + 2, width)]
            result[y, x] = block.min() != block.max()
    return result


def slow_f(truth, predicted, radius):
    """Distances between all pairs of contour pixels."""
    a, b = np.argwhere(truth), np.argwhere(predicted)
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    squares = ((a[:, np.newaxis] - b[np.newaxis]) ** 2).sum(-1)
    near = squares <= radius**2
    recall, precision = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def random_blob(random, height, width):
    """An ellipse with a ragged edge, anywhere, partly outside the image."""
    y, x = np.mgrid[:height, :width]
    cy, cx = random.uniform(0, height), random.uniform(0, width)
    ry, rx = random.uniform(1, height / 2), random.uniform(1, width / 2)
    distance = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2
    return (distance + random.uniform(-0.2, 0.2, [height, width]) < 1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "radius"), [(480, 854, 8), (240, 427, 4), (1080, 1920, 18), (10, 10, 1)]
)
def test_tolerance_is_a_rounded_up_fraction_of_the_diagonal(height, width, radius):
    assert boundary.tolerance_radius(height, width) == radius


@pytest.mark.parametrize("seed", range(8))
def test_contour_is_where_a_pixel_differs_from_right_lower_or_diagonal(seed):
    random = np.random.RandomState(seed)
    mask = random_blob(random, *random.randint(1, 30, 2))
    np.testing.assert_array_equal(boundary.contour(mask), slow_contour(mask))


def test_the_edge_of_the_image_is_no_contour():
    assert not boundary.contour(np.ones([5, 7], np.uint8)).any()
    half = np.zeros([5, 7], np.uint8)
    half[:, 4:] = 1
    np.testing.assert_array_equal(np.flatnonzero(boundary.contour(half).any(0)), [3])


@pytest.mark.parametrize("radius", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_f_counts_the_pairs_within_the_disk(radius, seed):
    random = np.random.RandomState(seed)
    shape = random.randint(3, 60, 2)
    truth = boundary.contour(random_blob(random, *shape))
    predicted = boundary.contour(random_blob(random, *shape))
    assert boundary.f_measure(truth, predicted, radius) == slow_f(truth, predicted, radius)


@pytest.mark.parametrize("radius", [1, 5, 8, 18])
@pytest.mark.parametrize("at", [(0, 0), (20, 20), (40, 3), (0, 40), (40, 40)])
def test_two_pixels_match_up_to_the_radius_and_not_beyond(radius, at):
    for y, x in np.ndindex(41, 41):
        truth, predicted = np.zeros([2, 41, 41], np.uint8)
        truth[at] = predicted[y, x] = 1
        expected = float(math.hypot(y - at[0], x - at[1]) <= radius)
        assert boundary.f_measure(truth, predicted, radius) == expected


def test_an_empty_contour_matches_only_an_empty_one():
    empty, dot = np.zeros([2, 9, 9], np.uint8)
    dot[4, 4] = 1
    assert boundary.f_measure(empty, empty, 3) == 1
    assert boundary.f_measure(empty, dot, 3) == 0
    assert boundary.f_measure(dot, empty, 3) == 0

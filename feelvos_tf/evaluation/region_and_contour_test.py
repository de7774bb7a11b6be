import json
import math

import numpy as np
import pytest

from feelvos_tf.evaluation import region_and_contour
from feelvos_tf.media import masks


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


def slow_frame(truth_ids, predicted_ids, object_id):
    """J and F of one object from whole images, as the definition says."""
    truth, predicted = truth_ids == object_id, predicted_ids == object_id
    union = (truth | predicted).sum()
    j = (truth & predicted).sum() / union if union else 1.0
    contours = [slow_contour(m.astype(np.uint8)) for m in (truth, predicted)]
    radius = region_and_contour.tolerance_radius(*truth.shape)
    return j, slow_f(*contours, radius)


def random_ids(random, height, width, objects):
    ids = np.zeros([height, width], np.uint8)
    for object_id in objects:
        ids[random_blob(random, height, width) > 0] = object_id
    return ids


@pytest.mark.parametrize("seed", range(10))
def test_scores_equal_the_definition_on_whole_images(seed):
    random = np.random.RandomState(seed)
    height, width = random.randint(2, 90, 2)
    truth = random_ids(random, height, width, [1, 2, 5, 255])
    predicted = random_ids(random, height, width, [1, 2, 5])
    j, f = region_and_contour.score_frame(truth, predicted, [1, 2, 3, 5])
    expected = [slow_frame(truth, predicted, object_id) for object_id in [1, 2, 3, 5]]
    np.testing.assert_array_equal(np.transpose([j, f]), expected)


def test_j_is_one_where_both_masks_are_empty_and_zero_where_one_is():
    empty, full = np.zeros([2, 6, 8], np.uint8)
    full[2:4, 2:5] = 3
    for truth, predicted, expected in [(empty, empty, 1), (empty, full, 0), (full, empty, 0)]:
        j, f = region_and_contour.score_frame(truth, predicted, [3])
        assert (j[0], f[0]) == (expected, expected)


def test_predictions_on_void_count_as_wrong():
    truth = np.zeros([20, 20], np.uint8)
    truth[5:10, 5:10] = 1
    predicted = truth.copy()
    predicted[10:15, 5:10] = 1
    without = region_and_contour.score_frame(truth, predicted, [1])
    truth[10:15, 5:10] = masks.VOID
    np.testing.assert_array_equal(region_and_contour.score_frame(truth, predicted, [1]), without)
    assert without[0][0] == 0.5


def test_a_frame_can_be_scored_by_j_alone():
    ids = np.ones([4, 4], np.uint8)
    j, f = region_and_contour.score_frame(ids, ids, [1], measure_f=False)
    assert j == [1]
    assert np.isnan(f).all()
    assert [len(values) for values in region_and_contour.score_frame(ids, ids, [])] == [0, 0]


@pytest.mark.parametrize(
    "other", [np.zeros([4, 5], np.uint8), np.zeros([4, 4], int), np.zeros([4, 4, 1], np.uint8)]
)
def test_masks_of_other_sizes_and_types_are_refused(other):
    with pytest.raises(ValueError, match="size|uint8"):
        region_and_contour.score_frame(np.zeros([4, 4], np.uint8), other, [1])


def test_recall_counts_values_above_one_half_only():
    result = region_and_contour.statistics(np.array([0.5, 0.6, 0.1, 0.9]))
    assert result.recall == 0.5
    assert result.mean == pytest.approx(0.525, abs=1e-15)


@pytest.mark.parametrize(
    ("frames", "first", "last"),
    [(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 2, 2), (6, 2, 2), (48, 13, 13), (78, 20, 20)],
)
def test_decay_is_the_first_quarter_minus_the_last(frames, first, last):
    values = np.random.RandomState(frames).uniform(size=frames)
    decay = values[:first].mean() - values[-last:].mean()
    assert region_and_contour.statistics(values).decay == pytest.approx(decay, abs=1e-15)


def test_frames_without_a_value_do_not_count():
    values = np.array([np.nan, 0.2, np.nan, 0.8])
    assert region_and_contour.statistics(values) == region_and_contour.statistics(
        np.array([0.2, 0.8])
    )
    assert np.isnan(region_and_contour.statistics(np.array([np.nan])).mean)


def test_every_object_weighs_the_same_in_the_summary():
    short = region_and_contour.SequenceScores(
        "a", (1,), ("1",), np.array([[1.0]]), np.array([[0.5]])
    )
    values = np.full([2, 3], 0.4)
    values[1] = np.nan
    long = region_and_contour.SequenceScores("b", (1, 2), ("1", "2", "3"), values, values)
    summary = region_and_contour.summarize([short, long])
    assert summary.j.mean == pytest.approx(0.7)
    assert summary.f.mean == pytest.approx(0.45)
    assert summary.j_and_f == pytest.approx(0.575)
    assert summary.j.recall == 0.5


def test_without_f_there_is_no_mean_of_j_and_f():
    scores = region_and_contour.SequenceScores("a", (1,), ("1",), np.array([[1.0]]), None)
    summary = region_and_contour.summarize([scores])
    assert (summary.j.mean, summary.f, summary.j_and_f) == (1, None, None)


def score_frames(name, frames, objects):
    """Returns the scores of (frame name, true ids, predicted ids)."""
    names, true_ids, predicted_ids = zip(*frames)
    values = [
        region_and_contour.score_frame(*pair, objects) for pair in zip(true_ids, predicted_ids)
    ]
    j, f = np.transpose(values, [1, 2, 0])
    return region_and_contour.SequenceScores(name, tuple(objects), names, j, f)


def check_against(reference, scores):
    """Compares every frame's values and every statistic with those of the official evaluation."""
    for row, object_id in enumerate(scores.objects):
        expected, found = reference[object_id], scores.by_object()[row]
        for measure, values, result in [
            ("J", scores.j[row], found.j),
            ("F", scores.f[row], found.f),
        ]:
            np.testing.assert_allclose(values, expected[f"{measure}_frames"], rtol=0, atol=1e-9)
            averages = [result.mean, result.recall, result.decay]
            np.testing.assert_allclose(averages, expected[measure], rtol=0, atol=1e-9)


def middle_frames(folder):
    return [path.name for path in sorted(folder.glob("*.png"))[1:-1]]


@pytest.mark.parametrize("name", ["blackswan", "drift-straight", "paragliding-launch"])
def test_values_on_davis_2016_are_those_of_the_official_evaluation(real_data, name):
    reference = json.loads((real_data / "reference/eval/davis2016_osvos.json").read_text())
    truth = real_data / "davis2016/Annotations/480p" / name
    predicted = real_data / "reference/eval/osvos_predictions" / name
    frames = (
        (
            frame,
            masks.read_annotation(truth / frame, binary=True),
            np.minimum(masks.read_annotation(predicted / frame), 1),
        )
        for frame in middle_frames(truth)
    )
    check_against({1: reference[name]}, score_frames(name, frames, [1]))


def test_values_on_seven_objects_are_those_of_the_official_evaluation(real_data):
    reference = json.loads((real_data / "reference/eval/davis2017_schoolgirls.json").read_text())
    truth = real_data / "davis2017_multi/Annotations/240p/schoolgirls"
    predicted = real_data / "reference/eval/schoolgirls_predictions/schoolgirls"
    frames = (
        (frame, masks.read_annotation(truth / frame), masks.read_annotation(predicted / frame))
        for frame in middle_frames(truth)
    )
    scores = score_frames("schoolgirls", frames, range(1, 8))
    check_against({int(key): value for key, value in reference.items()}, scores)


def test_confused_pixels_are_those_assigned_to_another_object():
    rng = np.random.default_rng(0)
    truth, found = rng.choice(np.array([0, 1, 2, 7, 255], np.uint8), (2, 30, 40))
    confused = pixels = 0
    for true, other in zip(truth.ravel(), found.ravel()):
        pixels += true not in (0, 255)
        confused += true not in (0, 255) and other not in (0, true)
    assert region_and_contour.confused_pixels(truth, found) == (confused, pixels)


@pytest.mark.parametrize(
    ("height", "width", "radius"), [(480, 854, 8), (240, 427, 4), (1080, 1920, 18), (10, 10, 1)]
)
def test_tolerance_is_a_rounded_up_fraction_of_the_diagonal(height, width, radius):
    assert region_and_contour.tolerance_radius(height, width) == radius


@pytest.mark.parametrize("seed", range(8))
def test_contour_is_where_a_pixel_differs_from_right_lower_or_diagonal(seed):
    random = np.random.RandomState(seed)
    mask = random_blob(random, *random.randint(1, 30, 2))
    np.testing.assert_array_equal(region_and_contour.contour(mask), slow_contour(mask))


def test_the_edge_of_the_image_is_no_contour():
    assert not region_and_contour.contour(np.ones([5, 7], np.uint8)).any()
    half = np.zeros([5, 7], np.uint8)
    half[:, 4:] = 1
    np.testing.assert_array_equal(np.flatnonzero(region_and_contour.contour(half).any(0)), [3])


@pytest.mark.parametrize("radius", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_f_counts_the_pairs_within_the_disk(radius, seed):
    random = np.random.RandomState(seed)
    shape = random.randint(3, 60, 2)
    truth = region_and_contour.contour(random_blob(random, *shape))
    predicted = region_and_contour.contour(random_blob(random, *shape))
    assert region_and_contour.f_measure(truth, predicted, radius) == slow_f(
        truth, predicted, radius
    )


@pytest.mark.parametrize("radius", [1, 5, 8, 18])
@pytest.mark.parametrize("at", [(0, 0), (20, 20), (40, 3), (0, 40), (40, 40)])
def test_two_pixels_match_up_to_the_radius_and_not_beyond(radius, at):
    for y, x in np.ndindex(41, 41):
        truth, predicted = np.zeros([2, 41, 41], np.uint8)
        truth[at] = predicted[y, x] = 1
        expected = float(math.hypot(y - at[0], x - at[1]) <= radius)
        assert region_and_contour.f_measure(truth, predicted, radius) == expected


def test_an_empty_contour_matches_only_an_empty_one():
    empty, dot = np.zeros([2, 9, 9], np.uint8)
    dot[4, 4] = 1
    assert region_and_contour.f_measure(empty, empty, 3) == 1
    assert region_and_contour.f_measure(empty, dot, 3) == 0
    assert region_and_contour.f_measure(dot, empty, 3) == 0

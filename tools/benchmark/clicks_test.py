"""Simulated clicks, boxes and strokes, with a model that draws a disc at each click."""

import clicks
import cv2
import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.media import masks
from feelvos_tf.testing import drawn_videos


class _Discs:
    """Draws discs of radius 10 at the points, or fills the box, and remembers the points."""

    def prepare(self, image):
        self.asked = []

    def __call__(self, image, points=(), labels=(), box=None):
        mask = np.zeros(image.shape[:2], np.uint8)
        if box is not None:
            mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = 1
        for point, label in zip(points, labels):
            cv2.circle(mask, tuple(map(int, point)), 10, int(label), -1)
        self.asked.append((list(points), list(labels)))
        return mask


def test_each_click_is_in_the_middle_of_the_largest_wrong_region():
    truth = np.zeros((60, 100), bool)
    truth[10:31, 20:61] = True
    empty = np.zeros(truth.shape, np.uint8)
    x, y = clicks.next_click(truth, empty)
    assert y == 20 and 30 <= x <= 50
    too_much = truth.astype(np.uint8)
    too_much[40:59, 70:89] = 1
    assert clicks.next_click(truth, too_much) == (79, 49)
    assert clicks.next_click(truth, truth) is None
    # At the edge of the image, the middle is not on the edge.
    left = np.zeros(truth.shape, bool)
    left[:, :21] = True
    assert clicks.next_click(left, empty)[0] == 10


def test_the_box_has_a_margin_within_the_image():
    truth = np.zeros((60, 100), bool)
    truth[5:31, 20:96] = True
    assert clicks.box(truth) == (12, 0, 99, 38)


def test_the_stroke_follows_the_middle_of_the_longest_axis():
    truth = np.zeros((100, 200), np.uint8)
    cv2.ellipse(truth, (100, 50), (80, 15), 20, 0, 360, 1, -1)
    points = clicks.stroke(truth == 1) - (100, 50)
    angle = np.radians(20)
    across = points @ (-np.sin(angle), np.cos(angle))
    along = points @ (np.cos(angle), np.sin(angle))
    assert np.abs(across).max() < 5
    assert (np.diff(along * np.sign(along[-1])) > 0).all() and np.ptp(along) > 80


def test_the_scores_are_those_of_the_masks_after_each_click():
    truth = np.zeros((60, 100), bool)
    truth[10:31, 20:61] = True
    prompter = _Discs()
    scores, seconds = clicks.measured(prompter, np.zeros((60, 100, 3), np.uint8), truth)
    for number, (points, labels) in enumerate(prompter.asked[:8], 1):
        assert len(points) == number
        assert labels == [int(truth[y, x]) for x, y in points]
    for count, score in zip(clicks.CLICKS, scores):
        mask = prompter(np.zeros((60, 100, 3)), *prompter.asked[count - 1]) == 1
        assert score == pytest.approx((mask & truth).sum() / (mask | truth).sum())
    assert scores[4] == pytest.approx(truth.sum() / ((21 + 16) * (41 + 16)))
    assert len(seconds) == 8


def test_a_perfect_mask_gets_no_further_click(tmp_path):
    class Perfect(_Discs):
        def __call__(self, image, points=(), labels=(), box=None):
            return truth.astype(np.uint8) if len(points) > 1 else super().__call__(image)

    root = drawn_videos.write_davis(tmp_path, {"bear": [1]})
    [video] = datasets.list_sequences(root)
    truth = masks.read_annotation(video.masks[0]) == 1
    lines = list(clicks.table(Perfect(), [video], 1))
    assert lines[1].split()[3:7] == ["0.000", "1.000", "1.000", "1.000"]
    assert lines[-2].count(",") == 1


def test_frames_without_objects_are_refused(tmp_path):
    root = drawn_videos.write_davis(tmp_path, {"bear": [1]})
    [video] = datasets.list_sequences(root)
    masks.write_mask(video.masks[0], np.zeros((48, 80), np.uint8))
    with pytest.raises(InputError, match="expected frames with objects, found none"):
        list(clicks.table(_Discs(), [video], 1))


def test_the_table_has_a_row_per_object_and_their_mean(tmp_path):
    root = drawn_videos.write_davis(tmp_path, {"bear": [1, 5], "cows": [2]})
    videos = datasets.list_sequences(root)
    lines = list(clicks.table(_Discs(), videos, 2))
    names = [tuple(line.split()[:3]) for line in lines[1:-3]]
    middle = videos[0].frames[len(videos[0].frames) // 2].stem
    assert names == [
        (video, frame, str(value))
        for video, ids in (("bear", (1, 5)), ("cows", (2,)))
        for frame in ("00000", middle)
        for value in ids
    ]
    rows = np.array([line.split()[3:] for line in lines[1:-3]], float)
    np.testing.assert_allclose(
        np.array(lines[-3].split()[3:], float), rows.mean(0), atol=0.002, rtol=0
    )
    assert lines[-3].startswith("mean of 6 ") and "seconds per click" in lines[-2]

from __future__ import annotations

import json

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.media import points


def written(tmp_path, content):
    path = tmp_path / "objects.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_points_and_boxes_are_read_with_their_defaults(tmp_path):
    clicks, box = points.read(
        written(
            tmp_path,
            [
                {"object_id": 7, "points": [[4.5, 2], [1, 0]]},
                {
                    "object_id": 7,
                    "frame": 3,
                    "box": [1, 2, 30, 40],
                    "points": [[5, 6]],
                    "labels": [0],
                },
            ],
        )
    )
    assert clicks[:2] == (0, 7) and box[:2] == (3, 7) and clicks.box is None
    np.testing.assert_array_equal(clicks.points, [[4.5, 2], [1, 0]])
    np.testing.assert_array_equal(clicks.labels, [1, 1])
    np.testing.assert_array_equal(box.box, [1, 2, 30, 40])
    np.testing.assert_array_equal(box.labels, [0])


ONE = {"object_id": 1, "points": [[1, 2]]}


@pytest.mark.parametrize("entry", [{**ONE, "labels": [0]}, {"object_id": 1}])
def test_marks_may_lie_outside_the_object_for_a_mask_to_correct(entry):
    marks = points.parsed("a request", entry)
    assert marks.box is None and not marks.labels.any()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "clicks on objects as JSON"),
        ([], "a list of objects .*, found an empty one"),
        (ONE, "a list of objects .*, found a single {'object_id': 1, "),
        (None, "a list of objects .*, found a single None"),
        ([3], "object 1: expected the keys .* only, found 3"),
        ([ONE, {**ONE, "pionts": [1]}], "object 2: expected the keys .* only, found 'pionts'"),
        ([{**ONE, "object_id": 0}], "object_id: expected a whole number, 1 to 254, found 0"),
        ([{**ONE, "object_id": True}], "object_id: expected a whole number"),
        ([{"points": [[1, 2]]}], "object_id: expected a whole number, 1 to 254, found None"),
        ([{**ONE, "frame": -1}], "frame: expected a whole number"),
        ([{**ONE, "points": [1, 2]}], r"points: expected \[n, 2\] numbers, found \[2\]"),
        (
            [{**ONE, "points": [[1, "x"]]}],
            r"points: expected \[n, 2\] numbers \(could not convert string to float: 'x'",
        ),
        ([{**ONE, "points": [[10**400, 1]]}], r"points: expected \[n, 2\] numbers \(int too large"),
        (
            [{**ONE, "points": [[1, float("nan")]]}],
            r"points: expected finite numbers, found nan",
        ),
        (
            [{**ONE, "box": [1, 2, float("inf"), 4]}],
            r"box: expected finite numbers, found inf",
        ),
        ([{**ONE, "labels": [1, 0]}], r"labels: expected \[1\] numbers, found \[2\]"),
        ([{**ONE, "labels": [2]}], "labels of 1"),
        ([{**ONE, "box": [1, 2, 3]}], r"box: expected \[4\] numbers, found \[3\]"),
        ([ONE, ONE], "one entry for object 1 in frame 0, found two"),
    ],
)
def test_anything_else_is_refused(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        points.read(written(tmp_path, content))

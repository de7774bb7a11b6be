from __future__ import annotations

import pytest

from feelvos_tf.core.errors import first_line


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no space is left\non the disk", "no space is left"),
        (
            "\n  {{function_node __wrapped__Restore}} truncated record [Op:Restore]",
            "truncated record",
        ),
        ("", "ValueError"),
    ],
)
def test_the_first_line_says_what_went_wrong_without_nodes(message, expected):
    assert first_line(ValueError(message)) == expected

"""The networks that the golden numbers were computed with, shared by all tests."""

from __future__ import annotations

import functools

import pytest

from feelvos_tf.testing.golden import build_rule_model


@pytest.fixture(scope="session")
def rule_model():
    """Returns `variant, output_stride -> Feelvos` with the rule's weights, shared by all tests.

    Tests that change weights call `build_rule_model` instead.
    """
    return functools.cache(build_rule_model)

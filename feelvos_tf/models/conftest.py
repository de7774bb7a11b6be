"""The networks that the golden numbers were made with, one for all tests."""

from __future__ import annotations

import functools

import pytest

from feelvos_tf.testing.golden import build_rule_model


@pytest.fixture(scope="session")
def rule_model():
    """Returns `variant, output_stride -> Feelvos` with the rule's weights, one for all tests.

    Whoever changes weights calls `build_rule_model` instead.
    """
    return functools.cache(build_rule_model)

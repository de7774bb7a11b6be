"""Runs a check on cases that hypothesis draws: always the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def cases(quick: int, slow: int) -> pytest.MarkDecorator:
    """Returns the parameter `count` of a test: how many cases it checks, by default or `-m slow`.

    Args:
      quick: of the default tests.
      slow: of the slow ones.
    """
    return pytest.mark.parametrize("count", [quick, pytest.param(slow, marks=pytest.mark.slow)])


def run(check: Callable[..., None], strategy: Any, count: int) -> None:
    """Checks so many cases.

    Args:
      check: takes what is drawn; what it raises is a failure.
      strategy: of hypothesis.
      count: also the seed.
    """
    import hypothesis

    test = hypothesis.given(strategy)(check)
    settings = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.seed(count)(settings(test))()

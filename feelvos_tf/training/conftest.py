from __future__ import annotations

import pytest
import tensorflow as tf


@pytest.fixture
def eagerly():
    """Runs without tracing, which takes most of the time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)

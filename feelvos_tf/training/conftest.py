from __future__ import annotations

import gin
import pytest
import tensorflow as tf


@pytest.fixture
def eagerly():
    """Runs without tracing, which takes most of the time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def no_settings_of_other_tests():
    """Begins with the defaults, whatever tests of other rooms have bound."""
    gin.clear_config()

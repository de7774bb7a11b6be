"""Shared fixtures: where tests find their data, and the environment they run in."""

import functools
import os
from pathlib import Path

import gin
import pytest

from feelvos_tf.core import cli

cli.use_onednn_where_it_is_faster()  # As the programs do, so that tests run what users run.

# Tests must not depend on what earlier ones left in the home folder.
os.environ["FEELVOS_CACHE"] = ""

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="module")
def no_settings_of_other_files():
    """Starts each test file with the default settings, whatever other files have bound."""
    gin.clear_config()


@pytest.fixture
def eagerly():
    """Runs TensorFlow's functions without tracing, which would take most of the time."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def few_blocks(monkeypatch):
    """Makes settings build a MobileNetV2 with few blocks."""
    from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
    from feelvos_tf.testing import small_model

    monkeypatch.setattr(MobileNetV2, "_BLOCKS", small_model.FewBlocks._BLOCKS)


@functools.cache
def _bundled_model():
    from feelvos_tf.inference import model_loading

    return model_loading.build_bundled()


@pytest.fixture
def bundled_model(monkeypatch):
    """Shares one bundled model among all tests of a process, so that it is traced only once."""
    from feelvos_tf.inference import model_loading

    model = _bundled_model()
    monkeypatch.setattr(model_loading, "build_bundled", lambda **_: model)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Returns the folder that holds `davis2016/` and `davis2017_multi/`, or skips the test."""
    folder = Path(os.environ.get("FEELVOS_TEST_DATA", REPOSITORY.parent / "shared"))
    if not (folder / "davis2016" / "JPEGImages").is_dir():
        pytest.skip("set FEELVOS_TEST_DATA=... to a folder that holds davis2016/JPEGImages")
    return folder


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Returns the bundled data set in DAVIS 2017 layout."""
    return REPOSITORY / "testdata"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Returns the folder of the bundled test vectors."""
    return REPOSITORY / "testdata" / "golden"

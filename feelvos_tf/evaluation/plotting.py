"""matplotlib, set up to write files."""

from __future__ import annotations

from types import ModuleType

from feelvos_tf.core.errors import InputError


def pyplot() -> ModuleType:
    """Returns `matplotlib.pyplot`.

    Raises:
      InputError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            "the picture needs matplotlib: pip install matplotlib, or pip install -e '.[plots]'"
        ) from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot

"""Which model a user has chosen, and at which size it is to run: what flags and `load` share."""

from __future__ import annotations

import os
from typing import NamedTuple

from absl import flags

from feelvos_tf.core import cli
from feelvos_tf.inference import bundled_model, saved_model
from feelvos_tf.inference.numpy_predictor import NumpyPredictor
from feelvos_tf.inference.video_segmenter import ModelVideoSegmenter


class ModelChoice(NamedTuple):
    """A model that is there but not loaded yet.

    Attributes:
      path: folder of a SavedModel; None for the bundled model.
      inference_size: pixels of the short side of the frames while the model runs; None for the
        frames' own.
      identity: changes with the model's settings or weights.
    """

    path: str | os.PathLike[str] | None
    inference_size: int | None
    identity: str

    def load(self, max_total_reference_pixels: int | None = None) -> NumpyPredictor:
        """Returns the model, ready to be used; this is what takes long.

        Args:
          max_total_reference_pixels: see `NumpyPredictor`.

        Raises:
          InputError: it is damaged, or a number is out of range.
        """
        model = bundled_model.build() if self.path is None else saved_model.load(self.path)
        return NumpyPredictor(model, self.inference_size, max_total_reference_pixels, self.identity)

    def segmenter(self) -> ModelVideoSegmenter:
        """Returns the model ready to segment videos. Raises as `load` does."""
        return ModelVideoSegmenter(self.load())


def choose(
    path: str | os.PathLike[str] | None = None, inference_size: int | None = None
) -> ModelChoice:
    """Returns the choice, after a look at the model's files.

    Args:
      path: folder that `feelvos_tf.export` wrote; None for the bundled model.
      inference_size: see `ModelChoice`; None for the size at which the bundled model scores best,
        and for the frames' own with a SavedModel.

    Raises:
      InputError: the model is missing.
    """
    if path is not None:
        saved_model.check(path)
        return ModelChoice(path, inference_size, saved_model.fingerprint(path))
    bundled_model.check()
    if inference_size is None:
        inference_size = bundled_model.inference_size()
    return ModelChoice(None, inference_size, bundled_model.fingerprint())


class ModelFlags:
    """The flags of one program that choose a model, from `define`."""

    def __init__(self, holders: dict[str, flags.FlagHolder]):
        self._holders = holders

    @property
    def path(self) -> str | None:
        """Folder of a SavedModel; None where the flag is not given."""
        return self._holders["saved_model"].value

    @property
    def inference_size(self) -> int | None:
        """Pixels of the short side; None where no flag says so."""
        if self._holders["inference_size"].value is None and self._holders["fast"].value:
            return bundled_model.FAST_INFERENCE_SIZE
        return self._holders["inference_size"].value

    def choice(self) -> ModelChoice:
        """Returns what the flags choose. See `choose`."""
        return choose(self.path, self.inference_size)


def define(flag_values: flags.FlagValues) -> ModelFlags:
    """Defines --saved_model, --inference_size and --fast.

    Args:
      flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
    """
    own = {"flag_values": flag_values}
    holders = {
        "saved_model": flags.DEFINE_string(
            "saved_model",
            None,
            "Folder written by feelvos_tf.export; by default the model that comes with the "
            "package.",
            **own,
        ),
        "inference_size": flags.DEFINE_integer(
            "inference_size",
            None,
            "Run the model on frames scaled to this many pixels on the short side; masks keep the "
            "frame's full size. By default the bundled model runs at the size at which it scores "
            "best, a --saved_model on the frames as they are.",
            lower_bound=16,
            **own,
        ),
        "fast": flags.DEFINE_bool(
            "fast",
            False,
            f"Short for --inference_size={bundled_model.FAST_INFERENCE_SIZE}: several times as "
            "fast, and less exact.",
            **own,
        ),
    }
    cli.group_flags(flag_values, "The model", list(holders))
    return ModelFlags(holders)

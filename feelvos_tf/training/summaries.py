"""What a training shows besides its log: pictures, histograms of the weights, a profile."""

from __future__ import annotations

import os
from collections.abc import Mapping

import gin
import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked
from feelvos_tf.training import tensorboard


@gin.configurable
class Summaries:
    """TensorBoard's pictures, histograms and profile of a run, each at steps that settings name."""

    @checked("Summaries", picture_every_steps=(0, None), histogram_every_steps=(0, None))
    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        weights: Mapping[str, tf.Variable],
        writes: bool = True,
        picture_every_steps: int = 0,
        histogram_every_steps: int = 0,
        profile_steps: tuple[int, int] | None = None,
    ):
        """Stores the settings.

        Args:
          model_dir: the profile goes into `train` there, where TensorBoard finds it.
          weights: of which histograms are made, by name.
          writes: whether this process writes at all.
          picture_every_steps: how often a picture of a clip is written, 0 for never.
          histogram_every_steps: how often the weights' histograms are, 0 for never.
          profile_steps: (first, last) step that the profiler watches, such as (20, 25).

        Raises:
          InputError: the last step of the profile is before the first.
        """
        if profile_steps is not None and not 0 < profile_steps[0] <= profile_steps[1]:
            raise InputError(
                "Summaries.profile_steps: expected (first, last), 1 or more and in this order, found "
                f"{profile_steps}"
            )
        self._logdir = os.path.join(model_dir, "train")
        self._weights = dict(weights)
        self._picture_every_steps = picture_every_steps
        self._histogram_every_steps = histogram_every_steps
        self._profile_steps = profile_steps if writes else None
        self._is_profiling = False

    def before(self, step: int) -> None:
        """Begins the profile where `step`, about to be made, is its first, or after it."""
        if self._profile_steps is None or self._is_profiling:
            return
        first, last = self._profile_steps
        if first <= step <= last:
            tf.profiler.experimental.start(self._logdir)
            self._is_profiling = True

    def after(self, step: int, first_clip: Mapping[str, tf.Tensor]) -> None:
        """Writes what is due after a step to the default summary writer."""
        if self._is_profiling and step >= self._profile_steps[1]:
            self.end()
        if _is_due(step, self._picture_every_steps):
            clip = {name: np.asarray(value) for name, value in first_clip.items()}
            tensorboard.write_picture(clip, step)
        if _is_due(step, self._histogram_every_steps):
            for name, weight in self._weights.items():
                tf.summary.histogram(name, tf.convert_to_tensor(weight), step=step)

    def end(self) -> None:
        """Ends the profile, if there is one under way."""
        if self._is_profiling:
            tf.profiler.experimental.stop()
            self._is_profiling, self._profile_steps = False, None


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0

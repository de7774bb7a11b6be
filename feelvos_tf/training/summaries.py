"""TensorBoard summaries: numbers, pictures, histograms of the weights and a profile."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import CURRENT, REFERENCE
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import overlay


@settings.configurable
class Summaries:
    """Writes pictures, histograms and a profile of a run at the steps that are set."""

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        weights: Mapping[str, tf.Variable],
        writes: bool = True,
        picture_every_steps: settings.Count = 500,
        histogram_every_steps: settings.Count = 0,
        profile_steps: tuple[int, int] | None = None,
    ):
        """Stores the settings.

        Args:
          model_dir: the profile goes into its folder `train`, where TensorBoard finds it.
          weights: shown in histograms, by name.
          writes: whether this process records the profile.
          picture_every_steps: how often a picture of a clip is written, 0 for never.
          histogram_every_steps: how often histograms of the weights are written, 0 for never.
          profile_steps: (first, last) step that the profiler records, such as (20, 25).

        Raises:
          InputError: the last step of the profile is before the first.
        """
        if profile_steps is not None and not 0 < profile_steps[0] <= profile_steps[1]:
            raise InputError(
                "Summaries.profile_steps: expected (first, last) with 1 <= first <= last, found "
                f"{profile_steps}"
            )
        self._logdir = os.path.join(model_dir, "train")
        self._weights = dict(weights)
        self._picture_every_steps = picture_every_steps
        self._histogram_every_steps = histogram_every_steps
        self._profile_steps = profile_steps if writes else None
        self._is_profiling = False

    def before(self, step: int) -> None:
        """Starts the profile if it includes `step`, which is about to run."""
        first, last = self._profile_steps or (1, 0)
        if first <= step <= last and not self._is_profiling:
            tf.profiler.experimental.start(self._logdir)
            self._is_profiling = True

    def after(self, step: int, first_clip: Mapping[str, tf.Tensor]) -> None:
        """Writes what is due after a step to the default summary writer."""
        if self._is_profiling and step >= self._profile_steps[1]:
            self.end()
        if is_due(step, self._picture_every_steps):
            tf.summary.image("clip", training_picture(first_clip)[np.newaxis], step=step)
        if is_due(step, self._histogram_every_steps):
            for name, weight in self._weights.items():
                tf.summary.histogram(name, tf.convert_to_tensor(weight), step=step)

    def end(self) -> None:
        """Ends the profile, if one is being recorded."""
        if self._is_profiling:
            tf.profiler.experimental.stop()
            self._is_profiling, self._profile_steps = False, None


def is_due(step: int, every: int) -> bool:
    """Returns whether something done every `every` steps, 0 for never, is due at `step`."""
    return every > 0 and step % every == 0


def write_scalars(scalars: Mapping[str, float], step: int) -> None:
    """Writes numbers to the default summary writer."""
    for name, value in scalars.items():
        tf.summary.scalar(name, value, step=step)


def training_picture(clip: Mapping[str, tf.Tensor | np.ndarray]) -> np.ndarray:
    """Returns all inputs and outputs of one clip in one picture.

    First row: the reference with its mask, then the current frame plain, with the prediction and
    with the ground truth. Then one row per object, background first: its global and local distance
    maps, dark for near.

    Args:
      clip: images float32 [3, height, width, 3] of 0..255; labels int32 [3, height, width];
        prediction int32 [height, width]; global_map and local_map float32 [num_objects, h, w]
        of 0..1, omitted if the model does not use them.

    Returns:
      uint8 [rows * height + gaps, 4 * width + gaps, 3].
    """
    images = np.clip(np.asarray(clip["images"]), 0, 255).astype(np.uint8)
    labels, prediction = (np.asarray(clip[k]).astype(np.uint8) for k in ("labels", "prediction"))
    tiles = [
        overlay.overlay(images[REFERENCE], labels[REFERENCE]),
        images[CURRENT],
        overlay.overlay(images[CURRENT], prediction),
        overlay.overlay(images[CURRENT], labels[CURRENT]),
    ]
    columns = len(tiles)
    maps = [np.asarray(clip[k]) for k in ("global_map", "local_map") if k in clip]
    for distances in zip(*maps):
        tiles += [_distance_picture(d, labels.shape[1:]) for d in distances]
        tiles += [np.zeros_like(tiles[0])] * (columns - len(distances))
    return overlay.contact_sheet(tiles, columns)


def _distance_picture(distances: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a gray uint8 [height, width, 3] picture of a distance map [h, w]."""
    rows = np.arange(size[0]) * distances.shape[0] // size[0]
    columns = np.arange(size[1]) * distances.shape[1] // size[1]
    gray = (255 * np.clip(distances, 0, 1)).astype(np.uint8)[rows][:, columns]
    return np.repeat(gray[..., np.newaxis], 3, axis=-1)

"""Scores a model in training: propagates the masks of a data set's split and measures J and F."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import tensorflow as tf

from feelvos_tf.core import settings, working_folder
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.evaluation import protocols, score_predictions
from feelvos_tf.inference import input_video
from feelvos_tf.inference.model_loading import build_evaluated
from feelvos_tf.inference.propagation import Outputs, propagate_videos
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.models.release_checkpoint import check_shape, release_names

_LOCK_FILE = ".scoring.lock"


@settings.configurable
class Validation:
    """A split of a data set, with its ground truth, that a model is scored on.

    Masks are written as by `feelvos_tf.predict` and scored as by `tools/eval_davis.py`, so the
    scores equal those of a later evaluation of the same weights.

    Args:
      dataset_root: folder of the data set, see `feelvos_tf.data.datasets`.
      dataset: one of `datasets.DATASETS`.
      split: list of sequences.
      resolution: DAVIS only.
      sequences: names to keep, all when None; a few short ones hardly delay training.
      inference_size: pixels of the short side at which the model runs; None for the frames' own.

    Raises:
      InputError: the data set is missing or incomplete.
    """

    def __init__(
        self,
        dataset_root: str | os.PathLike[str] | None = None,
        dataset: str = "davis_2017",
        split: str = "val",
        resolution: str = "480p",
        sequences: Sequence[str] | None = None,
        inference_size: settings.PositiveInt | None = None,
    ):
        if dataset_root is None:
            raise InputError(
                "Validation.dataset_root: expected the folder of a data set, found none; bind it "
                "with --gin_param or, for feelvos_tf.evaluate, give --dataset_root"
            )
        chosen = (dataset_root, dataset, split, resolution, sequences)
        self._targets = protocols.dataset_ground_truths(*chosen)
        self._videos = input_video.from_dataset(datasets.list_sequences(*chosen, "first"))
        self._measure_f = protocols.measures_f(dataset)
        self._inference_size = inference_size

    def score(self, predictor: Any, output_dir: str | os.PathLike[str]) -> dict[str, float]:
        """Returns J and, where the data set's protocol has them, F and J&F, each in 0..1.

        Args:
          predictor: has the methods of `Predictor`.
          output_dir: where its masks go, `<output_dir>/<sequence>/00000.png ...`; earlier ones are
            replaced.

        Raises:
          InputError: a video could not be propagated or scored, or another process does so there.
        """
        folder = pathlib.Path(output_dir)
        in_use = f"{folder}: another process is scoring the masks that it writes there; wait for it"
        with working_folder.locked(folder, in_use, _LOCK_FILE):
            report = propagate_videos(
                lambda: VideoPredictor(predictor, self._inference_size),
                self._videos,
                lambda video: Outputs(folder / video.name),
                {},
                overwrite=True,
            )
            if report.failed:  # Its folder may hold masks of an earlier model.
                name, error = next(iter(report.failed.items()))
                raise InputError(f"{name} could not be scored: {error}")
            summary = score_predictions.score_folder(
                self._targets, folder, measure_f=self._measure_f
            ).summary
        if summary.f is None:
            return {"J": summary.j.mean}
        return {"J": summary.j.mean, "F": summary.f.mean, "J&F": summary.j_and_f}


def evaluation_of(
    trained: tf.keras.Model, model_dir: str | os.PathLike[str]
) -> Callable[[int], Mapping[str, float]] | None:
    """Returns the function with which `Trainer` scores its model, step -> scores; None if unset.

    Call it outside the strategy's scope: the evaluated model is a separate one on one device, into
    which the trained weights are copied. It has the settings of the run unless `evaluation/...`
    binds others.

    Args:
      trained: the model in training.
      model_dir: the run's folder, which gets the masks of the last evaluation in `eval/masks`.

    Raises:
      InputError: the settings of `Validation` are wrong, or the evaluated network needs weights
        that the trained one does not have.
    """
    if "dataset_root" not in gin.get_bindings("Validation"):
        return None
    validation = Validation()
    model, predictor = build_evaluated()
    trained_variables = release_names(trained)
    for name, variable in release_names(model).items():
        found = trained_variables[name].shape if name in trained_variables else None
        check_shape(
            variable, name, found, "evaluation/...: expected settings of the network in training,"
        )
    folder = pathlib.Path(model_dir) / "eval" / "masks"

    def evaluate(step: int) -> Mapping[str, float]:
        del step
        copy_weights(trained, model)
        return validation.score(predictor, folder)

    return evaluate


def copy_weights(source: tf.keras.Model, target: tf.keras.Model) -> None:
    """Sets every variable of `target` to the value of the variable of that name in `source`."""
    values = release_names(source)
    for name, variable in release_names(target).items():
        variable.assign(tf.convert_to_tensor(values[name]))

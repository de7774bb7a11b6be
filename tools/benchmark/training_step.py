"""Cases of `tools/benchmark step`: where the time of a training step goes."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Sequence

import gin
import tensorflow as tf
from measure import Case
from training import temporary_folder

from feelvos_tf import configurables  # noqa: F401
from feelvos_tf.core import gin_settings
from feelvos_tf.data import record_shards
from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.data.input_pipeline import training_dataset
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.training.clip_forward import BATCH_KEYS
from feelvos_tf.training.optimizers import MomentumOptimizer
from feelvos_tf.training.train_step import TrainState, TrainStep, new_step
from feelvos_tf.training.weight_averaging import WeightAverage

# Title -> settings file, macros of its records, and settings that override some of it.
_RECIPES = {
    "bundled model, stage 2": (
        "gin_configs/train/small_model_2_rollout.gin",
        ("stills_records", "davis_2016_records"),
        (),
    ),
    "xception_65, one clip of 233x233": (
        "gin_configs/train/paper.gin",
        ("davis_2017_records", "youtube_vos_records"),
        ("ClipSettings.crop_size = (233, 233)", "training_dataset.batch_size = 1"),
    ),
}
_BATCHES = 10


class _Step:
    """The parts of a step of one recipe."""

    def __init__(self, recipe: str, records: str):
        """Builds model, data set and update from the recipe's settings, but in float32.

        Not every processor supports the 16-bit products of `set_mixed_precision`.
        """
        file, names, params = _RECIPES[recipe]
        gin_settings.parse([file], [f"{name} = {records!r}" for name in names] + list(params))
        settings = gin.get_bindings("Trainer")
        model = Feelvos()
        model.create_variables()
        learned = {n: v for n, v in release_names(model).items() if v.trainable}
        self._optimizer = settings.get("optimizer", MomentumOptimizer)(learned)
        decay = settings.get("average_decay")
        average = WeightAverage(learned, decay) if decay else None
        state = TrainState(new_step(), self._optimizer, average)
        self._step = TrainStep(model, learned, state, settings["num_steps"])
        self._dataset = training_dataset(seed=0)
        batch = next(iter(self._dataset))
        self._batch = {key: batch[key] for key in BATCH_KEYS}
        self._gradients = {name: tf.zeros_like(variable) for name, variable in learned.items()}

    def whole(self) -> Callable[[], object]:
        """Returns a function that runs a step with the next batch."""
        batches = iter(self._dataset)

        def run() -> object:
            batch = next(batches)
            return self._step({key: batch[key] for key in BATCH_KEYS}, len(self._batch["images"]))

        return run

    def forward(self) -> Callable[[], object]:
        """Returns a function that computes the loss; unused gradients are pruned from its graph."""
        return tf.function(lambda: self._step.gradients(self._batch)[1].scalars["loss"])

    def backward(self) -> Callable[[], object]:
        """Returns a function that computes the gradients."""
        return tf.function(lambda: self._step.gradients(self._batch)[0])

    def update(self) -> Callable[[], object]:
        """Returns a function that updates the weights from given gradients."""
        return tf.function(lambda: self._optimizer.apply(self._gradients, tf.constant(0.0)))

    def input(self) -> Callable[[], object]:
        """Returns a function that reads the next batches, with no training in between."""
        batches = iter(self._dataset)
        return lambda: [next(batches) for _ in range(_BATCHES)]


def step_cases(videos: Sequence[VideoFiles]) -> list[Case]:
    """Returns a whole training step and its parts, for two recipes."""
    folder = temporary_folder()
    record_shards.write_shards(videos, folder, "train", num_shards=2)
    records = str(pathlib.Path(folder) / "train-*")
    parts = {
        "whole": _Step.whole,
        "forward": _Step.forward,
        "forward and backward": _Step.backward,
        "update": _Step.update,
        "input": _Step.input,
    }

    def made(recipe: str, part: Callable) -> Callable[[], object]:
        return part(_Step(recipe, records))

    return [
        Case(
            name,
            f"a training step: {recipe}",
            functools.partial(made, recipe, part),
            items=_BATCHES if part is _Step.input else 1,
        )
        for recipe in _RECIPES
        for name, part in parts.items()
    ]

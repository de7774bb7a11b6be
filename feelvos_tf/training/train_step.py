"""Updates all weights once from one batch of clips, on every replica."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from feelvos_tf.core.constants import CURRENT
from feelvos_tf.core.errors import InputError
from feelvos_tf.training.learning_rate import LearningRate
from feelvos_tf.training.loss_scale import LossScale
from feelvos_tf.training.losses import (
    BootstrappedCrossEntropy,
    Loss,
    LossInputs,
    weight_decay_loss,
)
from feelvos_tf.training.optimizers import Optimizer
from feelvos_tf.training.training_iou import mean_object_iou, predicted_indices
from feelvos_tf.training.triplet_loss import TripletLoss
from feelvos_tf.training.weight_averaging import WeightAverage

BATCH_KEYS = ("images", "labels", "num_objects")


class StepResult(NamedTuple):
    """What one update tells: scalars for the log, and the first clip for the pictures."""

    scalars: dict[str, tf.Tensor]
    first_clip: dict[str, tf.Tensor]


class TrainStep:
    """The update. The losses of a batch's clips are summed, weight decay is added once.

    As in the release (feelvos/train.py), where it is the clips of one replica that are summed, and
    replicas are averaged: the loss, and with it the effective learning rate, grows with the number
    of clips. `summed_clips` tells how many are summed, so that a recipe does not depend on the
    number of devices: a batch is divided among replicas and into parts as the memory wants it.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        named_variables: Mapping[str, tf.Variable],
        step: tf.Variable,
        optimizer: Optimizer,
        num_steps: int,
        weight_decay: float,
        losses: Sequence[Loss] | None = None,
        seed: int = 0,
        average: WeightAverage | None = None,
        summed_clips: int | None = None,
        parts: int = 1,
        loss_scale: LossScale | None = None,
        learning_rate: LearningRate | None = None,
    ):
        """Stores what an update needs; call inside the strategy's scope.

        Args:
          model: offers `clip_logits(images, labels, num_objects, training, seeds)`.
          named_variables: the trainable variables by their names in the 2019 release.
          step: int64 [], number of updates made so far; counted up here.
          optimizer: applies the gradients.
          num_steps: length of the whole training, to which the learning rate falls.
          weight_decay: factor of the L2 loss.
          losses: what is minimized beside it; cross entropy and, as far as its weight is not 0, the
            triplet loss when None.
          seed: random choices of a step follow from this number and the step's.
          average: moved along with every update.
          summed_clips: over so many the losses are summed, and averaged over such groups; over the
            whole batch when None.
          parts: portions of a batch whose gradients are added up before the update.
          loss_scale: for gradients in float16.
          learning_rate: as the settings say when None.

        Raises:
          InputError: the losses are none, or two have one name.
        """
        self._model = model
        self._named_variables = dict(named_variables)
        self._step = step
        self._optimizer = optimizer
        self._num_steps = num_steps
        self._weight_decay = weight_decay
        self._losses = _checked_losses(losses)
        self._seed = seed
        self._average = average
        self._summed_clips = summed_clips
        self._parts = parts
        self._loss_scale = loss_scale
        self._learning_rate = learning_rate or LearningRate()
        # Each replica's own; added up when the update is made.
        self._sums = (
            {} if parts == 1 else {n: _sum_of_replica(v) for n, v in named_variables.items()}
        )

    @tf.function
    def __call__(self, batch: Mapping[str, Any], clips_per_replica: int) -> StepResult:
        """Makes one update, from a batch of one part.

        Args:
          batch: images float32 [clips, frames, height, width, 3], labels int32 [clips, frames,
            height, width], 3 frames or more, and num_objects int32 [clips] on every replica.
          clips_per_replica: a Python number, for distribution forgets it.
        """
        strategy = tf.distribute.get_strategy()
        learning_rate = self._current_rate()
        args = (batch, clips_per_replica, learning_rate, self._step_seed())
        result = _of_all_replicas(strategy.run(self._update, args=args))
        result.scalars["learning_rate"] = learning_rate
        self._step.assign_add(1)
        return result

    def of_parts(self, batches: Iterable[Mapping[str, Any]], clips_per_replica: int) -> StepResult:
        """Makes one update from the parts of a batch, each as the batch of `__call__`.

        Args:
          batches: as many as the batch has parts; only one at a time is held.
          clips_per_replica: of one part.
        """
        scalars: dict[str, tf.Tensor] = {}
        first_clip: dict[str, tf.Tensor] = {}
        for part, batch in enumerate(batches):
            result = self._add_part(batch, clips_per_replica, tf.constant(part, tf.int64))
            scalars = {name: scalars.get(name, 0.0) + s for name, s in result.scalars.items()}
            first_clip = first_clip or result.first_clip
        return StepResult({**scalars, "learning_rate": self._update_from_sums()}, first_clip)

    def build_graph(self, batch: Mapping[str, Any], clips_per_replica: int) -> None:
        """Builds the graph that is called for every batch, or part, without running it."""
        if self._parts == 1:
            self.__call__.get_concrete_function(batch, clips_per_replica)
        else:
            part = tf.TensorSpec([], tf.int64)
            self._add_part.get_concrete_function(batch, clips_per_replica, part)

    @tf.function
    def _add_part(self, batch, clips_per_replica: int, part: tf.Tensor) -> StepResult:
        """Adds the gradients of a part to the sums."""
        strategy = tf.distribute.get_strategy()
        args = (batch, clips_per_replica, self._step_seed(), part)
        return _of_all_replicas(strategy.run(self._add_gradients, args=args))

    @tf.function
    def _update_from_sums(self) -> tf.Tensor:
        """Makes the update that the sums ask for, empties them; returns the learning rate."""
        learning_rate = self._current_rate()
        tf.distribute.get_strategy().run(self._apply_sums, args=(learning_rate,))
        self._step.assign_add(1)
        return learning_rate

    def gradients(
        self, batch: Mapping[str, tf.Tensor], seeds: tf.Tensor | None = None
    ) -> tuple[dict[str, tf.Tensor], StepResult]:
        """Returns one replica's raw gradients by release name, and what the batch told.

        Variables that a setting leaves unused have no gradient and are left out.

        Args:
          batch: as in `__call__`, of this replica.
          seeds: integer [clips, 2] that all random choices follow from; others every time where
            None.
        """
        with tf.GradientTape() as tape:
            outputs = self._model.clip_logits(
                batch["images"], batch["labels"], batch["num_objects"], training=True, seeds=seeds
            )
            losses = self._weighted_losses(outputs, batch, seeds)
            total = tf.add_n(list(losses.values()))
            scaled = total if self._loss_scale is None else total * self._loss_scale.scale
        found = tape.gradient(scaled, self._named_variables)
        gradients = {name: g for name, g in found.items() if g is not None}
        if self._loss_scale is not None:
            gradients = self._loss_scale.unscaled(gradients)
        return gradients, self._report({"loss": total, **losses}, outputs, batch)

    def _current_rate(self) -> tf.Tensor:
        return self._learning_rate(self._step.read_value(), self._num_steps)

    def _step_seed(self) -> tf.Tensor:
        return tf.stack([tf.constant(self._seed, tf.int64), self._step.read_value()])

    def _gradients_of_replica(
        self, batch, clips_per_replica: int, seed: tf.Tensor, part: int | tf.Tensor = 0
    ) -> tuple[dict[str, tf.Tensor], StepResult]:
        """Returns `gradients` of the clips of this replica, each with the seed of its place."""
        batch = {
            key: tf.ensure_shape(batch[key], [clips_per_replica, *batch[key].shape[1:]])
            for key in BATCH_KEYS
        }
        replica = tf.distribute.get_replica_context()
        portion = part * replica.num_replicas_in_sync
        portion += tf.cast(replica.replica_id_in_sync_group, tf.int64)
        seeds = [_fold_in(seed, portion * clips_per_replica + i) for i in range(clips_per_replica)]
        return self.gradients(batch, tf.stack(seeds))

    def _update(self, batch, clips_per_replica: int, learning_rate, seed) -> StepResult:
        """Runs in a replica."""
        gradients, result = self._gradients_of_replica(batch, clips_per_replica, seed)
        self._apply(gradients, learning_rate)
        return result

    def _add_gradients(self, batch, clips_per_replica: int, seed, part) -> StepResult:
        """Runs in a replica."""
        gradients, result = self._gradients_of_replica(batch, clips_per_replica, seed, part)
        for name, gradient in gradients.items():
            self._sums[name].assign_add(gradient)
        return result

    def _apply_sums(self, learning_rate: tf.Tensor) -> None:
        """Runs in a replica."""
        self._apply({n: each.read_value() for n, each in self._sums.items()}, learning_rate)
        for each in self._sums.values():
            each.assign(tf.zeros_like(each))

    def _apply(self, gradients: Mapping[str, tf.Tensor], learning_rate: tf.Tensor) -> None:
        self._optimizer.apply(gradients, learning_rate, self._loss_scale)
        if self._average is not None:
            self._average.update()

    def _weighted_losses(self, outputs, batch, seeds) -> dict[str, tf.Tensor]:
        """Returns this replica's shares of the parts of the loss, which is their sum."""
        step = self._step.read_value()
        clips = [
            LossInputs(
                output,
                batch["labels"][i],
                batch["num_objects"][i],
                step,
                None if seeds is None else seeds[i],
            )
            for i, output in enumerate(outputs)
        ]
        clips_in_batch = len(clips) * self._portions()
        share = (self._summed_clips or clips_in_batch) / clips_in_batch
        losses = {
            loss.name: share * loss.weight * tf.add_n([loss(clip) for clip in clips])
            for loss in self._losses
            if loss.weight
        }
        decay = weight_decay_loss(self._named_variables, self._weight_decay)
        return {**losses, "regularization": decay / self._portions()}

    def _portions(self) -> int:
        """Returns into how many portions a batch is divided: parts, and replicas."""
        return self._parts * tf.distribute.get_strategy().num_replicas_in_sync

    def _report(self, scalars: dict[str, tf.Tensor], outputs, batch) -> StepResult:
        labels = batch["labels"]
        predictions = [predicted_indices(output.logits, tf.shape(labels)[2:]) for output in outputs]
        scores = [
            mean_object_iou(predicted, labels[i, CURRENT], batch["num_objects"][i])
            for i, predicted in enumerate(predictions)
        ]
        scalars["training_miou"] = tf.add_n(scores) / (len(outputs) * self._portions())
        first_clip = {
            "images": batch["images"][0],
            "labels": labels[0],
            "prediction": predictions[0],
            "global_map": outputs[0].global_map,
            "local_map": outputs[0].local_map,
        }
        first_clip = {name: value for name, value in first_clip.items() if value is not None}
        return StepResult(scalars, first_clip)


def _of_all_replicas(result: StepResult) -> StepResult:
    """Returns the sums of all replicas' scalars, and the first clip of this worker."""
    strategy = tf.distribute.get_strategy()
    scalars = {
        name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
        for name, value in result.scalars.items()
    }
    first_clip = {
        name: strategy.experimental_local_results(value)[0]
        for name, value in result.first_clip.items()
    }
    return StepResult(scalars, first_clip)


def _sum_of_replica(variable: tf.Variable) -> tf.Variable:
    """Returns zeros like `variable`, which every replica has for itself."""
    return tf.Variable(
        tf.zeros_like(variable),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.NONE,
    )


def _fold_in(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number)


def _checked_losses(losses: Sequence[Loss] | None) -> Sequence[Loss]:
    """Returns the losses of a training, of which each has a name of its own."""
    if losses is None:
        return BootstrappedCrossEntropy(), TripletLoss()
    if not isinstance(losses, (list, tuple)) or not all(isinstance(x, Loss) for x in losses):
        raise InputError(
            "Trainer.losses: expected a list such as [@BootstrappedCrossEntropy(), @TripletLoss()],"
            f" found {losses}"
        )
    names = [loss.name for loss in losses]
    if not names or len(set(names)) < len(names):
        raise InputError(f"Trainer.losses: expected losses of different names, found {names}")
    return losses

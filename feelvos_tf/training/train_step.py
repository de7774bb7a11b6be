"""Updates all weights once from one batch of clips, on every replica."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import CURRENT, VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.training.clip_forward import BATCH_KEYS, clip_logits, predicted_indices
from feelvos_tf.training.losses import (
    BootstrappedCrossEntropy,
    Loss,
    LossInputs,
    weight_decay_loss,
)
from feelvos_tf.training.mixed_precision import LossScale
from feelvos_tf.training.optimizers import LearningRate, Optimizer
from feelvos_tf.training.triplet_loss import TripletLoss
from feelvos_tf.training.weight_averaging import WeightAverage


@dataclasses.dataclass(frozen=True)
class TrainState:
    """What an update changes besides the weights; checkpoints hold all of it.

    Attributes:
      step: int64 [], number of updates made so far.
      optimizer: applies the gradients.
      average: moving average of the weights, if used.
      loss_scale: of float16 training.
    """

    step: tf.Variable
    optimizer: Optimizer
    average: WeightAverage | None = None
    loss_scale: LossScale | None = None


def new_step() -> tf.Variable:
    """Returns a counter of updates, int64 []; call inside the strategy's scope."""
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=first)


@settings.configurable
class Objective:
    """What training minimizes: the sum of the clips' losses, plus weight decay once per batch.

    The release (feelvos/train.py) sums over the clips of one replica and averages over replicas, so
    the loss, and with it the effective learning rate, grows with the clips per replica. Here
    `summed_clips` is that number, so that a recipe does not depend on how memory forces a batch to
    be divided among replicas and into parts.
    """

    def __init__(
        self,
        losses: Sequence[Loss] | None = None,
        weight_decay: settings.NonNegative = 0.00004,
        summed_clips: settings.PositiveInt | None = None,
    ):
        """Stores the settings.

        Args:
          losses: with their weights; `[@BootstrappedCrossEntropy(), @TripletLoss()]` when None.
          weight_decay: factor of the L2 loss.
          summed_clips: losses are summed over groups of this many clips, and the groups of a batch
            are averaged: 3 for the paper's batch of 48. When None or larger than the batch, the
            whole batch is summed.

        Raises:
          InputError: there are no losses, or two have the same name.
        """
        losses = (BootstrappedCrossEntropy(), TripletLoss()) if losses is None else losses
        if not all(isinstance(loss, Loss) for loss in losses):
            raise InputError(
                "Objective.losses: expected a list such as [@BootstrappedCrossEntropy(), "
                f"@TripletLoss()], found {losses}"
            )
        names = [loss.name for loss in losses]
        if not names or len(set(names)) < len(names):
            raise InputError(f"Objective.losses: expected distinct names of losses, found {names}")
        self._losses = losses
        self._weight_decay = weight_decay
        self._summed_clips = summed_clips

    def __call__(
        self, clips: Sequence[LossInputs], learned: Mapping[str, tf.Variable], portions: int
    ) -> dict[str, tf.Tensor]:
        """Returns one portion's terms of the loss, by name, float32 []; their sum is the loss.

        Args:
          clips: of this portion.
          learned: the trainable variables by their names in the 2019 release.
          portions: number of portions of the batch, whose losses are added up.
        """
        clips_in_batch = len(clips) * portions
        share = min(self._summed_clips or clips_in_batch, clips_in_batch) / clips_in_batch
        terms = {
            loss.name: share * loss.weight * tf.add_n([loss(clip) for clip in clips])
            for loss in self._losses
            if loss.weight
        }
        decay = weight_decay_loss(learned, self._weight_decay)
        return {**terms, "regularization": decay / portions}


class StepResult(NamedTuple):
    """What one update reports: scalars for the log, and the first clip for the pictures."""

    scalars: dict[str, tf.Tensor]
    first_clip: dict[str, tf.Tensor]


class TrainStep:
    """The update, from a whole batch or from the accumulated gradients of its parts."""

    def __init__(
        self,
        model: Feelvos,
        learned: Mapping[str, tf.Variable],
        state: TrainState,
        num_steps: int,
        objective: Objective | None = None,
        *,
        learning_rate: LearningRate | None = None,
        seed: int = 0,
        parts: int = 1,
    ):
        """Stores what an update needs; call inside the strategy's scope.

        Args:
          model: the network.
          learned: the trainable variables by their names in the 2019 release.
          state: advanced by every update.
          num_steps: number of updates in the run, over which the learning rate decays.
          objective: `Objective()`, as bound by gin, when None.
          learning_rate: `LearningRate()`, as bound by gin, when None.
          seed: random choices derive from this and the step number.
          parts: parts of a batch whose gradients are accumulated before the update.
        """
        self._model = model
        self._learned = dict(learned)
        self._state = state
        self._num_steps = num_steps
        self._objective = objective or Objective()
        self._learning_rate = learning_rate or LearningRate()
        self._seed = seed
        self._parts = parts
        # Separate on every replica; added up by the update.
        self._sums = {} if parts == 1 else {n: _sum_of_replica(v) for n, v in learned.items()}

    # Reduced retracing bounds the number of graphs, which TensorFlow never frees, if sizes differ.
    @tf.function(reduce_retracing=True)
    def __call__(self, batch: Mapping[str, Any], clips_per_replica: int) -> StepResult:
        """Makes one update from a batch that is processed as a whole.

        Args:
          batch: images float32 [clips, frames, height, width, 3], labels int32 [clips, frames,
            height, width], 3 frames or more, and num_objects int32 [clips] on every replica.
          clips_per_replica: a Python number, because distribution loses the static shape.
        """
        strategy = tf.distribute.get_strategy()
        learning_rate = self._current_rate()
        args = (batch, clips_per_replica, learning_rate, self._step_seed())
        result = _of_all_replicas(strategy.run(self._update, args=args))
        result.scalars["learning_rate"] = learning_rate
        self._state.step.assign_add(1)
        return result

    def of_parts(self, batches: Iterable[Mapping[str, Any]], clips_per_replica: int) -> StepResult:
        """Makes one update from the parts of a batch, each like the batch of `__call__`.

        Args:
          batches: the parts; only one at a time is held in memory.
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
        """Traces the function that is called for every batch or part, without running it."""
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
        """Applies the accumulated gradients and resets them; returns the learning rate."""
        learning_rate = self._current_rate()
        tf.distribute.get_strategy().run(self._apply_sums, args=(learning_rate,))
        self._state.step.assign_add(1)
        return learning_rate

    def gradients(
        self, batch: Mapping[str, tf.Tensor], seeds: tf.Tensor | None = None
    ) -> tuple[dict[str, tf.Tensor], StepResult]:
        """Returns one replica's raw gradients by release name, and the report of the batch.

        Variables that the settings leave unused have no gradient and are omitted.

        Args:
          batch: as in `__call__`, of this replica.
          seeds: integer [clips, 2] that all random choices derive from; None: different every time.
        """
        loss_scale = self._state.loss_scale
        with tf.GradientTape() as tape:
            outputs = clip_logits(
                self._model, *(batch[key] for key in BATCH_KEYS), training=True, seeds=seeds
            )
            losses = self._losses(outputs, batch, seeds)
            total = tf.add_n(list(losses.values()))
            scaled = total if loss_scale is None else total * loss_scale.scale
        found = tape.gradient(scaled, self._learned)
        gradients = {name: g for name, g in found.items() if g is not None}
        if loss_scale is not None:
            gradients = loss_scale.unscaled(gradients)
        return gradients, self._report({"loss": total, **losses}, outputs, batch)

    def _current_rate(self) -> tf.Tensor:
        return self._learning_rate(self._state.step.read_value(), self._num_steps)

    def _step_seed(self) -> tf.Tensor:
        return tf.stack([tf.constant(self._seed, tf.int64), self._state.step.read_value()])

    def _gradients_of_replica(
        self, batch, clips_per_replica: int, seed: tf.Tensor, part: int | tf.Tensor = 0
    ) -> tuple[dict[str, tf.Tensor], StepResult]:
        """Returns `gradients` of this replica's clips, each seeded by its place in the batch."""
        batch = {
            key: tf.ensure_shape(batch[key], [clips_per_replica, *batch[key].shape[1:]])
            for key in BATCH_KEYS
        }
        replica = tf.distribute.get_replica_context()
        portion = part * replica.num_replicas_in_sync
        portion += tf.cast(replica.replica_id_in_sync_group, tf.int64)
        first = portion * clips_per_replica
        seeds = [tf.random.fold_in(seed, first + i) for i in range(clips_per_replica)]
        return self.gradients(batch, tf.stack(seeds))

    def _update(self, batch, clips_per_replica: int, learning_rate, seed) -> StepResult:
        """Runs in the replica context."""
        gradients, result = self._gradients_of_replica(batch, clips_per_replica, seed)
        self._apply(gradients, learning_rate)
        return result

    def _add_gradients(self, batch, clips_per_replica: int, seed, part) -> StepResult:
        """Runs in the replica context."""
        gradients, result = self._gradients_of_replica(batch, clips_per_replica, seed, part)
        for name, gradient in gradients.items():
            self._sums[name].assign_add(gradient)
        return result

    def _apply_sums(self, learning_rate: tf.Tensor) -> None:
        """Runs in the replica context."""
        self._apply({n: each.read_value() for n, each in self._sums.items()}, learning_rate)
        for each in self._sums.values():
            each.assign(tf.zeros_like(each))

    def _apply(self, gradients: Mapping[str, tf.Tensor], learning_rate: tf.Tensor) -> None:
        self._state.optimizer.apply(gradients, learning_rate, self._state.loss_scale)
        if self._state.average is not None:
            self._state.average.update()

    def _losses(self, outputs, batch, seeds) -> dict[str, tf.Tensor]:
        """Returns this replica's terms of the loss, by name."""
        step = self._state.step.read_value()
        seeds = [None] * len(outputs) if seeds is None else seeds
        clips = [
            LossInputs(output, batch["labels"][i], batch["num_objects"][i], step, seeds[i])
            for i, output in enumerate(outputs)
        ]
        return self._objective(clips, self._learned, self._portions())

    def _portions(self) -> int:
        """Returns the number of portions of a batch: parts times replicas."""
        return self._parts * tf.distribute.get_strategy().num_replicas_in_sync

    def _report(self, scalars: dict[str, tf.Tensor], outputs, batch) -> StepResult:
        labels = batch["labels"]
        predictions = [predicted_indices(o.logits, tf.shape(labels)[2:]) for o in outputs]
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


def mean_object_iou(predicted: tf.Tensor, labels: tf.Tensor, num_objects: tf.Tensor) -> tf.Tensor:
    """Returns the mean IoU over the objects in `labels`, 1 if there are none.

    Background (index 0) is not counted as an object, and void pixels are ignored.

    Args:
      predicted: int32 [..., height, width], object indices.
      labels: int32 of the same shape, 255 for void.
      num_objects: int32 [], background included.

    Returns:
      float32 []. Source: calculate_multi_object_miou_tf in feelvos/utils/eval_utils.py.
    """
    indices = tf.range(1, num_objects)
    void = labels == VOID
    ours = (predicted[..., tf.newaxis] == indices) & ~void[..., tf.newaxis]
    truth = labels[..., tf.newaxis] == indices
    common = tf.math.count_nonzero(ours & truth, axis=(-3, -2), dtype=tf.float32)
    union = tf.math.count_nonzero(ours | truth, axis=(-3, -2), dtype=tf.float32)
    present = tf.cast(tf.reduce_any(truth, axis=(-3, -2)), tf.float32)
    count = tf.reduce_sum(present)
    mean = tf.reduce_sum(tf.math.divide_no_nan(common, union) * present) / tf.maximum(count, 1.0)
    return tf.where(count > 0, mean, 1.0)


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
    """Returns zeros like `variable`, separate on every replica."""
    return tf.Variable(
        tf.zeros_like(variable),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.NONE,
    )

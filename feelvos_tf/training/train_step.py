"""Updates all weights once from one batch of clips, on every replica."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from feelvos_tf.core.constants import CURRENT, VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.core.resizing import resize_bilinear
from feelvos_tf.training.learning_rate import LearningRate
from feelvos_tf.training.losses import (
    BootstrappedCrossEntropy,
    Loss,
    LossInputs,
    weight_decay_loss,
)
from feelvos_tf.training.optimizers import Optimizer
from feelvos_tf.training.triplet_loss import TripletLoss
from feelvos_tf.training.weight_averaging import WeightAverage

BATCH_KEYS = ("images", "labels", "num_objects")


class StepResult(NamedTuple):
    """What one update tells: scalars for the log, and the first clip for the pictures."""

    scalars: dict[str, tf.Tensor]
    first_clip: dict[str, tf.Tensor]


class TrainStep:
    """The update. The clips of a replica are summed, replicas averaged, weight decay added once.

    As in the release (feelvos/train.py): so the loss, and with it the effective learning rate,
    grows with the number of clips per replica.
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
    ):
        """Stores the parts; call inside the strategy's scope.

        Args:
          model: offers `clip_logits(images, labels, num_objects, training, seed)`.
          named_variables: the trainable variables by their names in the 2019 release.
          step: int64 [], number of updates made so far; counted up here.
          optimizer: applies the gradients.
          num_steps: length of the whole training, to which the learning rate falls.
          weight_decay: factor of the L2 loss.
          losses: what is minimized beside it; cross entropy and, as far as its weight is not 0, the
            triplet loss when None.
          seed: random choices of a step follow from this number and the step's.
          average: moved along with every update.

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
        self._learning_rate = LearningRate()

    @tf.function
    def __call__(self, batch: Mapping[str, Any], clips_per_replica: int) -> StepResult:
        """Makes one update.

        Args:
          batch: images float32 [clips, frames, height, width, 3], labels int32 [clips, frames,
            height, width], 3 frames or more, and num_objects int32 [clips] on every replica.
          clips_per_replica: a Python number, for distribution forgets it.
        """
        strategy = tf.distribute.get_strategy()
        step = self._step.read_value()
        learning_rate = self._learning_rate(step, self._num_steps)
        seed = tf.stack([tf.constant(self._seed, tf.int64), step])
        result = strategy.run(self._update, args=(batch, clips_per_replica, learning_rate, seed))
        self._step.assign_add(1)
        scalars = {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in result.scalars.items()
        }
        scalars["learning_rate"] = learning_rate
        first = {
            name: strategy.experimental_local_results(value)[0]
            for name, value in result.first_clip.items()
        }
        return StepResult(scalars, first)

    def gradients(
        self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor | None = None
    ) -> tuple[dict[str, tf.Tensor], StepResult]:
        """Returns one replica's raw gradients by release name, and what the batch told.

        Variables that a setting leaves unused have no gradient and are left out.

        Args:
          batch: as in `__call__`, of this replica.
          seed: integer [2] that all random choices follow from; others every time where None.
        """
        with tf.GradientTape() as tape:
            outputs = self._model.clip_logits(
                batch["images"], batch["labels"], batch["num_objects"], training=True, seed=seed
            )
            losses = self._weighted_losses(outputs, batch, seed)
            total = tf.add_n(list(losses.values()))
        gradients = tape.gradient(total, self._named_variables)
        return (
            {name: g for name, g in gradients.items() if g is not None},
            self._report({"loss": total, **losses}, outputs, batch),
        )

    def _update(self, batch, clips_per_replica: int, learning_rate, seed) -> StepResult:
        """Runs in a replica."""
        batch = {
            key: tf.ensure_shape(batch[key], [clips_per_replica, *batch[key].shape[1:]])
            for key in BATCH_KEYS
        }
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradients, result = self.gradients(batch, _fold_in(seed, replica))
        self._optimizer.apply(gradients, learning_rate)
        if self._average is not None:
            self._average.update()
        return result

    def _weighted_losses(self, outputs, batch, seed) -> dict[str, tf.Tensor]:
        """Returns this replica's shares of the parts of the loss, which is their sum."""
        step = self._step.read_value()
        clips = [
            LossInputs(
                output,
                batch["labels"][i],
                batch["num_objects"][i],
                step,
                None if seed is None else _fold_in(seed, i),
            )
            for i, output in enumerate(outputs)
        ]
        losses = {
            loss.name: loss.weight * tf.add_n([loss(clip) for clip in clips])
            for loss in self._losses
            if loss.weight
        }
        losses["regularization"] = weight_decay_loss(self._named_variables, self._weight_decay)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return {name: loss / replicas for name, loss in losses.items()}

    def _report(self, scalars: dict[str, tf.Tensor], outputs, batch) -> StepResult:
        labels = batch["labels"]
        predictions = [predicted_indices(output.logits, tf.shape(labels)[2:]) for output in outputs]
        scores = [
            mean_object_iou(predicted, labels[i, CURRENT], batch["num_objects"][i])
            for i, predicted in enumerate(predictions)
        ]
        share = len(outputs) * tf.distribute.get_strategy().num_replicas_in_sync
        scalars["training_miou"] = tf.add_n(scores) / share
        first_clip = {
            "images": batch["images"][0],
            "labels": labels[0],
            "prediction": predictions[0],
            "global_map": outputs[0].global_map,
            "local_map": outputs[0].local_map,
        }
        first_clip = {name: value for name, value in first_clip.items() if value is not None}
        return StepResult(scalars, first_clip)


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


def predicted_indices(logits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns int32 [height, width]: the object of the largest upsampled logit.

    Args:
      logits: float32 [num_objects, h, w, 1].
      size: int32 [2], height and width.
    """
    return tf.argmax(resize_bilinear(logits, size)[..., 0], axis=0, output_type=tf.int32)


def mean_object_iou(predicted: tf.Tensor, labels: tf.Tensor, num_objects: tf.Tensor) -> tf.Tensor:
    """Returns the mean IoU over the objects that are in `labels`, 1 where there is none.

    Background (index 0) is no object here, and void pixels do not count.

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

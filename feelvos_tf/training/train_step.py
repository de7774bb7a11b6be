"""One update of all weights from one batch of clips, on every replica."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from feelvos_tf.training.learning_rate import LearningRate
from feelvos_tf.training.losses import (
    VOID,
    BootstrappedCrossEntropy,
    resize_logits,
    weight_decay_loss,
)
from feelvos_tf.training.optimizers import Optimizer
from feelvos_tf.training.triplet_loss import TripletLoss
from feelvos_tf.training.weight_averaging import WeightAverage

BATCH_KEYS = ("images", "labels", "num_objects")
CURRENT = 2


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
        average: WeightAverage | None = None,
    ):
        """Stores the parts; call inside the strategy's scope.

        Args:
          model: offers `clip_logits(images, labels, num_objects, training)`.
          named_variables: the trainable variables by their names in the 2019 release.
          step: int64 [], number of updates made so far; counted up here.
          optimizer: applies the gradients.
          num_steps: length of the whole training, to which the learning rate falls.
          weight_decay: rate of the L2 loss.
          average: moved along with every update.
        """
        self._model = model
        self._named_variables = dict(named_variables)
        self._step = step
        self._optimizer = optimizer
        self._num_steps = num_steps
        self._weight_decay = weight_decay
        self._average = average
        self._cross_entropy = BootstrappedCrossEntropy()
        self._triplet_loss = TripletLoss()
        self._learning_rate = LearningRate()

    @tf.function
    def __call__(self, batch: Mapping[str, Any], clips_per_replica: int) -> StepResult:
        """Makes one update.

        Args:
          batch: images float32 [clips, 3, height, width, 3], labels int32 [clips, 3, height,
            width] and num_objects int32 [clips] on every replica.
          clips_per_replica: a Python number, for distribution forgets it.
        """
        strategy = tf.distribute.get_strategy()
        rate = self._learning_rate(self._step.read_value(), self._num_steps)
        result = strategy.run(self._update, args=(batch, clips_per_replica, rate))
        self._step.assign_add(1)
        scalars = {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in result.scalars.items()
        }
        scalars["learning_rate"] = rate
        first = {
            name: strategy.experimental_local_results(value)[0]
            for name, value in result.first_clip.items()
        }
        return StepResult(scalars, first)

    def gradients(self, batch: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], StepResult]:
        """Returns one replica's raw gradients by release name, and what the batch told.

        Variables that a setting leaves unused have no gradient and are left out.
        """
        with tf.GradientTape() as tape:
            clips = self._model.clip_logits(
                batch["images"], batch["labels"], batch["num_objects"], training=True
            )
            losses = self._losses(clips, batch)
            total = tf.add_n(list(losses.values()))
        gradients = tape.gradient(total, self._named_variables)
        return (
            {name: g for name, g in gradients.items() if g is not None},
            self._report({"loss": total, **losses}, clips, batch),
        )

    def _update(self, batch, clips_per_replica: int, rate: tf.Tensor) -> StepResult:
        """Runs in a replica."""
        batch = {
            key: tf.ensure_shape(batch[key], [clips_per_replica, *batch[key].shape[1:]])
            for key in BATCH_KEYS
        }
        gradients, result = self.gradients(batch)
        self._optimizer.apply(gradients, rate)
        if self._average is not None:
            self._average.update()
        return result

    def _losses(self, clips, batch) -> dict[str, tf.Tensor]:
        """Returns this replica's shares of the parts of the loss, which is their sum."""
        labels, step = batch["labels"], self._step.read_value()
        cross_entropy = [
            self._cross_entropy.weight * self._clip_cross_entropy(clip, labels[i], step)
            for i, clip in enumerate(clips)
        ]
        losses = {
            "cross_entropy": tf.add_n(cross_entropy),
            "regularisation": weight_decay_loss(self._named_variables, self._weight_decay),
        }
        if self._triplet_loss.weight:
            triplet = [
                self._triplet_loss(clip.embeddings, labels[i], batch["num_objects"][i])
                for i, clip in enumerate(clips)
            ]
            losses["triplet"] = self._triplet_loss.weight * tf.add_n(triplet)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return {name: loss / replicas for name, loss in losses.items()}

    def _clip_cross_entropy(self, clip, labels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Returns the mean cross entropy of the frames predicted in a clip."""
        logits = [clip.logits, *clip.further_logits]
        losses = [
            self._cross_entropy(each, labels[CURRENT + frame], step)
            for frame, each in enumerate(logits)
        ]
        return tf.add_n(losses) / len(losses)

    def _report(self, scalars: dict[str, tf.Tensor], clips, batch) -> StepResult:
        labels = batch["labels"]
        predictions = [predicted_indices(clip.logits, tf.shape(labels)[2:]) for clip in clips]
        scores = [
            mean_object_iou(predicted, labels[i, CURRENT], batch["num_objects"][i])
            for i, predicted in enumerate(predictions)
        ]
        share = len(clips) * tf.distribute.get_strategy().num_replicas_in_sync
        scalars["training_miou"] = tf.add_n(scores) / share
        first_clip = {
            "images": batch["images"][0],
            "labels": labels[0],
            "prediction": predictions[0],
            "global_map": clips[0].global_map,
            "local_map": clips[0].local_map,
        }
        first_clip = {name: value for name, value in first_clip.items() if value is not None}
        return StepResult(scalars, first_clip)


def predicted_indices(logits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns int32 [height, width]: the object of the largest upsampled logit.

    Args:
      logits: float32 [num_objects, h, w, 1].
      size: int32 [2], height and width.
    """
    return tf.argmax(resize_logits(logits, size)[..., 0], axis=0, output_type=tf.int32)


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

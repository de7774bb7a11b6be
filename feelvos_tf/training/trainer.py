"""Trains a model step by step: log, TensorBoard, checkpoints, resuming, a clean stop."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked
from feelvos_tf.training import tensorboard
from feelvos_tf.training.batch_norm_calibration import calibrate_batch_norm
from feelvos_tf.training.checkpoints import RunCheckpoints
from feelvos_tf.training.losses import Loss
from feelvos_tf.training.optimizers import MomentumOptimizer, Optimizer
from feelvos_tf.training.progress_log import ProgressLog, say, where_to_go_on
from feelvos_tf.training.stop_signal import stop_on_signal
from feelvos_tf.training.train_step import BATCH_KEYS, StepResult, TrainStep
from feelvos_tf.training.weight_averaging import WeightAverage

Evaluate = Callable[[int], Mapping[str, float]]
MakeOptimizer = Callable[[Mapping[str, tf.Variable]], Optimizer]
BatchesFrom = Callable[[int], tf.data.Dataset]
# In batches, beside `BATCH_KEYS`: the videos' names, cut off behind so many bytes.
_NAME, _NAME_BYTES = "video_name", 64


@gin.configurable
@checked("set_random_seed")
def set_random_seed(seed: int | None = None) -> int:
    """Makes runs alike; call before the model is made, and give `Trainer` the seed returned.

    Args:
      seed: of the initial weights, dropout, and the reference pixels drawn; None for another one
        in every run. Clips have a seed of their own, `training_dataset.seed`.
    """
    if seed is None:
        return secrets.randbits(31)
    tf.keras.utils.set_random_seed(seed)
    return seed


@gin.configurable
class Trainer:
    """Trains a model in `model_dir`, going on from the last checkpoint there.

    Defaults are the release's where it has such a setting. The learning rate, the losses and the
    gradients have settings of their own: `LearningRate`, `BootstrappedCrossEntropy`,
    `TripletLoss`, `MomentumOptimizer`, `AdamOptimizer`.

    Attributes:
      stopped_by: number of the signal that ended `train` before its last step, 0 if none did.
    """

    @checked("Trainer")
    def __init__(
        self,
        model: tf.keras.Model,
        named_variables: Mapping[str, tf.Variable],
        model_dir: str | os.PathLike[str],
        strategy: tf.distribute.Strategy,
        evaluate: Evaluate | None = None,
        optimizer: MakeOptimizer = MomentumOptimizer,
        losses: Sequence[Loss] | None = None,
        num_steps: int = 200_000,
        weight_decay: float = 0.00004,
        average_decay: float = 0.0,
        init_checkpoint: str | None = None,
        initialize_last_layer: bool = False,
        calibration_clips: int = 0,
        log_every_steps: int = 10,
        picture_every_steps: int = 500,
        save_every_steps: int = 1000,
        evaluate_every_steps: int = 0,
        max_checkpoints: int = 5,
        seed: int = 0,
    ):
        """Builds everything around the model, and restores or initializes its weights.

        Args:
          model: made, variables included, in the strategy's scope; see `TrainStep`.
          named_variables: its variables by their names in the 2019 release; those that are not
            trainable are left alone.
          model_dir: where checkpoints, settings and TensorBoard files go.
          strategy: distributes the clips of a batch over the devices.
          evaluate: step -> scores by name, called every `evaluate_every_steps`; `Validation`.
          optimizer: `@MomentumOptimizer` as in the paper, or `@AdamOptimizer`.
          losses: what is minimized beside the L2 loss, each with a weight of its own:
            `[@BootstrappedCrossEntropy(), @TripletLoss()]` when None.
          num_steps: number of updates; the learning rate falls to 0 there.
          weight_decay: factor of the L2 loss.
          average_decay: of the moving average of the weights, which then is what `evaluate` scores
            and what exports, predictions and later trainings take from the checkpoints; 0 for none.
          init_checkpoint: weights of a fresh run: a TF1 DeepLab checkpoint or one of ours.
          initialize_last_layer: takes DeepLab's ASPP and decoder from there, too.
          calibration_clips: clips that set the batch-norm statistics of layers without weights in
            `init_checkpoint` before a fresh run, 0 to begin with 0 and 1 as the release does; see
            `calibrate_batch_norm`.
          log_every_steps: how often a line and the scalars are written.
          picture_every_steps: how often a picture of a clip is written, 0 for never.
          save_every_steps: how often a checkpoint is written.
          evaluate_every_steps: how often `evaluate` is called, 0 for never.
          max_checkpoints: older ones are deleted.
          seed: from `set_random_seed`.

        Raises:
          InputError: a checkpoint is missing or does not fit, or nothing is there to evaluate on.
        """
        if evaluate_every_steps and evaluate is None:
            raise InputError(
                "Trainer.evaluate_every_steps: expected Validation.dataset_root to be bound, too"
            )
        if not callable(optimizer):
            raise InputError(
                "Trainer.optimizer: expected an optimizer such as @AdamOptimizer, found "
                f"{optimizer!r}"
            )
        self.stopped_by = 0
        self._strategy = strategy
        self._model_dir = pathlib.Path(model_dir)
        self._model = model
        self._evaluate = evaluate
        self._calibration_clips = calibration_clips
        self._num_steps = num_steps
        self._log_every_steps = log_every_steps
        self._picture_every_steps = picture_every_steps
        self._save_every_steps = save_every_steps
        self._evaluate_every_steps = evaluate_every_steps
        learned = {n: v for n, v in named_variables.items() if v.trainable}
        self._learned = learned
        with strategy.scope():
            self.step = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            updates = optimizer(learned)
            self._average = WeightAverage(learned, average_decay) if average_decay else None
            self._train_step = TrainStep(
                model,
                learned,
                self.step,
                updates,
                num_steps,
                weight_decay,
                losses,
                seed,
                self._average,
            )
            self._checkpoints = RunCheckpoints(
                model_dir,
                model,
                named_variables,
                updates,
                self.step,
                max_checkpoints,
                self._average,
            )
            self._restored = self._restore_or_initialize(init_checkpoint, initialize_last_layer)
            if self._average is not None and self._checkpoints.latest is None:
                self._average.restart()

    def train(self, batches_from: BatchesFrom) -> bool:
        """Trains to the last step; returns False if a signal stopped it before.

        SIGINT and SIGTERM end the step under way and save a checkpoint; a second one kills.

        Args:
          batches_from: step -> endless batches as in `TrainStep` of that step and those after it,
            of the same number of clips each, to be divided among the replicas.

        Raises:
          InputError: the loss is not a number any more, or batches cannot be divided.
        """
        first_step = int(self.step.numpy())
        if first_step >= self._num_steps and self._checkpoints.latest is not None:
            say(
                f"this training has ended already, at step {first_step}; "
                f"Trainer.num_steps = {self._num_steps} must be larger to go on from there"
            )
            return True
        dataset = _with_numeric_names(batches_from(first_step))
        clips_per_replica = self._clips_per_replica(dataset)
        writer = tf.summary.create_file_writer(str(self._model_dir / "train"))
        with self._strategy.scope(), writer.as_default(), stop_on_signal() as stopped:
            if self._calibration_clips and self._checkpoints.latest is None:
                # A dataset of its own: the one of the training must not have been read from.
                self._calibrate(batches_from(0))
            batches = iter(self._strategy.experimental_distribute_dataset(dataset))
            done = self._loop(first_step, batches, clips_per_replica, stopped)
        writer.close()
        return done

    def _calibrate(self, dataset: tf.data.Dataset) -> None:
        clips = dataset.unbatch().take(self._calibration_clips)
        images = tf.concat([clip["images"] for clip in clips], axis=0)
        count = calibrate_batch_norm(self._model, images, self._restored)
        say(f"statistics of {count} batch norms set from {images.shape[0]} images")

    def _loop(self, step: int, batches, clips_per_replica: int, stopped: Callable[[], int]) -> bool:
        log = ProgressLog(step, self._num_steps, lambda: self._checkpoints.latest)
        saved = step if self._checkpoints.latest else None
        while step < self._num_steps and not stopped():
            batch = next(batches, None)
            if batch is None:
                raise InputError(f"the training data ended at step {step}: expected it to repeat")
            names = self._strategy.experimental_local_results(batch.pop(_NAME))
            result = self._train_step(batch, clips_per_replica)
            step += 1
            log.add(result.scalars, names)
            if _is_due(step, self._log_every_steps) or log.is_first:
                log.write(step)
            self._write_picture(result, step)
            if _is_due(step, self._save_every_steps):
                saved = self._save(step, log)
            self._write_scores(step)
        if saved != step:
            self._save(step, log)
        self.stopped_by = 0 if step >= self._num_steps else stopped()
        return step >= self._num_steps

    def _save(self, step: int, log: ProgressLog) -> int:
        """Saves a checkpoint unless a loss or weight is not finite; returns the step."""
        log.write(step)
        for variable in self._learned.values():
            if not tf.reduce_all(tf.math.is_finite(variable)):
                raise InputError(
                    f"a weight is not a finite number after step {step}: nothing is saved; "
                    f"{where_to_go_on(self._checkpoints.latest)}"
                )
        say(f"step {step}: saved {self._checkpoints.save()}")
        return step

    def _write_picture(self, result: StepResult, step: int) -> None:
        if _is_due(step, self._picture_every_steps):
            clip = {name: value.numpy() for name, value in result.first_clip.items()}
            tensorboard.write_picture(clip, step)

    def _write_scores(self, step: int) -> None:
        if self._evaluate is None or not _is_due(step, self._evaluate_every_steps):
            return
        with self._average.in_place() if self._average else contextlib.nullcontext():
            scores = self._evaluate(step)
        tensorboard.write_scalars({f"eval/{name}": s for name, s in scores.items()}, step)
        say(f"step {step}: " + ", ".join(f"{name} {s:.4f}" for name, s in scores.items()))

    def _restore_or_initialize(
        self, init_checkpoint: str | None, initialize_last_layer: bool
    ) -> Collection[str]:
        """Returns the names of the variables that `init_checkpoint` has set."""
        resumed_from = self._checkpoints.resume()
        if resumed_from:
            say(f"going on from {resumed_from}, step {int(self.step.numpy())}")
        elif init_checkpoint:
            restored = self._checkpoints.initialize(init_checkpoint, initialize_last_layer)
            say(f"starting from {init_checkpoint}, {len(restored)} variables")
            return restored
        else:
            say("starting from random weights")
        return []

    def _clips_per_replica(self, dataset: tf.data.Dataset) -> int:
        clips = dataset.element_spec["images"].shape[0]
        replicas = self._strategy.num_replicas_in_sync
        if clips is None or clips % replicas:
            raise InputError(
                f"training batches: expected a fixed number of clips that {replicas} replicas "
                f"can share evenly, found {clips}"
            )
        return clips // replicas


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _with_numeric_names(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset with the videos' names as uint8 [clips, bytes]: no GPU takes strings."""

    def convert(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        names = tf.io.decode_raw(batch["video_id"], tf.uint8, fixed_length=_NAME_BYTES)
        return {_NAME: names, **{key: batch[key] for key in BATCH_KEYS}}

    return dataset.map(convert)

"""Trains a model step by step: log, TensorBoard, checkpoints, resuming, a clean stop."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked
from feelvos_tf.data.batch_share import WHOLE
from feelvos_tf.training.batch_norm_calibration import calibrate_batch_norm
from feelvos_tf.training.checkpoints import RunCheckpoints
from feelvos_tf.training.devices import Workers
from feelvos_tf.training.distributed_batches import BatchesFrom, DistributedBatches
from feelvos_tf.training.dry_run import MemoryWatch, Trial, report
from feelvos_tf.training.loss_scale import LossScale
from feelvos_tf.training.losses import Loss
from feelvos_tf.training.metrics_file import MetricsFile
from feelvos_tf.training.optimizers import MomentumOptimizer, Optimizer, is_head
from feelvos_tf.training.progress_log import ProgressLog, say, where_to_go_on
from feelvos_tf.training.stop_signal import stop_on_signal
from feelvos_tf.training.train_step import StepResult, TrainStep
from feelvos_tf.training.summaries import Summaries
from feelvos_tf.training.weight_averaging import WeightAverage

Evaluate = Callable[[int], Mapping[str, float]]
MakeOptimizer = Callable[[Mapping[str, tf.Variable]], Optimizer]


@gin.configurable
@checked("set_random_seed", seed=(0, 2**32 - 1))
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

    @checked(
        "Trainer",
        num_steps=(0, None),
        weight_decay=(0.0, None),
        average_decay=(0.0, 0.999999),
        calibration_clips=(0, None),
        log_every_steps=(0, None),
        picture_every_steps=(0, None),
        save_every_steps=(0, None),
        evaluate_every_steps=(0, None),
        max_checkpoints=(1, None),
    )
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
        gradient_accumulation_steps: int = 1,
        summed_clips: int | None = None,
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
          init_checkpoint: weights of a fresh run: a TF1 DeepLab checkpoint, one of ours, or a file
            of packed weights such as the bundled model's, feelvos_tf/pretrained/weights.npz.
          initialize_last_layer: takes DeepLab's ASPP and decoder from there, too.
          calibration_clips: clips that set the batch-norm statistics of layers without weights in
            `init_checkpoint` before a fresh run, 0 to begin with 0 and 1 as the release does; see
            `calibrate_batch_norm`.
          log_every_steps: how often a line and the scalars are written.
          picture_every_steps: how often a picture of a clip is written, 0 for never.
          save_every_steps: how often a checkpoint is written.
          evaluate_every_steps: how often `evaluate` is called, 0 for never.
          max_checkpoints: older ones are deleted.
          gradient_accumulation_steps: a batch is worked off in so many parts, whose gradients are added up:
            the weights of the whole batch in the memory of a part.
          summed_clips: over so many clips of a batch the losses are summed, and averaged over such
            groups: 3 of the paper's batch of 48; over the whole batch when None.
          seed: from `set_random_seed`.

        Raises:
          InputError: a checkpoint is missing or does not fit, or nothing is there to evaluate on.
        """
        if evaluate_every_steps and evaluate is None and Workers(strategy).is_chief:
            raise InputError(
                "Trainer.evaluate_every_steps: expected Validation.dataset_root to be bound, too"
            )
        if not callable(optimizer):
            raise InputError(
                "Trainer.optimizer: expected an optimizer such as @AdamOptimizer, found "
                f"{optimizer!r}"
            )
        if gradient_accumulation_steps < 1 or (summed_clips is not None and summed_clips < 1):
            raise InputError(
                "Trainer: expected gradient_accumulation_steps and summed_clips of 1 or more, found "
                f"{gradient_accumulation_steps} and {summed_clips}"
            )
        self.stopped_by = 0
        self._strategy = strategy
        self._workers = Workers(strategy)
        self._parts = gradient_accumulation_steps
        self._model_dir = pathlib.Path(model_dir)
        self._model = model
        self._evaluate = evaluate
        self._calibration_clips = calibration_clips
        self._num_steps = num_steps
        self._log_every_steps = log_every_steps
        self._picture_every_steps = picture_every_steps
        self._save_every_steps = save_every_steps
        self._max_checkpoints = max_checkpoints
        self._evaluate_every_steps = evaluate_every_steps
        learned = {
            name: variable
            for name, variable in named_variables.items()
            if variable.trainable and (is_head(name) or not model.freeze_backbone)
        }
        self._learned = learned
        self._statistics = {n: v for n, v in named_variables.items() if n not in learned}
        with strategy.scope():
            self.step = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            updates = optimizer(learned)
            self._average = WeightAverage(learned, average_decay) if average_decay else None
            loss_scale = LossScale() if model.compute_dtype == "float16" else None
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
                summed_clips,
                gradient_accumulation_steps,
                loss_scale,
            )
            self._checkpoints = RunCheckpoints(
                model_dir,
                model,
                named_variables,
                updates,
                self.step,
                max_checkpoints,
                self._average,
                loss_scale,
                self._workers,
            )
        # Outside of the scope, for the chief reads before the others do.
        self._is_resumed = self._resume()
        self._restored = self._initialize(init_checkpoint, initialize_last_layer)
        if self._average is not None and not self._is_resumed:
            with strategy.scope():
                self._average.restart()

    def train(self, batches_from: BatchesFrom) -> bool:
        """Trains to the last step; returns False if a signal stopped it before.

        SIGINT and SIGTERM end the step under way and save a checkpoint; a second one kills.

        Args:
          batches_from: step, share -> endless batches as in `TrainStep` of that step and those
            after it: what falls to one replica after the other, as the share tells.

        Raises:
          InputError: the loss is not a number any more, or batches cannot be divided.
        """
        first_step = int(self.step.numpy())
        if first_step >= self._num_steps and self._is_resumed:
            say(
                f"this training has ended already, at step {first_step}; "
                f"Trainer.num_steps = {self._num_steps} must be larger to go on from there"
            )
            return True
        batches = DistributedBatches(self._strategy, batches_from, first_step, self._parts)
        writer = self._summary_writer()
        with writer.as_default(), stop_on_signal() as stopped:
            if self._calibration_clips and not self._is_resumed:
                # A dataset of its own: the one of the training must not have been read from.
                self._calibrate(batches_from(0, WHOLE))
            done = self._loop(first_step, batches, stopped)
        writer.close()
        return done

    def _summary_writer(self) -> tf.summary.SummaryWriter:
        if not self._workers.is_chief:
            return tf.summary.create_noop_writer()
        return tf.summary.create_file_writer(str(self._model_dir / "train"))

    def _calibrate(self, dataset: tf.data.Dataset) -> None:
        clips = dataset.unbatch().take(self._calibration_clips)
        images = tf.concat([clip["images"] for clip in clips], axis=0)
        with self._strategy.scope():
            count = calibrate_batch_norm(self._model, images, self._restored)
        self._workers.broadcast(self._statistics)
        say(f"statistics of {count} batch norms set from {images.shape[0]} images")

    def _loop(self, step: int, batches: DistributedBatches, stopped: Callable[[], int]) -> bool:
        log = self._progress_log(step, batches)
        summaries = Summaries(
            self._model_dir, self._learned, self._workers.is_chief, self._picture_every_steps
        )
        saved = step if self._is_resumed else None
        signal_number = 0
        while step < self._num_steps and not signal_number:
            summaries.before(step + 1)
            names: list[tf.Tensor] = []
            result = self._update(batches.parts_of(step, names), batches.clips_per_replica)
            step += 1
            log.add(result.scalars, names)
            if _is_due(step, self._log_every_steps) or log.is_first:
                log.write(step)
            summaries.after(step, result.first_clip)
            if _is_due(step, self._save_every_steps):
                saved = self._save(step, log)
            self._write_scores(step, log)
            signal_number = self._workers.any(stopped())
        summaries.end()
        if saved != step:
            self._save(step, log)
        self.stopped_by = signal_number if step < self._num_steps else 0
        return step >= self._num_steps

    def _progress_log(self, step: int, batches: DistributedBatches) -> ProgressLog:
        replicas = self._strategy.num_replicas_in_sync
        return ProgressLog(
            step,
            self._num_steps,
            batches.clips_per_replica * replicas * self._parts,
            MetricsFile(self._model_dir, step) if self._workers.is_chief else None,
            lambda: self._checkpoints.latest,
        )

    def _update(
        self, parts: Iterator[Mapping[str, tf.Tensor]], clips_per_replica: int
    ) -> StepResult:
        # Nothing else happens in the scope: what the chief does alone must not concern the others.
        with self._strategy.scope():
            if self._parts == 1:
                return self._train_step(next(parts), clips_per_replica)
            return self._train_step.of_parts(parts, clips_per_replica)

    def try_out(self, batches_from: BatchesFrom) -> Trial:
        """Makes one part of a step, without a log or checkpoint; returns what it took.

        Args:
          batches_from: as in `train`.
        """
        step = int(self.step.numpy())
        batches = DistributedBatches(self._strategy, batches_from, step, self._parts)
        clips_per_replica = batches.clips_per_replica
        memory = MemoryWatch()
        part = next(batches.parts_of(step, []))
        with self._strategy.scope():
            self._train_step.build_graph(part, clips_per_replica)
        # Memory from the first time on, of which TensorFlow keeps much; the time of the second, in
        # which nothing is prepared any more.
        before = memory.reset()
        self._update(iter([part]), clips_per_replica)
        begin = time.monotonic()
        result = self._update(iter([part]), clips_per_replica)
        scalars = {name: float(s) for name, s in result.scalars.items()}
        return Trial(
            step,
            scalars,
            clips_per_replica * self._strategy.num_replicas_in_sync,
            time.monotonic() - begin,
            before,
            max(memory.peak() - before, 0) // clips_per_replica,
            memory.place,
        )

    def forecast(self, trial: Trial, parts: int, batch_size: int) -> list[str]:
        """Returns what a training like this one will need, line by line.

        Args:
          trial: from `try_out`.
          parts: in which the training will work off a batch.
          batch_size: its clips.
        """
        return report(
            trial,
            {**self._learned, **self._statistics},
            batch_size,
            parts,
            self._strategy.num_replicas_in_sync,
            self._num_steps,
            self._save_every_steps,
            self._max_checkpoints,
        )

    def _save(self, step: int, log: ProgressLog) -> int:
        """Saves a checkpoint unless a loss or weight is not finite; returns the step."""
        log.write(step)
        for variable in self._learned.values():
            if not tf.reduce_all(tf.math.is_finite(variable)):
                raise InputError(
                    f"a weight is not a finite number after step {step}: nothing is saved; "
                    f"{where_to_go_on(self._checkpoints.latest)}"
                )
        if self._workers.is_chief:
            say(f"step {step}: saved {self._checkpoints.save()}")
        return step

    def _write_scores(self, step: int, log: ProgressLog) -> None:
        if not self._workers.is_chief or not _is_due(step, self._evaluate_every_steps):
            return
        with self._average.in_place() if self._average else contextlib.nullcontext():
            scores = self._evaluate(step)
        log.write_scores(scores, step)

    def _resume(self) -> bool:
        """Returns whether there was a checkpoint to go on from."""
        path = self._checkpoints.resume()
        if path:
            say(f"going on from {path}, step {int(self.step.numpy())}")
        return path is not None

    def _initialize(
        self, init_checkpoint: str | None, initialize_last_layer: bool
    ) -> Collection[str]:
        """Returns the names of the variables that `init_checkpoint` has set, in a fresh run."""
        if self._is_resumed:
            return []
        if not init_checkpoint:
            say("starting from random weights")
            return []
        restored = self._checkpoints.initialize(init_checkpoint, initialize_last_layer)
        say(f"starting from {init_checkpoint}, {len(restored)} variables")
        return restored


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0

"""The training loop: log, TensorBoard, checkpoints, resuming and a clean stop."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
import secrets
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated

import tensorflow as tf

from feelvos_tf.core import cli, gin_settings, settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.data.corrupt_records import readable_errors
from feelvos_tf.data.input_pipeline import WHOLE
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers import convolutions_of
from feelvos_tf.training.checkpoints import Checkpoints
from feelvos_tf.training.devices import BatchesFrom, DistributedBatches, Workers
from feelvos_tf.training.dry_run import MemoryWatch, Trial
from feelvos_tf.training.mixed_precision import LossScale
from feelvos_tf.training.optimizers import MomentumOptimizer, Optimizer, is_head
from feelvos_tf.training.progress_log import (
    MetricsFile,
    ProgressLog,
    duration,
    how_to_continue,
    say,
)
from feelvos_tf.training.summaries import Summaries, is_due
from feelvos_tf.training.train_step import StepResult, TrainState, TrainStep, new_step
from feelvos_tf.training.weight_averaging import WeightAverage

Evaluate = Callable[[int], Mapping[str, float]]
MakeOptimizer = Callable[[Mapping[str, tf.Variable]], Optimizer]


@settings.configurable
def set_random_seed(seed: Annotated[int, settings.Between(0, 2**32 - 1)] | None = None) -> int:
    """Seeds the run and returns the seed for `Trainer`; call before the model is built.

    Args:
      seed: for initial weights, dropout and the sampling of reference pixels; None: different on
        every run. Clips have their own seed, `training_dataset.seed`.
    """
    if seed is None:
        return secrets.randbits(31)
    tf.keras.utils.set_random_seed(seed)
    return seed


@settings.configurable
@dataclasses.dataclass(frozen=True)
class Intervals:
    """How often a run logs, saves and evaluates, in steps; 0 for never.

    Attributes:
      log_every_steps: log line, and scalars in TensorBoard and metrics.csv.
      save_every_steps: checkpoint; one is always saved at the end.
      evaluate_every_steps: scores, see `Validation`.
    """

    log_every_steps: settings.Count = 10
    save_every_steps: settings.Count = 1000
    evaluate_every_steps: settings.Count = 0


@settings.configurable
@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """Where the weights of a fresh run come from.

    Attributes:
      checkpoint: a TF1 DeepLab checkpoint, a checkpoint of this project, or packed weights such as
        the bundled model's, feelvos_tf/pretrained/weights.npz; None for random weights.
      last_layers: whether DeepLab's ASPP and decoder are loaded in addition to the backbone.
      calibration_clips: number of clips from which batch-norm statistics are computed for layers
        that `checkpoint` lacks, see `calibrate_batch_norm`; with 0, mean and variance start at 0
        and 1, as in the release.
    """

    checkpoint: str | None = None
    last_layers: bool = False
    calibration_clips: settings.Count = 0


@settings.configurable
class Trainer:
    """Trains a model in `model_dir`, resuming from the last checkpoint there.

    Defaults follow the release where it has the setting. Further settings are in `Objective` and
    its losses, `LearningRate`, `MomentumOptimizer`, `AdamOptimizer`, `InitialWeights`, `Intervals`,
    `Checkpoints` and `Summaries`.
    """

    def __init__(
        self,
        model: Feelvos,
        named_variables: Mapping[str, tf.Variable],
        model_dir: str | os.PathLike[str],
        strategy: tf.distribute.Strategy,
        evaluate: Evaluate | None = None,
        seed: int = 0,
        num_steps: settings.Count = 200_000,
        optimizer: MakeOptimizer = MomentumOptimizer,
        average_decay: settings.Decay = 0.0,
        gradient_accumulation_steps: settings.PositiveInt = 1,
    ):
        """Builds everything around the model, and restores or initializes its weights.

        Args:
          model: with its variables created, in the strategy's scope.
          named_variables: its variables by their names in the 2019 release.
          model_dir: where checkpoints, settings and TensorBoard files go.
          strategy: distributes the clips of a batch over the devices.
          evaluate: step -> scores by name; called every `Intervals.evaluate_every_steps`.
          seed: from `set_random_seed`.
          num_steps: number of updates; the learning rate decays to 0 by then.
          optimizer: `@MomentumOptimizer` as in the paper, or `@AdamOptimizer`.
          average_decay: decay of the moving average of the weights, 0 for none. `evaluate` scores
            the average, and exports, predictions and later runs load it from the checkpoints.
          gradient_accumulation_steps: number of parts in which a batch is processed. Their
            gradients are summed, which gives the whole batch's result in the memory of one part.

        Raises:
          InputError: a checkpoint is missing or does not fit, or there is nothing to evaluate on.
        """
        self._intervals = Intervals()
        self._workers = Workers(strategy)
        if self._intervals.evaluate_every_steps and evaluate is None and self._workers.is_chief:
            raise InputError(
                "Intervals.evaluate_every_steps: expected Validation.dataset_root to be bound"
            )
        if not callable(optimizer):
            raise InputError(
                "Trainer.optimizer: expected an optimizer such as @AdamOptimizer, found "
                f"{optimizer!r}"
            )
        self._strategy = strategy
        self._parts = gradient_accumulation_steps
        self._model_dir = pathlib.Path(model_dir)
        self._model = model
        self._evaluate = evaluate
        self._num_steps = num_steps
        self._variables = dict(named_variables)
        self._learned = {
            name: variable
            for name, variable in named_variables.items()
            if variable.trainable and (is_head(name) or not model.freeze_backbone)
        }
        with strategy.scope():
            self._state = self._new_state(optimizer, average_decay)
            self._train_step = TrainStep(
                model, self._learned, self._state, num_steps, seed=seed, parts=self._parts
            )
            self._checkpoints = Checkpoints(
                model_dir, model, named_variables, self._state, self._workers
            )
        # Outside the scope, because the chief reads before the others do.
        self._is_resumed = self._resume()
        self._initial = InitialWeights()
        self._restored = [] if self._is_resumed else self._initialize()
        average = self._state.average
        # In a fresh run, or after a checkpoint without an average.
        if average is not None and average.num_updates.numpy() == 0:
            with strategy.scope():
                average.restart()

    @property
    def step(self) -> tf.Variable:
        """Number of updates made so far, int64 []."""
        return self._state.step

    def train(self, batches_from: BatchesFrom) -> int:
        """Trains to the last step; returns the signal that stopped it earlier, 0 if none did.

        SIGINT and SIGTERM end training after the current step, with a checkpoint; a second signal
        kills the process.

        Args:
          batches_from: (step, share) -> endless batches as in `TrainStep`, from that step on; each
            holds the clips of one replica of the share.

        Raises:
          InputError: the loss is no longer finite, or batches cannot be divided.
        """
        first_step = int(self.step.numpy())
        if first_step >= self._num_steps and self._is_resumed:
            say(
                f"this run already ended at step {first_step}; "
                f"Trainer.num_steps = {self._num_steps} must be larger to continue"
            )
            return 0
        batches = DistributedBatches(self._strategy, batches_from, first_step, self._parts)
        if self._workers.is_chief:
            writer = tf.summary.create_file_writer(str(self._model_dir / "train"))
        else:
            writer = tf.summary.create_noop_writer()
        with writer.as_default(), _stop_on_signal() as stopped:
            if self._initial.calibration_clips and not self._is_resumed:
                self._calibrate(batches_from(0, WHOLE))
            stopped_by = self._loop(first_step, batches, stopped)
        writer.close()
        return stopped_by

    def try_out(self, batches_from: BatchesFrom) -> Trial:
        """Runs one part of a step without log or checkpoint; returns its cost and results.

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
        # Memory of the first run, because TensorFlow keeps much of it; time of the second, which
        # has nothing left to set up.
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
        """Returns the lines of the dry run's report, extrapolated from a part of a step.

        Args:
          trial: from `try_out`.
          parts: parts in which the run will process a batch.
          batch_size: clips per update.
        """
        weights = {name: v.shape.num_elements() for name, v in self._variables.items()}
        trained = sum(weights[name] for name in self._learned)
        replicas = self._strategy.num_replicas_in_sync
        per_replica = batch_size // (parts * replicas)
        memory = trial.bytes_before + per_replica * trial.bytes_more
        seconds = trial.seconds * batch_size / trial.clips
        left = max(self._num_steps - trial.step, 0)
        every = self._intervals.save_every_steps
        saved = math.ceil(left / every) if every else 1
        # Every weight has up to three slots in the optimizer and the average.
        largest = 4 * 4 * sum(weights.values())
        named = {("J" if n == "training_miou" else n): s for n, s in trial.scalars.items()}
        losses = ", ".join(f"{n} {s:.4f}" for n, s in named.items() if n != "learning_rate")
        return [
            f"parameters: {sum(weights.values()):,} in {len(weights)} variables, "
            f"{trained:,} trained",
            f"a step with {cli.count(trial.clips, 'clips')}: {losses}",
            f"batch: {cli.count(batch_size, 'clips')} = {cli.count(parts, 'parts')} x "
            f"{cli.count(replicas, 'devices')} x {cli.count(per_replica, 'clips')}",
            f"memory: {_gib(trial.bytes_before)} plus {_gib(trial.bytes_more)} per clip on a "
            f"device, so about {_gib(memory)} of {trial.place} (a larger "
            "Trainer.gradient_accumulation_steps needs less)",
            f"steps: {left} of {self._num_steps}, about {seconds:.1f} s each, "
            f"{duration(left * seconds)} in total",
            f"checkpoints: {saved}, of which {min(saved, self._checkpoints.max_to_keep)} are kept, "
            f"each at most {_gib(largest)}",
        ]

    def _new_state(self, optimizer: MakeOptimizer, average_decay: float) -> TrainState:
        return TrainState(
            new_step(),
            optimizer(self._learned),
            WeightAverage(self._learned, average_decay) if average_decay else None,
            LossScale() if self._model.compute_dtype == "float16" else None,
        )

    def _resume(self) -> bool:
        """Restores the last checkpoint; returns whether there was one."""
        path = self._checkpoints.resume()
        if path:
            say(f"resuming from {path}, step {int(self.step.numpy())}")
            for change in gin_settings.changed_since(self._model_dir):
                say(f"changed since the last run in this folder: {change}")
        return path is not None

    def _initialize(self) -> list[str]:
        """Sets the weights of a fresh run; returns the names of those from a checkpoint."""
        restored, source = [], self._initial.checkpoint
        if source:
            restored = list(self._checkpoints.initialize(source, self._initial.last_layers))
            say(f"starting from {source}, {len(restored)} of {len(self._variables)} variables")
        else:
            say("starting from random weights")
        return restored

    def _calibrate(self, dataset: tf.data.Dataset) -> None:
        with readable_errors():
            clips = list(dataset.unbatch().take(self._initial.calibration_clips))
        images = tf.concat([clip["images"] for clip in clips], axis=0)
        with self._strategy.scope():
            count = calibrate_batch_norm(self._model, images, self._restored)
        self._workers.broadcast(v for n, v in self._variables.items() if n not in self._learned)
        say(f"statistics of {count} batch norms computed from {images.shape[0]} images")

    def _loop(self, step: int, batches: DistributedBatches, stopped: Callable[[], int]) -> int:
        log = self._progress_log(step, batches)
        summaries = Summaries(self._model_dir, self._learned, self._workers.is_chief)
        saved = step if self._is_resumed else None
        signal_number = 0
        while step < self._num_steps and not signal_number:
            summaries.before(step + 1)
            names: list[tf.Tensor] = []
            result = self._update(batches.parts_of(step, names), batches.clips_per_replica)
            step += 1
            log.add(step, result.scalars, names)
            if log.is_first or is_due(step, self._intervals.log_every_steps):
                log.write(step)
            summaries.after(step, result.first_clip)
            if is_due(step, self._intervals.save_every_steps):
                saved = self._save(step, log)
            self._write_scores(step, log)
            signal_number = self._workers.any(stopped())
        summaries.end()
        if saved != step:
            self._save(step, log)
        return signal_number if step < self._num_steps else 0

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
        # Only the update runs in the scope: what the chief does alone must not involve the others.
        with self._strategy.scope():
            if self._parts == 1:
                return self._train_step(next(parts), clips_per_replica)
            return self._train_step.of_parts(parts, clips_per_replica)

    def _save(self, step: int, log: ProgressLog) -> int:
        """Saves a checkpoint unless a loss or weight is not finite; returns the step."""
        log.write(step)
        for variable in self._learned.values():
            if not tf.reduce_all(tf.math.is_finite(variable)):
                raise InputError(
                    f"a weight is not a finite number after step {step}: nothing is saved; "
                    f"{how_to_continue(self._checkpoints.latest)}"
                )
        if self._workers.is_chief:
            say(f"step {step}: saved {self._checkpoints.save()}")
        return step

    def _write_scores(self, step: int, log: ProgressLog) -> None:
        if not self._workers.is_chief or not is_due(step, self._intervals.evaluate_every_steps):
            return
        average = self._state.average
        log.write(step)  # The evaluation's time is not that of the steps before it.
        try:
            with average.in_place() if average else contextlib.nullcontext():
                scores = self._evaluate(step)
        except InputError as error:  # A full disk, for example, must not end the training.
            say(f"step {step}: not scored, {error}")
            return
        log.write_scores(scores, step)


def calibrate_batch_norm(model: Feelvos, images: tf.Tensor, restored: Collection[str] = ()) -> int:
    """Sets the statistics of layers with random weights to those of `images`; returns how many.

    The release freezes batch-norm statistics even in layers that start from random weights, where
    mean and variance are 0 and 1. Those layers then attenuate their input, the embeddings of all
    pixels are nearly equal, and almost nothing is learned in the first few thousand steps.
    Statistics of real images keep the signal at unit scale from the first step on.

    Args:
      model: with its variables created and, if there is a checkpoint, restored.
      images: float32 `[n, height, width, 3]`, RGB 0..255; a few dozen.
      restored: release names of the variables restored from a checkpoint, whose layers are left
        unchanged.
    """
    layers = [layer for layer in convolutions_of(model) if layer.norm is not None]
    decays = [layer.norm.decay for layer in layers]
    for layer in layers:
        layer.norm.is_frozen = f"{layer.scope}/BatchNorm/moving_mean" in restored
        layer.norm.decay = 0.0  # A batch's statistics replace the running ones.
    count = sum(not layer.norm.is_frozen for layer in layers)
    model.backbone_to_decoder(images, training=False, batch_statistics=True)
    for layer, decay in zip(layers, decays):
        layer.norm.is_frozen, layer.norm.decay = False, decay
    return count


def _gib(number: float) -> str:
    return f"{number / 2**30:.2f} GiB"


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the SIGINT or SIGTERM received, or 0; a second one kills."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number, _):
        received.append(number)
        say("stopping after this step; a second signal stops at once")
        restore()

    for number in before:
        signal.signal(number, receive)
    try:
        yield lambda: received[0] if received else 0
    finally:
        restore()

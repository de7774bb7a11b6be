"""Logs the progress of a training, on stderr and in TensorBoard: losses, speed, time to go."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.training import tensorboard
from feelvos_tf.training.metrics_file import MetricsFile


def say(text: str) -> None:
    """Prints a line to stderr at once."""
    print(text, file=sys.stderr, flush=True)


class _Pending(NamedTuple):
    """One step that is not logged yet."""

    scalars: Mapping[str, tf.Tensor]
    video_names: Sequence[tf.Tensor]


class ProgressLog:
    """Means of the scalars since the last line, and how long the rest will take.

    Attributes:
      is_first: whether no line was written yet.
    """

    def __init__(
        self,
        step: int,
        num_steps: int,
        clips_per_step: int,
        metrics: MetricsFile | None = None,
        last_checkpoint: Callable[[], str | None] = lambda: None,
    ):
        """Begins at a step of a run.

        Args:
          step: number of updates made so far.
          num_steps: of the whole run.
          clips_per_step: on all devices together.
          metrics: the table that the numbers go into as well.
          last_checkpoint: returns the path of the last one, None before the first.
        """
        self._num_steps = num_steps
        self._clips_per_step = clips_per_step
        self._metrics = metrics
        self._last_checkpoint = last_checkpoint
        self._pending: list[_Pending] = []
        self._started = self._last_time = time.monotonic()
        self._first_step = step
        self.is_first = True
        say(f"step {step} of {num_steps}: building the training graph, this takes a while")

    def add(self, scalars: Mapping[str, tf.Tensor], video_names: Sequence[tf.Tensor] = ()) -> None:
        """Keeps one step's scalars without waiting for the device to have computed them.

        Args:
          scalars: by name, float32 [] each.
          video_names: of the clips that they are from, uint8 [clips, bytes] for every replica.
        """
        self._pending.append(_Pending(scalars, video_names))

    def write(self, step: int) -> None:
        """Writes a line, and the means to TensorBoard and the table, if there is anything new.

        Args:
          step: number of the last step added.

        Raises:
          InputError: a loss since the last line is not finite.
        """
        if not self._pending:
            return
        names = self._pending[0].scalars
        values = {n: np.array([float(p.scalars[n]) for p in self._pending]) for n in names}
        self._refuse_not_finite(values["loss"], step)
        means = {name: float(v.mean()) for name, v in values.items()}
        now = time.monotonic()
        steps_per_second = len(self._pending) / max(now - self._last_time, 1e-9)
        speed = {
            "steps_per_second": steps_per_second,
            "clips_per_second": steps_per_second * self._clips_per_step,
        }
        self._write_numbers({**means, **speed}, step)
        say(self._line(step, means, steps_per_second))
        if self.is_first:
            # The first step built the graph: its time tells nothing about the others.
            self._started, self._first_step, self.is_first = now, step, False
        self._last_time = now
        self._pending = []

    def write_scores(self, scores: Mapping[str, float], step: int) -> None:
        """Writes what an evaluation found, each score in 0..1, by name."""
        self._write_numbers({f"eval/{name}": score for name, score in scores.items()}, step)
        say(f"step {step}: " + ", ".join(f"{name} {s:.4f}" for name, s in scores.items()))

    def _write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        tensorboard.write_scalars(numbers, step)
        if self._metrics is not None:
            self._metrics.write(numbers, step)

    def _refuse_not_finite(self, losses: np.ndarray, last_step: int) -> None:
        """Raises InputError naming the first step whose loss is not a finite number."""
        for index in np.flatnonzero(~np.isfinite(losses))[:1]:
            videos = ", ".join(_texts(self._pending[index].video_names))
            raise InputError(
                f"the loss became {losses[index]} at step {last_step - len(losses) + 1 + index}, "
                f"with clips of {videos or 'unknown videos'}: expected a number; "
                f"{where_to_go_on(self._last_checkpoint())}"
            )

    def _line(self, step: int, means: Mapping[str, float], steps_per_second: float) -> str:
        rest = ("loss", "training_miou", "learning_rate")
        parts = [f"loss {means['loss']:.4f}"]
        parts += [f"{name} {mean:.4f}" for name, mean in means.items() if name not in rest]
        parts.append(f"J {means['training_miou']:.3f}")
        parts.append(f"learning rate {means['learning_rate']:.2e}")
        line = f"step {step}/{self._num_steps}  " + "  ".join(parts)
        if self.is_first:
            return line
        seconds_per_step = (time.monotonic() - self._started) / max(step - self._first_step, 1)
        left = duration(seconds_per_step * (self._num_steps - step))
        clips_per_second = steps_per_second * self._clips_per_step
        return (
            f"{line}  {steps_per_second:.2f} steps/s  {clips_per_second:.2f} clips/s  {left} left"
        )


def duration(seconds: float) -> str:
    """Returns `1 h 05 min`, or `42 s` below a minute."""
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes else f"{int(seconds)} s"


def where_to_go_on(checkpoint: str | None) -> str:
    """Returns what to do after numbers that are not finite; `checkpoint`: the last one, if any."""
    if checkpoint is None:
        return "no checkpoint is from before, start again with a smaller LearningRate.base"
    return f"{checkpoint} is from before, go on from there with a smaller LearningRate.base"


def _texts(names: Sequence[tf.Tensor]) -> list[str]:
    """Returns the names that uint8 [clips, bytes] tensors spell."""
    rows = [row for replica in names for row in np.asarray(replica)]
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]

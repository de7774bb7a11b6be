"""Logs the progress of a training, on stderr and in TensorBoard: losses, speed, time to go."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.training import tensorboard


def say(text: str) -> None:
    """Prints a line to stderr at once."""
    print(text, file=sys.stderr, flush=True)


class ProgressLog:
    """Means of the scalars since the last line, and how long the rest will take.

    Attributes:
      is_first: whether no line was written yet.
    """

    def __init__(self, step: int, num_steps: int):
        """Begins at a step of a run of `num_steps`."""
        self._num_steps = num_steps
        self._pending: list[Mapping[str, tf.Tensor]] = []
        self._started = self._last_time = time.monotonic()
        self._first_step = step
        self.is_first = True
        say(f"step {step} of {num_steps}: building the training graph, this takes a while")

    def add(self, scalars: Mapping[str, tf.Tensor]) -> None:
        """Keeps one step's scalars without waiting for the device to have computed them."""
        self._pending.append(scalars)

    def write(self, step: int) -> None:
        """Writes a line to stderr and the means to TensorBoard, if there is anything new.

        Args:
          step: number of the last step added.

        Raises:
          InputError: a loss since the last line is not finite.
        """
        if not self._pending:
            return
        values = {n: np.array([float(p[n]) for p in self._pending]) for n in self._pending[0]}
        _refuse_not_finite(values["loss"], step)
        means = {name: float(v.mean()) for name, v in values.items()}
        now = time.monotonic()
        steps_per_second = len(self._pending) / max(now - self._last_time, 1e-9)
        tensorboard.write_scalars({**means, "steps_per_second": steps_per_second}, step)
        say(self._line(step, means, steps_per_second))
        if self.is_first:
            # The first step built the graph: its time tells nothing about the others.
            self._started, self._first_step, self.is_first = now, step, False
        self._last_time = now
        self._pending = []

    def _line(self, step: int, means: Mapping[str, float], steps_per_second: float) -> str:
        rest = ("loss", "training_miou", "learning_rate")
        parts = [f"loss {means['loss']:.4f}"]
        parts += [f"{name} {mean:.4f}" for name, mean in means.items() if name not in rest]
        parts.append(f"mIoU {means['training_miou']:.3f}")
        parts.append(f"learning rate {means['learning_rate']:.2e}")
        line = f"step {step}/{self._num_steps}  " + "  ".join(parts)
        if self.is_first:
            return line
        seconds_per_step = (time.monotonic() - self._started) / max(step - self._first_step, 1)
        left = duration(seconds_per_step * (self._num_steps - step))
        return f"{line}  {steps_per_second:.2f} steps/s  {left} left"


def duration(seconds: float) -> str:
    """Returns `1 h 05 min`, or `42 s` below a minute."""
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes else f"{int(seconds)} s"


def _refuse_not_finite(losses: np.ndarray, last_step: int) -> None:
    """Raises InputError naming the first step whose loss is not a finite number."""
    for step, loss in enumerate(losses, start=last_step - len(losses) + 1):
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} at step {step}: expected a number; the last checkpoint "
                "is from before, try a smaller LearningRate.base from there"
            )

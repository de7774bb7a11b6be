"""Reports training progress on stderr, in TensorBoard and in the table metrics.csv."""

from __future__ import annotations

import csv
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.training.summaries import write_scalars

# Scalars are read after at most this many steps, even if no line is due, so that they do not pile
# up and a loss that is not finite is noticed.
_MOST_PENDING = 100


def say(text: str) -> None:
    """Prints a line to stderr at once."""
    print(text, file=sys.stderr, flush=True)


class ProgressLog:
    """Logs the means of the scalars since the last line, and the time left.

    Attributes:
      is_first: whether no line has been written yet.
    """

    def __init__(
        self,
        step: int,
        num_steps: int,
        clips_per_step: int,
        metrics: MetricsFile | None = None,
        last_checkpoint: Callable[[], str | None] = lambda: None,
    ):
        """Starts at a step of a run.

        Args:
          step: number of updates made so far.
          num_steps: of the whole run.
          clips_per_step: on all devices together.
          metrics: table that the numbers are also written to.
          last_checkpoint: returns the path of the last checkpoint, None before the first.
        """
        self._num_steps = num_steps
        self._clips_per_step = clips_per_step
        self._metrics = metrics
        self._last_checkpoint = last_checkpoint
        # Arguments of `add` whose scalars have not been read yet.
        self._pending: list[tuple[int, Mapping[str, tf.Tensor], Sequence[tf.Tensor]]] = []
        self._sums: dict[str, float] = {}
        self._num_summed = 0
        self._started = self._last_time = time.monotonic()
        self._first_step = step
        self.is_first = True
        say(f"step {step} of {num_steps}: building the training graph; this takes a while")

    def add(
        self, step: int, scalars: Mapping[str, tf.Tensor], video_names: Sequence[tf.Tensor] = ()
    ) -> None:
        """Stores one step's scalars, usually without waiting for the device to compute them.

        Args:
          step: number of the step, starting at 1.
          scalars: by name, float32 [] each.
          video_names: videos of the step's clips, uint8 [clips, bytes] for every replica and part.

        Raises:
          InputError: a loss since the last reading is not finite.
        """
        self._pending.append((step, scalars, video_names))
        if len(self._pending) >= _MOST_PENDING:
            self._read_pending()

    def write(self, step: int) -> None:
        """Writes a line, and the means to TensorBoard and the table, if there is anything new.

        Args:
          step: number of the last step added.

        Raises:
          InputError: a loss since the last reading is not finite.
        """
        self._read_pending()
        if not self._num_summed:
            return
        means = {name: total / self._num_summed for name, total in self._sums.items()}
        now = time.monotonic()
        steps_per_second = self._num_summed / max(now - self._last_time, 1e-9)
        speed = {
            "steps_per_second": steps_per_second,
            "clips_per_second": steps_per_second * self._clips_per_step,
        }
        self._write_numbers({**means, **speed}, step)
        say(self._line(step, means, steps_per_second))
        if self.is_first:
            # The first step built the graph, so its time is not representative.
            self._started, self._first_step, self.is_first = now, step, False
        self._last_time = now
        self._sums, self._num_summed = {}, 0

    def write_scores(self, scores: Mapping[str, float], step: int) -> None:
        """Writes the scores of an evaluation that has just ended, each in 0..1, by name."""
        self._last_time = time.monotonic()
        self._write_numbers({f"eval/{name}": score for name, score in scores.items()}, step)
        say(f"step {step}: " + ", ".join(f"{name} {s:.4f}" for name, s in scores.items()))

    def _read_pending(self) -> None:
        """Reads the pending scalars and adds them to the sums."""
        for step, scalars, video_names in self._pending:
            loss = float(scalars["loss"])
            if not np.isfinite(loss):
                videos = ", ".join(_texts(video_names)) or "unknown videos"
                raise InputError(
                    f"the loss became {loss} at step {step}, with clips of {videos}: expected "
                    f"a number; {how_to_continue(self._last_checkpoint())}"
                )
            for name, value in scalars.items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._num_summed += len(self._pending)
        self._pending = []

    def _write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        write_scalars(numbers, step)
        if self._metrics is not None:
            self._metrics.write(numbers, step)

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


def how_to_continue(checkpoint: str | None) -> str:
    """Returns what to do about a number that is not finite; `checkpoint`: the last one, if any."""
    if checkpoint is None:
        return "there is no earlier checkpoint: start again with a smaller LearningRate.base"
    return f"resume from {checkpoint} with a smaller LearningRate.base"


def _texts(names: Sequence[tf.Tensor]) -> list[str]:
    """Returns the names encoded in uint8 [clips, bytes] tensors."""
    rows = [row for replica in names for row in np.asarray(replica)]
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]


class MetricsFile:
    """The table `metrics.csv`: one row per logged step; missing numbers stay empty.

    A resumed run continues its file without the rows after the checkpoint's step, because those
    steps are repeated.
    """

    _NAME = "metrics.csv"
    _STEP = "step"

    def __init__(self, model_dir: str | os.PathLike[str], step: int):
        """Opens the file in a run's folder and keeps its rows up to and including `step`."""
        self._path = pathlib.Path(model_dir) / self._NAME
        self._columns = [self._STEP]
        self._rows: list[Mapping[str, str]] = []
        if self._path.is_file():
            with self._path.open(newline="") as file:
                reader = csv.DictReader(file)
                numbered = [row for row in reader if (row.get(self._STEP) or "").isdigit()]
                self._rows = [row for row in numbered if int(row[self._STEP]) <= step]
                self._columns = list(reader.fieldnames or self._columns)
        self._rewrite()

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Adds the numbers of a step, to the last row if that is the step's own."""
        row = {name: f"{value:.6g}" for name, value in numbers.items()}
        row[self._STEP] = str(step)
        new = [name for name in row if name not in self._columns]
        is_same = bool(self._rows) and self._rows[-1][self._STEP] == str(step)
        if is_same:
            row = {**self._rows.pop(), **row}
        self._rows.append(row)
        if new or is_same:
            self._columns += new
            self._rewrite()
            return
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self) -> None:
        with (
            atomic_files.replacing(self._path) as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)

"""Tries settings, data, checkpoint and one step of a run, and estimates what the run will need.

Nothing is written to the run's folder. The step has one clip per device, and the needs of a whole
batch are extrapolated from it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core import cli, process_memory
from feelvos_tf.training.progress_log import duration, shown_as


class Trial(NamedTuple):
    """Cost and results of one part of a step.

    Attributes:
      step: number of updates made before.
      scalars: losses and J, by name.
      clips: number of clips on all devices together.
      seconds: duration once the graph was built.
      bytes_before: memory of weights, optimizer and program.
      bytes_more: additional memory per clip on a device.
      place: where that memory is, such as "GPU:0".
    """

    step: int
    scalars: Mapping[str, float]
    clips: int
    seconds: float
    bytes_before: int
    bytes_more: int
    place: str


@contextlib.contextmanager
def copy_of_run(model_dir: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a writable folder with links to the checkpoints of a run; messages name the run's.

    Raises:
      InputError: the block raised one.
    """
    folder = pathlib.Path(model_dir)
    with tempfile.TemporaryDirectory(prefix="dry-run-") as name:
        copy = pathlib.Path(name)
        for path in folder.iterdir() if folder.is_dir() else ():
            if re.fullmatch(r"ckpt-\d+\.(index|data-.*)", path.name):
                (copy / path.name).symlink_to(path.resolve())
        if (folder / "checkpoint").is_file():
            shutil.copy(folder / "checkpoint", copy)
        with shown_as(copy, folder):
            yield copy


class MemoryWatch:
    """Measures the peak memory of the first GPU or, without one, of this process."""

    def __init__(self):
        """Chooses the memory to watch."""
        self.place = "GPU:0" if tf.config.list_physical_devices("GPU") else "this machine"

    def reset(self) -> int:
        """Starts a measurement; returns the bytes in use."""
        if self.place == "GPU:0":
            tf.config.experimental.reset_memory_stats(self.place)
            return tf.config.experimental.get_memory_info(self.place)["current"]
        # Freed memory that the C library keeps would not count when it is used again.
        with contextlib.suppress(AttributeError, OSError):  # Not every C library has this.
            ctypes.CDLL(None).malloc_trim(0)
        process_memory.reset_peak()
        return process_memory.resident()

    def peak(self) -> int:
        """Returns the largest number of bytes in use since `reset`."""
        if self.place == "GPU:0":
            return tf.config.experimental.get_memory_info(self.place)["peak"]
        return process_memory.peak()


def report(
    trial: Trial,
    variables: Mapping[str, tf.Variable],
    learned: Mapping[str, tf.Variable],
    batch_size: int,
    parts: int,
    replicas: int,
    num_steps: int,
    save_every_steps: int,
    max_checkpoints: int,
) -> list[str]:
    """Returns the lines of the dry run's report.

    Args:
      trial: of one part.
      variables: of the model, by name.
      learned: the trained ones among them.
      batch_size: clips per update.
      parts: parts in which the run will process a batch.
      replicas: number of devices.
      num_steps: updates in the whole run.
      save_every_steps: how often a checkpoint is written.
      max_checkpoints: how many checkpoints are kept.
    """
    weights = {name: v.shape.num_elements() for name, v in variables.items()}
    trained = sum(weights[name] for name in learned)
    per_replica = batch_size // (parts * replicas)
    memory = trial.bytes_before + per_replica * trial.bytes_more
    seconds = trial.seconds * batch_size / trial.clips
    left = max(num_steps - trial.step, 0)
    checkpoints = -(-left // save_every_steps) if save_every_steps else 1
    # Every weight has up to three slots in the optimizer and the average.
    largest = 4 * 4 * sum(weights.values())
    names = {n: "J" if n == "training_miou" else n for n in trial.scalars if n != "learning_rate"}
    losses = ", ".join(f"{name} {trial.scalars[n]:.4f}" for n, name in names.items())
    return [
        f"parameters: {sum(weights.values()):,} in {len(weights)} variables, {trained:,} trained",
        f"a step with {cli.count(trial.clips, 'clips')}: {losses}",
        f"batch: {cli.count(batch_size, 'clips')} = {cli.count(parts, 'parts')} x "
        f"{cli.count(replicas, 'devices')} x {cli.count(per_replica, 'clips')}",
        f"memory: {_gib(trial.bytes_before)} plus {_gib(trial.bytes_more)} per clip on a device, "
        f"so about {_gib(memory)} of {trial.place} (a larger "
        "Trainer.gradient_accumulation_steps needs less)",
        f"steps: {left} of {num_steps}, about {seconds:.1f} s each, {duration(left * seconds)} in "
        "total",
        f"checkpoints: {checkpoints}, of which {min(checkpoints, max_checkpoints)} are kept, each "
        f"at most {_gib(largest)}",
    ]


def _gib(number: float) -> str:
    return f"{number / 2**30:.2f} GiB"

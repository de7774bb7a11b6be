"""What `Trainer.try_out` measures in a part of a step, from which it estimates a run's needs."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core import process_memory


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

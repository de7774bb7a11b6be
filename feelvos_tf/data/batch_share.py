"""Which clips of a batch one process makes, and in which portions."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from feelvos_tf.core.errors import InputError

_ENOUGH = 2**40
"""Clips, more than anybody trains on; their numbers must not overflow."""


class BatchShare(NamedTuple):
    """How a batch is divided: into parts that follow each other, each among replicas of workers.

    Attributes:
      parts: the gradients of so many portions of a batch are added up before an update.
      replicas: devices that work on a part at the same time, those of all workers.
      workers: processes, each with as many replicas.
      worker: number of this one.
    """

    parts: int = 1
    replicas: int = 1
    workers: int = 1
    worker: int = 0

    def clips_per_replica(self, batch_size: int) -> int:
        """Returns how many clips of a part are one replica's.

        Raises:
          InputError: the batch cannot be divided evenly.
        """
        portions = self.parts * self.replicas
        if batch_size % portions:
            raise InputError(
                f"training_dataset.batch_size: expected a multiple of {portions} (replicas "
                f"{self.replicas}, Trainer.gradient_accumulation_steps {self.parts}), found {batch_size}"
            )
        return batch_size // portions

    def numbers(self, batch_size: int, first_batch: int) -> tf.data.Dataset:
        """Returns the numbers of this worker's clips, int64 [], without end.

        Every `clips_per_replica` of them are one replica's: its part of a part. All clips have a
        number, from 0 on, and those of a batch follow each other.
        """
        whole_part = self.clips_per_replica(batch_size) * self.replicas
        own = whole_part // self.workers
        first = first_batch * batch_size + self.worker * own
        return tf.data.Dataset.range(_ENOUGH).map(lambda n: first + n // own * whole_part + n % own)


WHOLE = BatchShare()
"""All clips of all batches, batch by batch."""

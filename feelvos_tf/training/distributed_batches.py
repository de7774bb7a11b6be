"""The batches of a training, divided among the replicas of this worker and into parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.data.batch_share import BatchShare
from feelvos_tf.training.train_step import BATCH_KEYS

BatchesFrom = Callable[[int, BatchShare], tf.data.Dataset]
# In batches, beside `BATCH_KEYS`: the videos' names, cut off behind so many bytes.
_NAME, _NAME_BYTES = "video_name", 64


class DistributedBatches:
    """What this worker's replicas train on, from a step on; no other worker's clips are made.

    Attributes:
      clips_per_replica: of one part of a batch.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, batches_from: BatchesFrom, step: int, parts: int
    ):
        """Makes the dataset.

        Args:
          strategy: of the training.
          batches_from: step, share -> the endless batches from a step on, or what the share tells.
          step: number of updates made so far.
          parts: of a batch.

        Raises:
          InputError: batches cannot be divided.
        """
        clips: list[int | None] = []

        def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = BatchShare(
                parts,
                context.num_replicas_in_sync,
                context.num_input_pipelines,
                context.input_pipeline_id,
            )
            dataset = batches_from(step, share)
            clips.append(dataset.element_spec["images"].shape[0])
            return _with_numeric_names(dataset)

        dataset = strategy.distribute_datasets_from_function(own)
        if clips[0] is None:
            raise InputError("training batches: expected a fixed number of clips, found none")
        self.clips_per_replica = clips[0]
        self._strategy = strategy
        self._parts = parts
        self._batches = iter(dataset)

    def parts_of(self, step: int, names: list[tf.Tensor]) -> Iterator[Mapping[str, tf.Tensor]]:
        """Yields the parts of the next batch, and appends the names of their videos to `names`.

        Args:
          step: of the batch, for the sentence.
          names: receives uint8 [clips, bytes] of every replica and part.

        Raises:
          InputError: there is no next batch.
        """
        for _ in range(self._parts):
            batch = next(self._batches, None)
            if batch is None:
                raise InputError(f"the training data ended at step {step}: expected it to repeat")
            names.extend(self._strategy.experimental_local_results(batch.pop(_NAME)))
            yield batch


def _with_numeric_names(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset with the videos' names as uint8 [clips, bytes]: no GPU takes strings."""

    def convert(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        names = tf.io.decode_raw(batch["video_id"], tf.uint8, fixed_length=_NAME_BYTES)
        return {_NAME: names, **{key: batch[key] for key in BATCH_KEYS}}

    return dataset.map(convert)

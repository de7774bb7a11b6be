"""The training input pipeline: batches of augmented clips from TFRecord files.

Clip number n depends only on the seed and n, not on the clips made before, so a resumed run
continues with exactly the clips that it would have seen.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

import gin
import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import tfrecords
from feelvos_tf.data.clip_source import ClipSource
from feelvos_tf.data.corrupt_records import CorruptRecordLog
from feelvos_tf.data.paper_clips import ClipSettings
from feelvos_tf.data.scene_composing import MovingScenes

_ENOUGH = 2**40
"""Number of clips: more than any training run needs, and far from overflowing int64."""


class BatchShare(NamedTuple):
    """Which clips of a batch one process makes, and in which portions.

    Attributes:
      parts: successive portions of a batch whose gradients are accumulated before an update.
      replicas: devices of all workers, which process a part together.
      workers: processes, each with the same number of replicas.
      worker: index of this process.
    """

    parts: int = 1
    replicas: int = 1
    workers: int = 1
    worker: int = 0

    def clips_per_replica(self, batch_size: int) -> int:
        """Returns the number of clips of a part for each replica.

        Raises:
          InputError: the batch cannot be divided evenly.
        """
        portions = self.parts * self.replicas
        if batch_size % portions:
            raise InputError(
                f"training_dataset.batch_size: expected a multiple of {portions} (replicas "
                f"{self.replicas}, Trainer.gradient_accumulation_steps {self.parts}), found "
                f"{batch_size}"
            )
        return batch_size // portions

    def numbers(self, batch_size: int, first_batch: int) -> tf.data.Dataset:
        """Returns an endless dataset of this worker's clip numbers, int64 [].

        Each successive `clips_per_replica` of them go to one replica. Clips are numbered from 0,
        batch after batch.
        """
        whole_part = self.clips_per_replica(batch_size) * self.replicas
        own = whole_part // self.workers
        first = first_batch * batch_size + self.worker * own
        return tf.data.Dataset.range(_ENOUGH).map(lambda n: first + n // own * whole_part + n % own)


WHOLE = BatchShare()
"""All clips of all batches, batch by batch."""


@settings.configurable
def training_dataset(
    batch_size: settings.PositiveInt,
    records: str | Sequence[str] = gin.REQUIRED,
    clips: ClipSettings | None = None,
    scenes: Sequence[MovingScenes | None] | None = None,
    probabilities: Sequence[settings.Probability] | None = None,
    max_corrupt_records: settings.Count = 0,
    seed: int | None = None,
    deterministic: bool | None = None,
    first_batch: settings.Count = 0,
    share: BatchShare = WHOLE,
    otherwise_seed: int | None = None,
) -> tf.data.Dataset:
    """Returns an endless dataset of batches of clips, or of this process's share of them.

    Every batch is a dict; its 3 + `ClipSettings.rollout_steps` frames are the reference, previous
    and current frame, then those that follow:
      images: float32 [batch, frames, crop height, crop width, 3], RGB 0..255, padding 127.5.
      labels: int32 [batch, frames, crop height, crop width], object indices 0..num_objects-1 (0
        is background) and 255 for void and padding.
      num_objects: int32 [batch], background included.
      video_id: string [batch].

    Source: paper section 3, "Training procedure", and section 4.

    Args:
      batch_size: clips per batch.
      records: pattern of record files, such as `/data/davis/train-*.tfrecord`, or a data set
        prepared with TensorFlow Datasets, such as `tfds:davis/480p`; or a list of them, one per
        data set.
      clips: how clips are made; None: `ClipSettings` as set by gin.
      scenes: one `MovingScenes` per data set (synthetic motion, pasted objects, changes of light),
        or None for those whose clips are made as in the paper.
      probabilities: how often each of several data sets is drawn from; None: equally often.
      max_corrupt_records: number of unreadable records that are reported and skipped; one more
        stops training. A file that ends inside a record counts as one.
      seed: the same seed gives the same batches; None: different ones on every run.
      deterministic: True waits for slow clips; False lets later ones overtake them, which is
        faster if their times differ a lot. None: True with a `seed`, False without.
      first_batch: index of the first batch, for a resumed run.
      share: the part of each batch to return, for several devices.
      otherwise_seed: used if `seed` is None; must be the same on all workers.

    Raises:
      InputError: a record file is missing or corrupt, or a setting is out of range.
    """
    clips = ClipSettings() if clips is None else clips
    if not isinstance(clips, ClipSettings):
        raise InputError(
            f"training_dataset.clips: expected @ClipSettings(), with parentheses, found {clips!r}"
        )
    patterns = tfrecords.as_list(records)
    if not patterns:
        raise InputError("training_dataset.records: expected one or more patterns, found none")
    weights = _checked_probabilities(probabilities, len(patterns))
    scenes = _checked_scenes(scenes, len(patterns))
    base = next(s for s in (seed, otherwise_seed, secrets.randbits(31)) if s is not None)
    log = CorruptRecordLog(max_corrupt_records)
    data_sets = [tfrecords.find_videos(pattern, log.note_end) for pattern in patterns]
    source = ClipSource(data_sets, weights, clips, scenes, base, log)
    return (
        share.numbers(batch_size, first_batch)
        .map(
            lambda number: source.clip(number)._asdict(),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=seed is not None if deterministic is None else deterministic,
        )
        .batch(share.clips_per_replica(batch_size), drop_remainder=True)
        .prefetch(2)
    )


def _checked_probabilities(probabilities: Sequence[float] | None, num_sets: int) -> list[float]:
    """Returns one probability per data set, summing to 1."""
    if probabilities is None:
        return [1.0 / num_sets] * num_sets
    if len(probabilities) != num_sets or abs(sum(probabilities) - 1.0) > 1e-3:
        raise InputError(
            f"training_dataset.probabilities: expected {num_sets} numbers (one per data set) that "
            f"sum to 1, found {probabilities}"
        )
    return list(probabilities)


def _checked_scenes(
    scenes: Sequence[MovingScenes | None] | None, num_sets: int
) -> list[MovingScenes | None]:
    """Returns one entry per data set."""
    scenes = [None] * num_sets if scenes is None else list(scenes)
    if len(scenes) != num_sets:
        raise InputError(
            f"training_dataset.scenes: expected {num_sets} entries (one per data set), found "
            f"{len(scenes)}"
        )
    for each in scenes:
        if each is not None and not isinstance(each, MovingScenes):
            raise InputError(
                "training_dataset.scenes: expected @MovingScenes(), with parentheses, or None for "
                f"each data set, found {each!r}"
            )
    return scenes

"""The training input pipeline: batches of augmented clips from TFRecord files.

Clip number n follows from the seed and n alone, whichever clips were made before. So a run that is
resumed goes on with the very clips that it would have seen.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked
from feelvos_tf.data import pipeline_settings, tfrecord_files
from feelvos_tf.data.batch_share import WHOLE, BatchShare
from feelvos_tf.data.clip_source import ClipSource
from feelvos_tf.data.corrupt_records import CorruptRecordLog
from feelvos_tf.data.training_clip import ClipSettings


@gin.configurable
@checked(
    "training_dataset",
    decoder_output_stride=(1, None),
    min_label_count=(0, None),
    seed=(-(2**63), 2**63 - 1),
)
def training_dataset(
    batch_size: int,
    records: str | Sequence[str] = gin.REQUIRED,
    probabilities: Sequence[float] | None = None,
    crop_size: tuple[int, int] = (465, 465),
    min_scale: float = 1.0,
    max_scale: float = 1.3,
    flip_probability: float = 0.5,
    decoder_output_stride: int = 4,
    min_label_count: int = 10,
    first_frame_only: bool = False,
    max_frame_gap: int = 1,
    damage_previous_mask: bool = False,
    scenes: Sequence | None = None,
    rollout_steps: int = 0,
    shuffle_buffer: int | None = None,
    max_corrupt_records: int = 0,
    seed: int | None = None,
    deterministic: bool | None = None,
    first_batch: int = 0,
    share: BatchShare = WHOLE,
    otherwise_seed: int | None = None,
) -> tf.data.Dataset:
    """Returns an endless dataset of batches of clips, or of what is this process's share of them.

    Every batch is a dict; frames are in the order reference, previous, current, then those that
    follow, 3 + `rollout_steps` in all:
      images: float32 [batch, frames, crop height, crop width, 3], RGB 0..255, padding 127.5.
      labels: int32 [batch, frames, crop height, crop width], object indices 0..num_objects-1 (0
        is background) and 255 for void and padding.
      num_objects: int32 [batch], background included.
      video_id: string [batch].

    Source: paper section 3, "Training procedure", and section 4; defaults are those of the 2019
    release.

    Args:
      batch_size: clips per batch.
      records: pattern of record files, such as `/data/davis/train-*.tfrecord`, or a data set that
        TensorFlow Datasets has prepared, such as `tfds:davis/480p`; or a list of them, one per data
        set.
      probabilities: with several data sets, how often each is drawn from; equally when None.
      crop_size: (height, width).
      min_scale: smallest factor on the size of the frames.
      max_scale: largest.
      flip_probability: of mirroring left to right.
      decoder_output_stride: at which objects must exist in the reference.
      min_label_count: pixels every object and the background need there; else the clip is dropped.
      first_frame_only: all three frames are made from frame 0, each with its own augmentation: for
        fine-tuning on the given mask of a video.
      max_frame_gap: the current frame comes 1 to this many frames after the previous one. More than
        the paper's 1 makes the previous mask less trustworthy, as the model's own masks are.
      damage_previous_mask: the previous frame's labels are made as wrong as a prediction might be
        (see `mask_damage.py`).
      scenes: one `MovingScenes` per data set: synthetic motion, pasted objects, changes of light.
        None for those whose clips are made as in the paper. With it `min_scale`, `max_scale`,
        `flip_probability`, `first_frame_only` and `max_frame_gap` of this function have no say.
      rollout_steps: frames that follow the current one; needs `scenes` for all data sets.
      shuffle_buffer: without effect since the order of all videos is drawn anew in every round;
        settings written before may name it.
      max_corrupt_records: so many records that cannot be read are named and left out; one more
        ends the training. A file that ends inside a record counts as one.
      seed: the same seed gives the same batches; None gives new ones every time.
      deterministic: whether a clip that takes long is waited for, or the next ones overtake it,
        which is faster where their times differ much; as there is a `seed` or not when None.
      first_batch: number of the batch to begin with, for a run that is resumed.
      share: what to return of each batch, for several devices.
      otherwise_seed: stands in for `seed` where that is None; several workers need the same one.

    Raises:
      InputError: no record file, a broken one, or a setting out of range.
    """
    if batch_size < 1 or first_batch < 0 or max_corrupt_records < 0:
        raise InputError(
            "training_dataset: expected batch_size of 1 or more, max_corrupt_records and "
            f"first_batch of 0 or more, found {batch_size}, {max_corrupt_records} and {first_batch}"
        )
    settings = ClipSettings(
        crop_size=tuple(crop_size),
        min_scale=min_scale,
        max_scale=max_scale,
        flip_probability=flip_probability,
        decoder_output_stride=decoder_output_stride,
        min_label_count=min_label_count,
        first_frame_only=first_frame_only,
        max_frame_gap=max_frame_gap,
        damage_previous_mask=damage_previous_mask,
        rollout_steps=rollout_steps,
    )
    pipeline_settings.check_settings(settings)
    patterns = pipeline_settings.checked_patterns(records)
    weights = pipeline_settings.checked_probabilities(probabilities, patterns)
    scenes = pipeline_settings.checked_scenes(scenes, patterns, rollout_steps)
    base = next(s for s in (seed, otherwise_seed, secrets.randbits(31)) if s is not None)
    damage = CorruptRecordLog(max_corrupt_records)
    data_sets = [tfrecord_files.find_videos(pattern, damage.note_end) for pattern in patterns]
    source = ClipSource(data_sets, weights, settings, scenes, base, damage)
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

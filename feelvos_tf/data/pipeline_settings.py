"""Refuses settings of `training_dataset` that are out of range or do not fit each other."""

from __future__ import annotations

from collections.abc import Sequence

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import tfrecord_files
from feelvos_tf.data.moving_scenes import MovingScenes
from feelvos_tf.data.training_clip import ClipSettings


def checked_patterns(records: str | Sequence[str]) -> list[str]:
    """Returns a list of patterns, all of them given."""
    patterns = tfrecord_files.as_list(records)
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise InputError(
            "training_dataset.records must be a pattern such as '/data/train-*.tfrecord', or a "
            f"list with one per data set, got {records}"
        )
    return patterns


def checked_probabilities(
    probabilities: Sequence[float] | None, patterns: list[str]
) -> list[float]:
    """Returns one probability per data set, summing to 1."""
    if probabilities is None:
        return [1.0 / len(patterns)] * len(patterns)
    valid = len(probabilities) == len(patterns) and min(probabilities) >= 0.0
    if not valid or abs(sum(probabilities) - 1.0) > 1e-3:
        raise InputError(
            f"training_dataset.probabilities must be {len(patterns)} numbers (one per data set) "
            f"that sum to 1, got {probabilities}"
        )
    return list(probabilities)


def checked_scenes(
    scenes: Sequence[MovingScenes | None] | None, patterns: list[str], rollout_steps: int
) -> list[MovingScenes | None]:
    """Returns one entry per data set."""
    scenes = [None] * len(patterns) if scenes is None else list(scenes)
    if len(scenes) != len(patterns):
        raise InputError(
            f"training_dataset.scenes must have {len(patterns)} entries (one per data set), got "
            f"{len(scenes)}"
        )
    for each in scenes:
        if each is not None and not isinstance(each, MovingScenes):
            raise InputError(
                "training_dataset.scenes: expected @MovingScenes(), with brackets, or None for "
                f"each data set, found {each!r}"
            )
    if rollout_steps < 0 or (rollout_steps and None in scenes):
        raise InputError(
            "training_dataset.rollout_steps must be 0, or more where all data sets have scenes, "
            f"got {rollout_steps}"
        )
    return scenes


def check_settings(settings: ClipSettings) -> None:
    if len(settings.crop_size) != 2 or min(settings.crop_size) < 1:
        raise InputError(
            f"training_dataset.crop_size must be (height, width), got {settings.crop_size}"
        )
    if not 0.0 < settings.min_scale <= settings.max_scale:
        raise InputError(
            "training_dataset needs 0 < min_scale <= max_scale, got "
            f"{settings.min_scale} and {settings.max_scale}"
        )
    if not 0.0 <= settings.flip_probability <= 1.0:
        raise InputError(
            "training_dataset.flip_probability must be between 0 and 1, got "
            f"{settings.flip_probability}"
        )
    if settings.max_frame_gap < 1:
        raise InputError(
            f"training_dataset.max_frame_gap must be 1 or more, got {settings.max_frame_gap}"
        )

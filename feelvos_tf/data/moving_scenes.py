"""Settings of clips with synthetic motion, and which frames of a video they are made of.

`scene_composing` says what becomes of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import gin
import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import check_range, check_type


@gin.configurable
@dataclasses.dataclass(frozen=True)
class MovingScenes:
    """How the clips of a data set are made; probabilities are per clip.

    Attributes:
      min_scale: smallest factor on the size of the picture.
      max_scale: largest.
      motion: factor on all synthetic motion of photographs.
      camera_motion: the same for the frames of videos, which move by themselves.
      max_frame_gap: successive frames of a video are 1 to this many frames apart.
      still_probability: of using one frame of a video as if it were a photograph.
      cut_probability: of moving a photograph's objects against the rest of it.
      transplant_probability: of moving them over another picture.
      paste_probability: of objects of other pictures that pass over the frames.
      count_shares: how often 1, 2, ... objects are to be followed, where there are as many; all
        others are background.
      light: how much colors change, 0 for not at all; the frames of a clip differ by a part of it.
      fault_probability: of blur, noise and JPEG artefacts, each, in a frame.
      prediction_error_probability: of a mistake in the previous mask, see `prediction_errors.py`.
    """

    min_scale: float = 1.0
    max_scale: float = 1.6
    motion: float = 1.0
    camera_motion: float = 0.25
    max_frame_gap: int = 6
    still_probability: float = 0.0
    cut_probability: float = 0.35
    transplant_probability: float = 0.3
    paste_probability: float = 0.4
    count_shares: Sequence[float] = (0.6, 0.3, 0.1)
    light: float = 0.7
    fault_probability: float = 0.25
    prediction_error_probability: float = 0.4

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_type(f"MovingScenes.{field.name}", field.type, getattr(self, field.name))
        for name in ("motion", "camera_motion", "light"):
            check_range(f"MovingScenes.{name}", (0.0, None), getattr(self, name))
        if not 0.0 < self.min_scale <= self.max_scale:
            raise InputError(
                "MovingScenes needs 0 < min_scale <= max_scale, got "
                f"{self.min_scale} and {self.max_scale}"
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probability") and not 0.0 <= value <= 1.0:
                raise InputError(f"MovingScenes.{field.name} must be between 0 and 1, got {value}")
        if self.cut_probability + self.transplant_probability > 1.0:
            raise InputError(
                "MovingScenes.cut_probability and .transplant_probability must sum to at most 1, "
                f"got {self.cut_probability} and {self.transplant_probability}"
            )
        if self.max_frame_gap < 1:
            raise InputError(
                f"MovingScenes.max_frame_gap must be 1 or more, got {self.max_frame_gap}"
            )
        if not self.count_shares or min(self.count_shares) < 0 or sum(self.count_shares) <= 0:
            raise InputError(
                "MovingScenes.count_shares must be numbers of 0 or more with a sum above 0, got "
                f"{self.count_shares}"
            )


def draw_frames(
    num_frames: int, clip_frames: int, rng: np.random.Generator, scenes: MovingScenes
) -> np.ndarray:
    """Returns which frames of a video a clip consists of, int32 [clip_frames] or [1] for a still.

    The first is the reference, any frame; the others follow one another at a gap that is drawn,
    forwards or backwards.
    """
    if num_frames < clip_frames or rng.random() < scenes.still_probability:
        return rng.integers(num_frames, size=1, dtype=np.int32)
    steps = clip_frames - 2
    gap = int(rng.integers(1, min(scenes.max_frame_gap, (num_frames - 1) // steps) + 1))
    start = rng.integers(num_frames - gap * steps)
    following = start + gap * np.arange(steps + 1)
    if rng.random() < 0.5:
        following = following[::-1]
    return np.concatenate([rng.integers(num_frames, size=1), following]).astype(np.int32)

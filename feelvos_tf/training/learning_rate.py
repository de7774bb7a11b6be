"""Computes the learning rate of every training step."""

from __future__ import annotations

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked


@gin.configurable
class LearningRate:
    """The learning rate at every step, under one of the release's two policies.

    `poly` falls from `base` to 0 at the last step, as in the paper; `step` multiplies by
    `decay_factor` every `decay_step` steps. A slow start holds `slow_start_rate` for the first
    `slow_start_step` steps; the policy then starts from its beginning and the same end.

    Source: section 3, Implementation Details (base 0.0007); deeplab/utils/train_utils.py.
    """

    @checked(
        "LearningRate",
        base=(0.0, None),
        power=(0.0, None),
        decay_step=(1, None),
        decay_factor=(0.0, None),
        slow_start_step=(0, None),
        slow_start_rate=(0.0, None),
    )
    def __init__(
        self,
        policy: str = "poly",
        base: float = 0.0007,
        power: float = 0.9,
        decay_step: int = 2000,
        decay_factor: float = 0.1,
        slow_start_step: int = 0,
        slow_start_rate: float = 1e-4,
    ):
        """Stores the settings.

        Args:
          policy: 'poly' or 'step'.
          base: learning rate at the beginning.
          power: of the fall, with 'poly'.
          decay_step: updates between two falls, with 'step'.
          decay_factor: what the learning rate is multiplied by at each.
          slow_start_step: number of updates before the policy begins.
          slow_start_rate: learning rate of those.

        Raises:
          InputError: there is no such policy.
        """
        if policy not in ("poly", "step"):
            raise InputError(f"LearningRate.policy: expected 'poly' or 'step', found {policy!r}")
        self._policy = policy
        self._base = base
        self._power = power
        self._decay_step = decay_step
        self._decay_factor = decay_factor
        self._slow_start_step = slow_start_step
        self._slow_start_rate = slow_start_rate

    def __call__(self, step: tf.Tensor, num_steps: int) -> tf.Tensor:
        """Returns the learning rate of one step, float32 [].

        Args:
          step: int64 [], number of updates made so far.
          num_steps: number of updates of the whole training.
        """
        if self._slow_start_step == 0:
            return self._after_start(step, num_steps)
        return tf.where(
            step < self._slow_start_step,
            self._slow_start_rate,
            self._after_start(step - self._slow_start_step, num_steps - self._slow_start_step),
        )

    def _after_start(self, step: tf.Tensor, num_steps: int) -> tf.Tensor:
        if self._policy == "poly":
            return poly(step, self._base, num_steps, self._power)
        return staircase(step, self._base, self._decay_step, self._decay_factor)


def poly(step: tf.Tensor, base: float, num_steps: int, power: float) -> tf.Tensor:
    """Returns base * (1 - step / num_steps) ** power, 0 from `num_steps` on; float32 []."""
    done = tf.cast(tf.clip_by_value(tf.cast(step, tf.int64), 0, num_steps), tf.float32)
    return base * tf.pow(1.0 - done / float(num_steps), power)


def staircase(step: tf.Tensor, base: float, decay_step: int, decay_factor: float) -> tf.Tensor:
    """Returns base * decay_factor ** (step // decay_step); float32 []."""
    falls = tf.cast(tf.cast(step, tf.int64) // decay_step, tf.float32)
    return base * tf.pow(decay_factor, falls)

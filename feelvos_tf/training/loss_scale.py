"""Keeps the gradients of a float16 training within what float16 can hold."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

_FIRST_SCALE = 2.0**15
_STEPS_BEFORE_GROWTH = 2000.0


class LossScale(tf.Module):
    """A factor on the loss that is as large as it can be without gradients becoming infinite.

    Small gradients become 0 in float16. So the loss is multiplied before the gradients are taken,
    and they are divided in float32. Where one is not finite the update is left out and the factor
    halved; after 2000 updates in a row it doubles. (Micikevicius et al., Mixed Precision Training,
    ICLR 2018, section 3.2; the numbers are those of Keras' `LossScaleOptimizer`, which wraps
    optimizers of Keras alone.)

    Attributes:
      scale: float32 [].
      good_steps: updates since it changed, float32 [].
    """

    def __init__(self):
        """Makes the variables; call inside the strategy's scope."""
        super().__init__()
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.scale = tf.Variable(_FIRST_SCALE, trainable=False, aggregation=first)
        self.good_steps = tf.Variable(0.0, trainable=False, aggregation=first)

    def unscaled(self, gradients: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the gradients of the loss itself."""
        return {name: g / self.scale.read_value() for name, g in gradients.items()}

    def update(self, are_finite: tf.Tensor) -> None:
        """Moves the scale after a step; call in a replica, in every replica alike.

        Args:
          are_finite: bool [], whether all gradients were.
        """
        steps = self.good_steps.read_value() + 1.0
        grows = steps >= _STEPS_BEFORE_GROWTH
        scale = self.scale.read_value()
        larger = tf.where(grows, 2.0 * scale, scale)
        self.scale.assign(tf.where(are_finite, larger, tf.maximum(0.5 * scale, 1.0)))
        self.good_steps.assign(tf.where(are_finite & ~grows, steps, 0.0))

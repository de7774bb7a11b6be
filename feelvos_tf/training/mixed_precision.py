"""Mixed precision in training: Keras' policies, and the loss scale that float16 needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Literal

import tensorflow as tf

from feelvos_tf.core import settings

_FIRST_SCALE = 2.0**15
_STEPS_BEFORE_GROWTH = 2000.0


@settings.configurable
def set_mixed_precision(
    policy: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32",
    onednn_bfloat16: bool = False,
) -> str:
    """Returns the Keras policy to build the model under, see `layers`.

    Call it before anything else is built: `onednn_bfloat16` applies to the whole process.

    Args:
      policy: a mixed one computes convolutions and their outputs in 16 bits; weights, batch-norm
        statistics, embeddings in matching, softmax and losses stay in 32. With float16 the loss is
        scaled, see `LossScale`.
      onednn_bfloat16: lets TensorFlow's graph rewriter for oneDNN use bfloat16 in convolutions and
        matrix products. A step takes two thirds of the time on processors with AVX-512 BF16 or
        AMX, and longer on others.
    """
    if onednn_bfloat16:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    return policy


@contextlib.contextmanager
def layers(policy: str) -> Iterator[None]:
    """Applies a Keras policy to the layers built inside the block, and to no others."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


class LossScale(tf.Module):
    """A factor on the loss, as large as possible without gradients overflowing.

    Small gradients underflow in float16, so the loss is multiplied before gradients are taken, and
    gradients are divided in float32. If one is not finite, the update is skipped and the scale
    halved; after 2000 good updates in a row it doubles (Micikevicius et al., Mixed Precision
    Training, ICLR 2018, section 3.2).

    The constants are those of Keras' `LossScaleOptimizer`, which is not used because it wraps only
    Keras' optimizers, and those cannot do what `optimizers.py` does.

    Attributes:
      scale: float32 [].
      good_steps: updates since the scale changed, float32 [].
    """

    def __init__(self):
        """Creates the variables; call inside the strategy's scope."""
        super().__init__()
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.scale = tf.Variable(_FIRST_SCALE, trainable=False, aggregation=first)
        self.good_steps = tf.Variable(0.0, trainable=False, aggregation=first)

    def unscaled(self, gradients: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the gradients of the unscaled loss."""
        return {name: g / self.scale.read_value() for name, g in gradients.items()}

    def update(self, are_finite: tf.Tensor) -> None:
        """Adjusts the scale after a step; call in the replica context of every replica.

        Args:
          are_finite: bool [], whether all gradients were finite.
        """
        steps = self.good_steps.read_value() + 1.0
        grows = steps >= _STEPS_BEFORE_GROWTH
        scale = self.scale.read_value()
        larger = tf.where(grows, 2.0 * scale, scale)
        self.scale.assign(tf.where(are_finite, larger, tf.maximum(0.5 * scale, 1.0)))
        self.good_steps.assign(tf.where(are_finite & ~grows, steps, 0.0))

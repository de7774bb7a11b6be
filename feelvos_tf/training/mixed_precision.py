"""The precision of arithmetic in training: float32, or Keras' mixed precision policies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked

_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@gin.configurable
@checked("set_mixed_precision")
def set_mixed_precision(policy: str = "float32", onednn_bfloat16: bool = False) -> str:
    """Returns the Keras policy under whose `layers` the training model must be built.

    Call it before anything else is built: `onednn_bfloat16` holds for the whole process.

    Args:
      policy: "float32", "mixed_bfloat16" or "mixed_float16". With the mixed ones, convolutions and
        their outputs have 16 bits; weights, batch-norm statistics, embeddings in matching, softmax
        and losses keep 32. With float16 the loss is scaled, see `LossScale`.
      onednn_bfloat16: lets TensorFlow's rewriter for oneDNN use bfloat16 for convolutions and
        matrix products. On processors with AVX-512 BF16 or AMX a step takes two thirds of the
        time; on others it is slower.

    Raises:
      InputError: no such policy.
    """
    if policy not in _POLICIES:
        raise InputError(
            f"set_mixed_precision.policy: expected one of {', '.join(_POLICIES)}, found {policy!r}"
        )
    if onednn_bfloat16:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    return policy


@contextlib.contextmanager
def layers(policy: str) -> Iterator[None]:
    """Applies a Keras policy to the layers that are built inside the block, and to no others."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)

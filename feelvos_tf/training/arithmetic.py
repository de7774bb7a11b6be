"""Which numbers the processor computes with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@gin.configurable
@checked("set_arithmetic")
def set_arithmetic(bfloat16: bool = False, precision: str = "float32") -> str:
    """Sets how TensorFlow computes in this process; call before anything is built.

    Returns the precision, in whose `layers` the model in training is to be made.

    Args:
      precision: 'mixed_bfloat16' or 'mixed_float16': the convolutions of the model in training and
        their outputs have 16 bits. Weights, batch-norm statistics, embeddings in matching, softmax
        and losses have 32. For float16 the loss is scaled, see `LossScale`.
      bfloat16: convolutions and products in 16 bits, weights and sums in 32, as TensorFlow's
        rewriter for oneDNN decides. Processors with AVX-512 BF16 or AMX take two thirds of the
        time for a step; on others it is slower.
    """
    if precision not in _PRECISIONS:
        raise InputError(
            f"set_arithmetic.precision: expected one of {', '.join(_PRECISIONS)}, found "
            f"{precision!r}"
        )
    if bfloat16:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    return precision


@contextlib.contextmanager
def layers(precision: str) -> Iterator[None]:
    """Makes Keras layers of a precision inside the block; others stay as they are."""
    mixed_precision = tf.keras.mixed_precision
    before = mixed_precision.global_policy()
    mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        mixed_precision.set_global_policy(before)

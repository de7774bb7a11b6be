"""Which numbers the processor computes with."""

from __future__ import annotations

import gin
import tensorflow as tf


@gin.configurable
def set_arithmetic(bfloat16: bool = False) -> None:
    """Sets how TensorFlow computes in this process; call before anything is built.

    Args:
      bfloat16: convolutions and products in 16 bits, weights and sums in 32, as TensorFlow's
        rewriter for oneDNN decides. Processors with AVX-512 BF16 or AMX take two thirds of the
        time for a step; on others it is slower.
    """
    if bfloat16:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})

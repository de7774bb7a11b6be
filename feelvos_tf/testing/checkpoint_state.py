"""The contents of a training checkpoint, for comparing two of them."""

from __future__ import annotations

import pathlib

import numpy as np
import tensorflow as tf


def read(folder: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Returns every tensor of a checkpoint: weights, averages, optimizer slots, step.

    TensorFlow's own counter of saved checkpoints, which nothing reads, is left out.
    """
    reader = tf.train.load_checkpoint(str(folder / f"ckpt-{step}"))
    names = reader.get_variable_to_shape_map()
    without = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE")
    return {name: reader.get_tensor(name) for name in names if name not in without}

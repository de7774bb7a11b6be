"""Computes batch-norm statistics from images, for layers that start from random weights."""

from __future__ import annotations

from collections.abc import Collection

import tensorflow as tf

from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers import convolutions_of


def calibrate_batch_norm(model: Feelvos, images: tf.Tensor, restored: Collection[str] = ()) -> int:
    """Sets the statistics of layers with random weights to those of `images`; returns how many.

    The release freezes batch-norm statistics even in layers that start from random weights, where
    mean and variance are 0 and 1. Those layers then attenuate their input, the embeddings of all
    pixels are nearly equal, and almost nothing is learned in the first few thousand steps.
    Statistics of real images keep the signal at unit scale from the first step on.

    Args:
      model: with its variables created and, if there is a checkpoint, restored.
      images: float32 `[n, height, width, 3]`, RGB 0..255; a few dozen.
      restored: release names of the variables restored from a checkpoint, whose layers are left
        unchanged.
    """
    layers = [layer for layer in convolutions_of(model) if layer.norm is not None]
    decays = [layer.norm.decay for layer in layers]
    for layer in layers:
        layer.norm.is_frozen = f"{layer.scope}/BatchNorm/moving_mean" in restored
        layer.norm.decay = 0.0  # A batch's statistics replace the running ones.
    count = sum(not layer.norm.is_frozen for layer in layers)
    model.backbone_to_decoder(images, training=False, batch_statistics=True)
    for layer, decay in zip(layers, decays):
        layer.norm.is_frozen, layer.norm.decay = False, decay
    return count

"""Computes batch-norm statistics from images, for layers that start from random weights."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import tensorflow as tf

from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers.batch_norm import BatchNorm


def calibrate_batch_norm(model: Feelvos, images: tf.Tensor, restored: Collection[str] = ()) -> int:
    """Sets the statistics of layers with random weights to those of `images`; returns how many.

    The release freezes batch-norm statistics even in layers that start from random weights, where
    mean and variance are 0 and 1. Those layers then attenuate their input, the embeddings of all
    pixels are nearly equal, and the first few thousand steps learn almost nothing. Statistics of
    real images keep the signal at unit scale from the first step on.

    Args:
      model: with its variables created and, if there is a checkpoint, restored.
      images: float32 `[n, height, width, 3]`, RGB 0..255; a few dozen.
      restored: release names of the variables restored from a checkpoint, whose layers are left
        unchanged.
    """
    layers = [layer for layer in model.convolutions() if layer.norm is not None]
    known = [layer for layer in layers if f"{layer.scope}/BatchNorm/moving_mean" in restored]
    new = [layer.norm for layer in layers if layer not in known]
    with _replacing_statistics(new), _keeping_statistics([layer.norm for layer in known]):
        model.backbone_to_decoder(images, training=False, batch_statistics=True)
    return len(new)


@contextlib.contextmanager
def _replacing_statistics(norms: list[BatchNorm]) -> Iterator[None]:
    """Makes a batch's statistics replace the running ones inside the block."""
    decays = [norm.decay for norm in norms]
    for norm in norms:
        norm.decay = 0.0
    try:
        yield
    finally:
        for norm, decay in zip(norms, decays):
            norm.decay = decay


@contextlib.contextmanager
def _keeping_statistics(norms: list[BatchNorm]) -> Iterator[None]:
    for norm in norms:
        norm.is_frozen = True
    try:
        yield
    finally:
        for norm in norms:
            norm.is_frozen = False

"""Batch-norm statistics for layers that start from random weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from feelvos_tf.models.backbone import normalise
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers import BatchNorm


def calibrate_batch_norm(model: Feelvos, images: tf.Tensor, with_backbone: bool = False) -> int:
    """Sets the statistics of ASPP and decoder to those of `images`; returns how many layers.

    The release freezes batch-norm statistics also in layers that start from random weights, where
    they are 0 and 1. Those layers then pass on a fraction of their input, embeddings of all pixels
    are nearly equal, and the first thousands of steps learn almost nothing. Frozen statistics of
    real images keep the signal at unit size from the first step on.

    Args:
      model: with its backbone's weights set.
      images: float32 `[n, height, width, 3]`, RGB 0..255; some dozens.
      with_backbone: sets the backbone's statistics, too, because it starts from random weights as
        well. Its signal would vanish on the way, the layers behind would magnify what is left a
        thousandfold, and training would diverge.
    """
    parts = (model.aspp, model.decoder, *([model.backbone] if with_backbone else []))
    norms = [
        layer.norm
        for part in parts
        for layer in part.submodules
        if getattr(layer, "norm", None) is not None
    ]
    with _taking_over(norms):
        low_level, deep = model.backbone(normalise(images), batch_statistics=with_backbone)
        deep = model.aspp(deep, training=False, batch_statistics=True)
        model.decoder(deep, low_level, batch_statistics=True)
    return len(norms)


@contextlib.contextmanager
def _taking_over(norms: list[BatchNorm]) -> Iterator[None]:
    """Lets a batch's statistics replace the moving ones instead of moving them."""
    decays = [norm.decay for norm in norms]
    for norm in norms:
        norm.decay = 0.0
    try:
        yield
    finally:
        for norm, decay in zip(norms, decays):
            norm.decay = decay

"""A FEELVOS network so small that a frame takes milliseconds; its weights are random."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names


class FewBlocks(MobileNetV2):
    """The first four widths, one block or two of each: a third less time to trace the network."""

    _BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 2), (6, 64, 1, 2))


def create(
    seed: int = 3, backbone: type[MobileNetV2] = FewBlocks, magnified: str | None = None
) -> Feelvos:
    """Returns the network, biases and batch-norm offsets being random, too, instead of 0.

    Args:
      backbone: `MobileNetV2` where the network must be one that settings can build again.
      magnified: a variable's name in the 2019 release. With random weights all embeddings, and all
        probabilities, are nearly the same; 1000 times the weights of their layer they are not.
    """
    tf.keras.utils.set_random_seed(seed)
    model = Feelvos(
        backbone(depth_multiplier=0.1, output_stride=16), atrous_rates=(), embedding_dimension=8
    )
    model.create_variables()
    for name, variable in release_names(model).items():
        if "biases" in name or "beta" in name:
            variable.assign(0.1 * tf.random.normal(variable.shape))
        if name == magnified:
            variable.assign(1000.0 * variable)
    return model

"""A FEELVOS network with random weights, so small that a frame takes milliseconds."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names


class FewBlocks(MobileNetV2):
    """Only the first four widths, with one or two blocks each: takes a third less time to trace."""

    _BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 2), (6, 64, 1, 2))


def create(
    seed: int = 3, backbone: type[MobileNetV2] = FewBlocks, magnified: str | None = None
) -> Feelvos:
    """Returns the network; biases and batch norm offsets are also random instead of 0.

    Args:
      backbone: `MobileNetV2` if settings must be able to build the same network.
      magnified: name, in the 2019 release, of a variable to multiply by 1000. With random weights,
        all embeddings and all probabilities are nearly the same; with their layer's weights
        magnified, they differ.
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

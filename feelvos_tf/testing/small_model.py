"""A FEELVOS network so small that a frame takes milliseconds; its weights are random."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names


def create(seed: int = 3) -> Feelvos:
    """Returns the network, biases and batch-norm offsets being random, too, instead of 0."""
    tf.keras.utils.set_random_seed(seed)
    model = Feelvos(
        MobileNetV2(depth_multiplier=0.1, output_stride=16), atrous_rates=(), embedding_dimension=8
    )
    model.create_variables()
    for name, variable in release_names(model).items():
        if "biases" in name or "beta" in name:
            variable.assign(0.1 * tf.random.normal(variable.shape))
    return model

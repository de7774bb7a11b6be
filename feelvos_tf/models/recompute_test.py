"""Recomputing activations changes neither outputs nor gradients."""

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing import small_model

_SIZE = 33


def _gradients(recompute: bool) -> list[tf.Tensor]:
    """Returns the gradients of a small network's backbone, computed in a strategy's replica."""
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        model = Feelvos(
            small_model.FewBlocks(depth_multiplier=0.1, output_stride=16),
            atrous_rates=(),
            embedding_dimension=4,
            recompute_backbone=recompute,
        )
        model.create_variables()
    model.aspp.dropout = lambda x, seed: x
    images = 255.0 * tf.random.stateless_uniform([3, _SIZE, _SIZE, 3], [1, 2])
    named = release_names(model).items()
    variables = [v for n, v in named if n.startswith("MobilenetV2") and v.trainable]

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model.extract(images, training=True).decoder_features ** 2)
        return tape.gradient(loss, variables)

    return strategy.run(gradients)


def test_gradients_are_the_same():
    for kept, recomputed in zip(_gradients(False), _gradients(True)):
        scale = np.abs(kept).max()
        assert scale > 0
        np.testing.assert_allclose(recomputed / scale, kept / scale, atol=1e-4)


def test_recomputing_while_running_averages_are_updated_is_refused():
    with pytest.raises(InputError, match="recompute_backbone.*fine_tune_batch_norm"):
        Feelvos(MobileNetV2(), recompute_backbone=True, fine_tune_batch_norm=True)

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.training.trainer import calibrate_batch_norm


@pytest.fixture
def model():
    tf.random.set_seed(0)
    model = Feelvos(MobileNetV2(depth_multiplier=0.25, output_stride=16))
    model.create_variables()
    return model


def some_images():
    """Returns noise of very different brightness, so that pooled images differ as well."""
    noise = tf.random.stateless_uniform([6, 65, 65, 3], [1, 2], maxval=255.0)
    return noise * tf.reshape(tf.linspace(0.1, 1.0, 6), [6, 1, 1, 1])


def backbone_names(model):
    return [name for name in release_names(model) if name.startswith("MobilenetV2")]


def test_new_layers_get_the_statistics_of_images_seen_through_a_restored_backbone(model):
    images = some_images()
    low_level, deep = model.backbone(images)
    deep = model.aspp(deep, training=False, batch_statistics=True)
    expected = model.decoder(deep, low_level, batch_statistics=True).numpy()
    backbone = {n: release_names(model)[n].numpy() for n in backbone_names(model)}

    def error():
        difference = model.extract(images).decoder_features - expected
        return np.linalg.norm(difference) / np.linalg.norm(expected)

    # Channels that hardly vary behind a random backbone magnify rounding errors, hence 0.01.
    assert error() > 0.5
    assert calibrate_batch_norm(model, images, backbone_names(model)) == 14
    assert error() < 0.01
    for name, before in backbone.items():
        np.testing.assert_array_equal(before, release_names(model)[name])


def test_a_restored_branch_among_new_ones_is_used_and_left_unchanged(model):
    names = [name for name in release_names(model) if name.startswith(("MobilenetV2", "aspp0"))]
    branch = model.aspp.branches[0].norm
    branch.moving_mean.assign(tf.fill(branch.moving_mean.shape, 0.25))
    assert calibrate_batch_norm(model, some_images(), names) == 13
    np.testing.assert_array_equal(branch.moving_mean, 0.25)
    assert not branch.is_frozen


def test_a_random_backbone_is_calibrated_as_well_and_keeps_the_signal(model):
    images = some_images()

    def deep_signal():
        return float(tf.math.reduce_std(model.backbone(images)[1]))

    assert deep_signal() < 1e-6
    backbone_norms = 1 + 2 + 16 * 3  # root, first block (no expansion), the other blocks
    assert calibrate_batch_norm(model, images) == 14 + backbone_norms
    assert 0.1 < deep_signal() < 10


def test_later_batches_move_the_statistics_as_slowly_as_before(model):
    calibrate_batch_norm(model, some_images())
    assert model.aspp.projection.norm.decay == pytest.approx(0.9997)

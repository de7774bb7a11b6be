import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.deeplab import AtrousSpatialPyramidPooling, Decoder
from feelvos_tf.models.dynamic_segmentation_head import SegmentationHead
from feelvos_tf.models.embedding import Embedding
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.layers.walk import convolutions_by_path
from feelvos_tf.testing import small_model


@pytest.mark.parametrize(
    "layer",
    [
        MobileNetV2(depth_multiplier=0.5, output_stride=16),
        Xception(layers=41, output_stride=16),
        AtrousSpatialPyramidPooling((2, 3)),
        Decoder(low_level_channels=24),
        Embedding(dimension=7),
        SegmentationHead(num_cues=2),
    ],
    ids=lambda layer: layer.name,
)
def test_a_layer_made_from_its_config_has_the_same_parts(layer):
    twin = type(layer).from_config(layer.get_config())
    assert twin is not layer
    assert twin.get_config() == layer.get_config()
    for (path, one), (twin_path, other) in zip(
        convolutions_by_path(layer), convolutions_by_path(twin), strict=True
    ):
        assert (path, one.scope, one.kernel_size, one.stride, one.atrous_rate) == (
            twin_path,
            other.scope,
            other.kernel_size,
            other.stride,
            other.atrous_rate,
        )


def test_every_argument_of_the_network_is_in_its_config():
    settings = {
        "atrous_rates": (2,),
        "embedding_dimension": 5,
        "window_radius": 3,
        "nearest_neighbors": 2,
        "train_max_neighbors_per_object": 9,
        "first_frame_matching": False,
        "previous_frame_matching": "global",
        "previous_frame_predictions": False,
        "fold_batch_norm": False,
        "recompute_backbone": True,
    }
    model = Feelvos(MobileNetV2(0.1, output_stride=16), **settings)
    twin = Feelvos.from_config(model.get_config())
    assert twin.get_config() == model.get_config()
    assert settings.items() <= twin.get_config().items()
    assert twin.backbone.get_config() == {"depth_multiplier": 0.1, "output_stride": 16}
    assert not any(layer.norm.is_folded for layer in twin.convolutions() if layer.norm)


def test_keras_saves_and_loads_the_network_whole(tmp_path):
    model = small_model.create(backbone=MobileNetV2)
    image = np.random.default_rng(0).uniform(0, 255, (1, 33, 49, 3)).astype(np.float32)
    expected = model(image)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, Feelvos)
    np.testing.assert_array_equal(loaded(image).embeddings, expected.embeddings)
    assert all(
        np.array_equal(one.kernel, other.kernel)
        for one, other in zip(model.convolutions(), loaded.convolutions(), strict=True)
    )

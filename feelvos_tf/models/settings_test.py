"""Bad settings of the network are refused in one sentence."""

from __future__ import annotations

import sys

import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.deeplab import AtrousSpatialPyramidPooling
from feelvos_tf.models.dynamic_segmentation_head import SegmentationHead
from feelvos_tf.models.feelvos import Feelvos


@pytest.mark.parametrize(
    ("make", "settings", "sentence"),
    [
        (Xception, {"layers": 50}, "Xception.layers: expected 41, 65 or 71, found 50"),
        (Xception, {"output_stride": 7}, "Xception.output_stride: expected 8 or 16, found 7"),
        (MobileNetV2, {"output_stride": 32}, "MobileNetV2.output_stride: expected 8 or 16, found"),
        (MobileNetV2, {"depth_multiplier": 0}, "MobileNetV2.depth_multiplier: expected more than"),
        (
            MobileNetV2,
            {"depth_multiplier": "1"},
            "MobileNetV2.depth_multiplier: expected float, .*",
        ),
        (MobileNetV2, {"output_stride": None}, "MobileNetV2.output_stride: expected 8 .* None"),
        (Xception, {"layers": "65"}, "Xception.layers: expected 41, 65 or 71, found '65'"),
        (
            SegmentationHead,
            {"num_cues": 3, "layers": 0},
            "SegmentationHead.layers: expected int of",
        ),
        (
            SegmentationHead,
            {"num_cues": 3, "atrous_rates": (1, 2)},
            "SegmentationHead.atrous_rates: expected one for each of 4 layers, or .., found .1, 2.",
        ),
        (SegmentationHead, {"num_cues": 3, "channels": 0}, "SegmentationHead.channels: expected"),
        (SegmentationHead, {"num_cues": 3, "kernel_size": 6}, "kernel_size: expected an odd .* 6"),
        (
            AtrousSpatialPyramidPooling,
            {"atrous_rates": (), "dropout_rate": 1.0},
            "AtrousSpatialPyramidPooling.dropout_rate: expected float of 0.0 to 0.99, found 1.0",
        ),
    ],
)
def test_impossible_parts_are_refused(make, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        make(**settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"normalize_distances": False}, "normalize_distances: .*True .* 'local', found False"),
        ({"previous_frame_matching": "near"}, "Feelvos.previous_frame_matching: .*found 'near'"),
        ({"local_matching": "fast"}, "Feelvos.local_matching: expected 'tiles' or .*found 'fast'"),
        ({"nearest_neighbors": 0}, "Feelvos.nearest_neighbors: expected int of 1 or more, found 0"),
        ({"window_radius": -1}, "Feelvos.window_radius: expected int of 0 or more, found -1"),
        ({"embedding_dimension": 0}, "Feelvos.embedding_dimension"),
        ({"train_max_neighbors_per_object": -5}, "Feelvos.train_max_neighbors_per_object"),
        ({"first_frame_matching": "False"}, "Feelvos.first_frame_matching: .* bool, .*'False'"),
        ({"atrous_rates": 6}, r"Feelvos.atrous_rates: expected tuple\[int of 1 .*, found 6"),
        ({"atrous_rates": (6, 0)}, r"Feelvos.atrous_rates: expected .* found \(6, 0\)"),
        (
            {"first_frame_matching": False, "previous_frame_matching": "none"},
            "first_frame_matching or a previous_frame_matching",
        ),
    ],
)
def test_impossible_networks_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Feelvos(MobileNetV2(depth_multiplier=0.1, output_stride=16), **settings)


def test_a_backbone_class_instead_of_a_backbone_is_refused():
    with pytest.raises(InputError, match=r"Feelvos.backbone: .* such as @Xception\(\), found .*V2"):
        Feelvos(MobileNetV2)


def test_a_missing_correlation_layer_is_reported_when_the_network_is_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    with pytest.raises(InputError, match="'correlation' needs tensorflow-addons .* use 'tiles'"):
        Feelvos(MobileNetV2(depth_multiplier=0.1), local_matching="correlation")

"""Bad settings of the network are told in one sentence."""

from __future__ import annotations

import sys

import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.local_matching import LOCAL_MATCHINGS


@pytest.mark.parametrize(
    ("make", "settings", "sentence"),
    [
        (Xception, {"layers": 50}, r"Xception.layers: expected one of \(41, 65, 71\), found 50"),
        (Xception, {"output_stride": 7}, r"output_stride.*expected one of \(8, 16\), found 7"),
        (MobileNetV2, {"output_stride": 32}, r"expected one of \(8, 16\), found 32"),
        (MobileNetV2, {"depth_multiplier": 0}, "MobileNetV2.depth_multiplier: expected more than"),
    ],
)
def test_backbones_that_do_not_exist_are_refused(make, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        make(**settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"previous_frame_matching": "near"}, "Feelvos.previous_frame_matching: .*found 'near'"),
        ({"local_matching": "fast"}, "Feelvos.local_matching: expected one of .*found 'fast'"),
        ({"nearest_neighbors": 0}, "Feelvos.nearest_neighbors: expected 1 or more, found 0"),
        ({"window_radius": -1}, "Feelvos.window_radius: expected 0 or more, found -1"),
        ({"embedding_dimension": 0}, "Feelvos.embedding_dimension"),
        ({"train_max_neighbors_per_object": -5}, "Feelvos.train_max_neighbors_per_object"),
        ({"atrous_rates": (6, 0)}, "Feelvos.atrous_rates: expected 1 or more, found 0"),
        (
            {"first_frame_matching": False, "previous_frame_matching": "none"},
            "first_frame_matching or a previous_frame_matching",
        ),
    ],
)
def test_networks_that_cannot_be_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Feelvos(MobileNetV2(depth_multiplier=0.1, output_stride=16), **settings)


def test_a_correlation_layer_that_is_not_there_is_told_when_the_network_is_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    with pytest.raises(InputError, match="'correlation' needs tensorflow-addons .* use 'tiles'"):
        Feelvos(MobileNetV2(depth_multiplier=0.1), local_matching="correlation")


def test_what_version_0_1_called_auto_are_tiles():
    model = Feelvos(MobileNetV2(depth_multiplier=0.1), local_matching="auto")
    assert model.local_distances is LOCAL_MATCHINGS["tiles"]

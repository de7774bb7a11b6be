"""The whole network against the release: same weights, same clip, same numbers.

Golden frames: 97x129, 3 objects, output stride 8; weights from the rule in testing/golden.py.
Arrays that end in `_sub` hold every fourth pixel of the map (`head_features_sub`: every eighth).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.resizing import resize_bilinear, resize_nearest
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models import object_labels
from feelvos_tf.models.feelvos import ClipOutput, Features, Feelvos, Previous
from feelvos_tf.models.global_matching import (
    global_distances,
    global_distances_inference,
    normalize_distance,
    prepare_reference,
)
from feelvos_tf.models.layers import convolutions_of
from feelvos_tf.models.local_matching import LOCAL_MATCHINGS
from feelvos_tf.testing.golden import assert_close_to_golden, recorded_outputs, rule_model

NUM_OBJECTS = 3
FRAMES = (1, 2, 3)
# mobilenet_v2 amplifies rounding: the same network in float64 differs from the golden numbers,
# which are float32, by up to 3.4e-5 (features), 8e-5 (distance maps) and 1.5e-4 (probabilities). If
# the features are the release's to rounding, everything after them is within 5e-6 of it. This needs
# TF_ENABLE_ONEDNN_OPTS=0 and a processor that sums like the golden numbers' (Xeon with AVX-512; a
# fourth-generation EPYC sums in another order and differs by 1.4e-4).
TOLERANCE = 1e-4
MOBILENET_TOLERANCE_OF_OTHER_SUMS = 3e-4
SAME_SUMS = 1e-6
# The release's label is clear-cut where its two best logits differ by more than this.
MARGIN = 0.01


class Run(NamedTuple):
    """Our network on the golden clip, each frame fed the release's labels of the previous one."""

    golden: dict[str, np.ndarray]
    images: np.ndarray
    masks: np.ndarray
    model: Feelvos
    features: Features
    recorded: dict[str, tf.Tensor]
    outputs: dict[int, ClipOutput]
    head_features: dict[int, tf.Tensor]

    @property
    def tolerance(self) -> float:
        if self.model.backbone.name != "MobilenetV2":
            return TOLERANCE
        expected = self.golden["frame0_decoder_features_sub"]
        difference = np.abs(self.features.decoder_features[0, ::4, ::4] - expected).max()
        same_sums = difference <= SAME_SUMS * np.abs(expected).max()
        return TOLERANCE if same_sums else MOBILENET_TOLERANCE_OF_OTHER_SUMS

    def previous(self, frame: int) -> Previous:
        """Returns the golden state before `frame`."""
        embeddings = self.features.embeddings[frame - 1]
        indices = resize_nearest(
            tf.constant(self.golden["scan_labels"][frame - 1], tf.int32), embeddings.shape[:2]
        )
        return Previous(embeddings, indices, object_labels.one_hot(indices, NUM_OBJECTS))

    @property
    def reference(self):
        return prepare_reference(self.features.embeddings[0], self.previous(1).indices, NUM_OBJECTS)


@functools.cache
def run_network(model: Feelvos, folder, variant: str) -> Run:
    golden = dict(np.load(folder / f"forward_{variant}.npz"))
    clip = np.load(folder / "forward_clip.npz")
    with recorded_outputs(convolutions_of(model)) as recorded:
        features = model.extract(clip["images"])
    run = Run(golden, clip["images"], clip["labels"], model, features, recorded, {}, {})
    for frame in FRAMES:
        with recorded_outputs([model.head.convolutions[-1]]) as head:
            run.outputs[frame] = model.segment(
                features.decoder_features[frame],
                features.embeddings[frame],
                run.reference,
                run.previous(frame),
            )
        [run.head_features[frame]] = head.values()
    return run


@pytest.fixture(params=["mobilenet_v2", "xception_65"])
def run(request, golden) -> Run:
    return run_network(rule_model(request.param, 8), golden, request.param)


def test_low_level_and_aspp_features(run):
    low_level = {
        "MobilenetV2": "MobilenetV2/expanded_conv_2/depthwise",
        "xception_65": "xception_65/entry_flow/block2/unit_1/xception_module/"
        "separable_conv2_pointwise",
    }[run.model.backbone.name]
    for name, layer in (("low_level", low_level), ("aspp", "concat_projection")):
        found = run.recorded[layer][0, ::4, ::4]
        assert_close_to_golden(found, run.golden[f"frame0_{name}_sub"])


@pytest.mark.parametrize("name", ["decoder_features", "embeddings"])
def test_features_of_every_frame(run, name):
    for frame in (0, *FRAMES):
        found = getattr(run.features, name)[frame, ::4, ::4]
        assert_close_to_golden(found, run.golden[f"frame{frame}_{name}_sub"])


def test_previous_masks_are_the_downsampled_labels(run):
    for frame in FRAMES:
        expected = run.golden[f"frame{frame}_previous_masks"]
        np.testing.assert_array_equal(run.previous(frame).masks, expected)


def test_global_distances(run):
    for frame in FRAMES:
        query, golden = run.features.embeddings[frame], run.golden
        for distances in (global_distances, global_distances_inference):
            found = distances(query, run.reference)
            assert_close_to_golden(found, golden[f"frame{frame}_global_raw"], run.tolerance)
        found = run.outputs[frame].global_map
        assert_close_to_golden(found, golden[f"frame{frame}_global_map"], run.tolerance)


@pytest.mark.parametrize("matching", sorted(LOCAL_MATCHINGS))
def test_local_distance_maps(run, matching):
    if matching == "correlation":
        pytest.importorskip("tensorflow_addons")
    for frame in FRAMES:
        previous = run.previous(frame)
        distances = LOCAL_MATCHINGS[matching](
            run.features.embeddings[frame],
            previous.embeddings,
            previous.indices,
            NUM_OBJECTS,
            run.model.window_radius,
        )
        expected = run.golden[f"frame{frame}_local_map"]
        assert_close_to_golden(normalize_distance(distances), expected, run.tolerance)


def test_head_features_logits_and_probabilities(run):
    for frame in FRAMES:
        logits = run.outputs[frame].logits[..., 0]
        found = {
            "head_features_sub": run.head_features[frame][:, ::8, ::8],
            "logits": logits,
            "softmax": tf.nn.softmax(logits, axis=0),
            "local_map": run.outputs[frame].local_map,
        }
        for name, value in found.items():
            assert_close_to_golden(value, run.golden[f"frame{frame}_{name}"], run.tolerance)


def test_labels_agree_wherever_the_release_s_are_clear_cut(run):
    for frame in FRAMES:
        ours = full_size_logits(run, run.outputs[frame].logits[..., 0])
        golden = np.sort(full_size_logits(run, run.golden[f"frame{frame}_logits"]), -1)
        decided = golden[..., -1] - golden[..., -2] > MARGIN
        expected = run.golden["scan_labels"][frame]
        assert decided.mean() > 0.95
        np.testing.assert_array_equal(ours.argmax(-1)[decided], expected[decided])


def full_size_logits(run: Run, logits) -> np.ndarray:
    logits = tf.transpose(logits, [1, 2, 0])[tf.newaxis]
    return resize_bilinear(logits, run.images.shape[1:3])[0].numpy()


@functools.cache
def predictor(model: Feelvos) -> Predictor:
    return Predictor(model)


def test_free_running_labels(run, eagerly):
    step, state = predictor(run.model).step, predictor(run.model).start(run.images[0], run.masks[0])
    for frame in FRAMES:
        ids, _, state = step(run.images[frame], state)
        wrong = (ids.numpy() != run.golden["scan_labels"][frame]).mean()
        assert wrong <= 0.001, f"frame {frame}: {wrong:.2%} of the pixels differ"


def test_an_object_s_id_does_not_matter(run, eagerly):
    new_ids = np.array([0, 7, 2], np.uint8)
    state = predictor(run.model).start(run.images[0], new_ids[run.masks[0]])
    ids, probabilities, _ = predictor(run.model).step(run.images[1], state)
    expected = new_ids[run.golden["scan_labels"][1]]
    assert (ids.numpy() != expected).mean() <= 0.001
    np.testing.assert_array_equal(state["object_ids"], [0, 2, 7])
    np.testing.assert_array_equal(np.array([0, 2, 7])[np.argmax(probabilities, -1)], ids)

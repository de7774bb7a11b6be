"""The predictor, compared with the network's parts, at one and several scales."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf import configurables  # noqa: F401
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import multi_scale
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models import object_labels
from feelvos_tf.testing import small_model
from feelvos_tf.training.clip_forward import clip_logits

SIZE = (65, 81)


@pytest.fixture(scope="module")
def model():
    return small_model.create()


def draw(frame: int, size=SIZE):
    """Returns an image with two moving boxes, and its mask with the ids 0, 3 and 7."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 100, (*size, 3)).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    for object_id, top, color in ((3, 8, (220, 60, 60)), (7, 36, (40, 90, 230))):
        box = slice(top, top + 20), slice(10 + 3 * frame, 34 + 3 * frame)
        mask[box] = object_id
        image[box] = color
    return image, mask


def video(length: int, size=SIZE):
    images, all_masks = zip(*(draw(i, size) for i in range(length)))
    return tf.constant(np.stack(images)), tf.constant(all_masks[0])


@pytest.mark.parametrize("settings", [{}, {"scales": (1.0, 0.5), "merge": "avg", "flip": True}])
def test_stepping_and_the_whole_clip_give_the_same_ids(model, eagerly, settings):
    predictor = Predictor(model, **settings)
    images, mask = video(3)
    state = predictor.start(images[0], mask)
    stepped = [mask.numpy()]
    for image in images[1:]:
        ids, probabilities, state = predictor.step(image, state)
        np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), 1.0, atol=1e-5)
        # Two objects may be equally probable up to rounding.
        chosen = np.searchsorted(state["object_ids"], ids)[..., np.newaxis]
        of_chosen = np.take_along_axis(probabilities.numpy(), chosen, -1)[..., 0]
        np.testing.assert_allclose(of_chosen, tf.reduce_max(probabilities, -1), rtol=1e-5)
        stepped.append(ids.numpy())
    np.testing.assert_array_equal(predictor.segment_clip(images, mask), np.stack(stepped))
    np.testing.assert_array_equal(state["object_ids"], [0, 3, 7])


@pytest.mark.parametrize("method", ["random", "kmeans"])
def test_reference_pixels_of_every_object_are_reduced(model, eagerly, method):
    images, mask = video(2)
    # A tf.function references its object weakly: an unnamed predictor may be deleted too early.
    predictor = Predictor(model)
    full = predictor.start(images[0], mask)
    reduced = Predictor(model, max_reference_pixels=9, reference_reduction=method)
    state = reduced.start(images[0], mask)
    assert (np.diff(full["reference_offsets"]) > 9).all()
    np.testing.assert_array_equal(state["reference_offsets"], [0, 9, 18, 27])
    assert state["reference_embeddings"].shape == (27, 8)
    ids, _, _ = reduced.step(images[1], state)
    assert set(np.unique(ids)) <= {0, 3, 7}


@pytest.mark.parametrize("method", ["random", "kmeans"])
def test_the_background_has_a_multiple_of_the_pixels_of_an_object(model, eagerly, method):
    images, mask = video(2)
    predictor = Predictor(
        model,
        max_reference_pixels=9,
        reference_reduction=method,
        background_factor=3,
        memory_every=1,
        memory_pixels=4,
        max_memory_pixels=6,
        memory_probability=0.0,
    )
    state = predictor.start(images[0], mask)
    np.testing.assert_array_equal(state["reference_offsets"], [0, 27, 36, 45])
    for expected in ([0, 12, 16, 20], [0, 18, 24, 30]):
        _, _, state = predictor.step(images[1], state)
        np.testing.assert_array_equal(state["memory_offsets"], expected)
    everywhere = tf.where(mask == 0, tf.constant(5, tf.uint8), mask)
    state = predictor.start(images[0], everywhere)
    np.testing.assert_array_equal(state["reference_offsets"], [0, 9, 18, 27])


def logits_at(model, images, mask, scale):
    """Returns low-resolution logits [1, h, w, objects] of images[1], from the network's parts."""
    images, mask = images.numpy(), mask.numpy()
    ids = np.unique(mask)
    height, width = (int((d - 1) * np.float32(scale) + 1) for d in mask.shape)
    scaled = tf.compat.v1.image.resize_bilinear(
        images.astype(np.float32), [height, width], align_corners=True
    )
    labels = tf.compat.v1.image.resize_nearest_neighbor(
        np.searchsorted(ids, mask)[None, ..., None].astype(np.int32),
        [height, width],
        align_corners=True,
    )[..., 0]
    clip_of_three = tf.stack([scaled[0], scaled[0], scaled[1]])[None]
    [output] = clip_logits(
        model, clip_of_three, tf.stack([labels] * 3, 1), tf.constant([len(ids)]), training=False
    )
    return tf.transpose(output.logits, [3, 1, 2, 0])


@pytest.mark.parametrize(("merge", "merge_arrays"), [("max", np.max), ("avg", np.mean)])
def test_several_scales_are_merged_on_the_grid_of_the_largest(model, eagerly, merge, merge_arrays):
    scales = (1.0, 0.75, 1.25)
    images, mask = video(2)
    _, probabilities, _ = run_two_frames(Predictor(model, scales=scales, merge=merge))
    grid = [int((d - 1) * 1.25 / 4 + 1) for d in SIZE]
    parts = [
        tf.compat.v1.image.resize_bilinear(
            logits_at(model, images, mask, scale), grid, align_corners=True
        )
        for scale in scales
    ]
    merged = merge_arrays(np.stack(parts), axis=0)
    full = tf.compat.v1.image.resize_bilinear(merged, SIZE, align_corners=True)[0]
    np.testing.assert_allclose(probabilities, tf.nn.softmax(full), atol=1e-4)
    assert np.abs(parts[0] - merged).max() > 1e-3


def run_two_frames(predictor):
    images, mask = video(2)
    return predictor.step(images[1], predictor.start(images[0], mask))


def test_the_merged_result_is_fed_back_to_every_scale(model, eagerly):
    ids, _, state = run_two_frames(Predictor(model, scales=(1.0, 0.5)))
    indices = np.searchsorted(state["object_ids"], ids)[None, ..., None]
    half = tf.compat.v1.image.resize_nearest_neighbor(indices, [33, 41], align_corners=True)
    for suffix, labels, grid in (("", indices, [17, 21]), ("_scale_1", half, [9, 11])):
        expected = tf.compat.v1.image.resize_nearest_neighbor(labels, grid, align_corners=True)
        np.testing.assert_array_equal(state[f"previous_indices{suffix}"], expected[0, ..., 0])
        assert state[f"previous_masks{suffix}"].shape == [3, *grid]
        assert state[f"previous_embeddings{suffix}"].shape == [*grid, 8]


def test_a_single_scale_of_one_equals_no_pyramid(model, eagerly):
    plain, pyramid = (run_two_frames(Predictor(model, **s)) for s in ({}, {"scales": (1.0,)}))
    np.testing.assert_array_equal(plain[1], pyramid[1])
    images, mask = video(2)
    expected = tf.compat.v1.image.resize_bilinear(
        logits_at(model, images, mask, 1.0), SIZE, align_corners=True
    )[0]
    np.testing.assert_allclose(plain[1], tf.nn.softmax(expected), atol=1e-5)


@pytest.fixture(scope="module")
def decided_model():
    """Returns a network whose probabilities clearly differ."""
    return small_model.create(magnified="logits/semantic/weights")


def test_flipped_frames_are_matched_with_flipped_frames_and_the_logits_averaged(
    decided_model, eagerly
):
    images, mask = video(2)
    plain, flipped = (
        tf.compat.v1.image.resize_bilinear(
            logits_at(decided_model, *clip, 1.0), SIZE, align_corners=True
        ).numpy()[0]
        for clip in ((images, mask), (images[:, :, ::-1], mask[:, ::-1]))
    )
    expected = tf.nn.softmax((plain + flipped[:, ::-1]) / 2)
    assert np.abs(expected - tf.nn.softmax(plain)).max() > 0.05
    _, probabilities, _ = run_two_frames(Predictor(decided_model, flip=True))
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)


def test_with_flip_a_flipped_video_gives_flipped_probabilities(decided_model, eagerly):
    predictor = Predictor(decided_model, flip=True, scales=(1.0, 0.5), gate_radius=9)
    images, mask = video(3)
    found = []
    for clip, first in ((images, mask), (images[:, :, ::-1], mask[:, ::-1])):
        state = predictor.start(clip[0], first)
        for image in clip[1:]:
            _, probabilities, state = predictor.step(image, state)
        found.append(probabilities.numpy())
    assert np.abs(found[0] - found[0][:, ::-1]).max() > 0.05
    np.testing.assert_allclose(found[0], found[1][:, ::-1], atol=1e-3)


def test_probabilities_can_be_fed_back(model, eagerly):
    _, _, state = run_two_frames(Predictor(model, feedback="probabilities", scales=(1.0, 0.5)))
    for suffix in ("", "_scale_1"):
        masks = state[f"previous_masks{suffix}"].numpy()
        np.testing.assert_allclose(masks.sum(0), 1.0, atol=1e-5)
        assert ((masks > 0.01) & (masks < 0.99)).any()


def test_no_object_is_lost_at_a_small_scale():
    mask = np.zeros((65, 81), np.uint8)
    mask[10:30, 10:30] = 2
    mask[50, 61] = 9
    mask[0] = 255
    ids = tf.constant([0, 2, 9])
    indices = multi_scale.downsample_given(
        object_labels.to_indices(mask, ids), tf.range(tf.size(ids)), 0.5, tf.constant([9, 11])
    )
    assert set(np.unique(indices)) == {-1, 0, 1, 2}


def test_settings_out_of_range_are_rejected(model):
    for settings, sentence in (
        ({"scales": ()}, "Predictor.scales: expected at least one"),
        ({"scales": (1.0, 0.0)}, "all above 0"),
        ({"merge": "min"}, "Predictor.merge: expected 'max' or 'avg', found 'min'"),
        ({"feedback": "hard"}, "Predictor.feedback: expected 'labels' or 'prob.*, found 'hard'"),
        ({"max_reference_pixels": -1}, "Predictor.max_reference_pixels"),
        ({"background_factor": 0}, "Predictor.background_factor: expected int of 1 to 100"),
        ({"gate_radius": -1}, "Predictor.gate_radius: expected int of 0 to 1000, found -1"),
        ({"scales": 1.0}, r"Predictor.scales: expected Sequence\[float\], found 1.0"),
        ({"feedback": True}, "Predictor.feedback: expected 'labels' or .*, found True"),
        ({"reference_reduction": "median"}, "Predictor.reference_reduction.*'median'"),
    ):
        with pytest.raises(InputError, match=sentence):
            Predictor(model, **settings)

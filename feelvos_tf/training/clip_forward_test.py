"""Frames after the current one: each is predicted with the mask predicted for the one before."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.feelvos_test import SIZE, small_model
from feelvos_tf.training import clip_forward
from feelvos_tf.training.clip_forward import clip_logits


@pytest.fixture(scope="module")
def model():
    return small_model()


def rollout_batch(frames):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (1, frames, 7, 8)).repeat(7, 2).repeat(9, 3)
    return {
        "images": tf.constant(rng.integers(0, 256, (1, frames, *SIZE, 3)), tf.float32),
        "labels": tf.constant(labels[:, :, : SIZE[0], : SIZE[1]], tf.int32),
        "num_objects": tf.constant([3]),
    }


def test_further_frames_do_not_change_the_current_one(model):
    batch = rollout_batch(5)
    (long,) = clip_logits(model, **batch, training=False)
    short = {**batch, "images": batch["images"][:, :3], "labels": batch["labels"][:, :3]}
    (single,) = clip_logits(model, **short, training=False)
    assert len(long.further_logits) == 2 and single.further_logits == ()
    np.testing.assert_allclose(long.logits, single.logits, atol=1e-5)


def test_a_rollout_predicts_what_the_predictor_does(model):
    batch = rollout_batch(4)
    # In the predictor's first step, the reference itself is the previous frame.
    images = tf.stack([batch["images"][0, i] for i in (0, 0, 2, 3)])[tf.newaxis]
    labels = tf.stack([batch["labels"][0, i] for i in (0, 0, 2, 3)])[tf.newaxis]
    (clip,) = clip_logits(model, images, labels, batch["num_objects"], training=False)
    predictor = Predictor(model)
    frames = tf.cast(images[0], tf.uint8)
    state = predictor.start(frames[0], tf.cast(labels[0, 0], tf.uint8))
    for frame, logits in zip(frames[2:], [clip.logits, *clip.further_logits]):
        ids, _, state = predictor.step(frame, state)
        full = tf.compat.v1.image.resize_bilinear(logits, SIZE, align_corners=True)
        expected = tf.argmax(full[..., 0], 0)
        assert np.mean(ids.numpy() == expected.numpy()) > 0.999
    assert len(np.unique(ids)) > 1


def test_no_gradient_flows_through_the_mask_that_is_fed_back(model):
    batch = rollout_batch(4)
    with tf.GradientTape() as tape:
        (clip,) = clip_logits(model, **batch, training=True)
        following = tf.reduce_sum(clip.further_logits[0])
    assert tape.gradient(following, model.head.logits.trainable_variables)[0] is not None
    logits = tf.Variable(clip.logits)
    with tf.GradientTape() as tape:
        embeddings = tf.zeros([*logits.shape[1:3], 8])
        masks = clip_forward._fed_back(logits, embeddings, tf.constant(SIZE), "labels").masks
        total = tf.reduce_sum(masks**2)
    assert tape.gradient(total, logits) is None


@pytest.fixture
def soft_feedback():
    gin.bind_parameter("roll_out.feedback", "probabilities")
    yield
    gin.clear_config()


@pytest.mark.usefixtures("soft_feedback")
def test_probabilities_are_fed_back_with_their_gradient_as_in_the_release():
    """Without previous-frame matching, they are the softmax over objects at stride 4."""
    model = small_model(previous_frame_matching="none")
    seen = []
    segment = model.segment

    def watched(features, embeddings, reference, previous, training, seed):
        seen.append(previous.masks)
        return segment(features, embeddings, reference, previous, training, seed)

    model.segment = watched
    kernel = model.head.logits.kernel
    with tf.GradientTape() as tape:
        (clip,) = clip_logits(model, **rollout_batch(4), training=True)
        total = tf.reduce_sum(seen[1] ** 2)
    logits = clip.logits.numpy()[..., 0].astype(np.float64)
    exponential = np.exp(logits - logits.max(0))
    np.testing.assert_allclose(seen[1], exponential / exponential.sum(0), atol=1e-6)
    assert np.abs(tape.gradient(total, kernel)).max() > 0

import re

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.feelvos import ClipOutput
from feelvos_tf.training.losses import (
    BootstrappedCrossEntropy,
    LossInputs,
    is_regularized,
    weight_decay_loss,
)

KEY = re.compile(r"loss_(up|down)_topk([\d.]+)(?:_mine(\d+))?_step(\d+)")


@pytest.fixture(scope="module")
def release(golden):
    return dict(np.load(golden / "loss.npz"))


def golden_settings(release):
    for key in release:
        match = KEY.fullmatch(key)
        if match:
            up, top_k, mining, step = match.groups()
            yield key[5:], up == "up", float(top_k), int(mining or 0), int(step)


def test_loss_and_gradient_equal_the_release_at_every_golden_setting(release):
    settings = list(golden_settings(release))
    assert len(settings) == 32
    for suffix, upsample, top_k, mining, step in settings:
        loss = BootstrappedCrossEntropy(top_k, mining, upsample)
        for video in range(2):
            logits = tf.constant(release[f"logits{video}"].transpose(3, 1, 2, 0))
            labels = tf.constant(release["labels"][video, :, :, 0])
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss.of_frames([(logits, labels)], tf.constant(step, tf.int64))
            gradient = tape.gradient(value, logits).numpy().transpose(3, 1, 2, 0)
            np.testing.assert_allclose(value, release[f"loss_{suffix}"][video], rtol=1e-5)
            np.testing.assert_allclose(gradient, release[f"grad{video}_{suffix}"], atol=1e-6)


def test_the_defaults_are_the_release_s(release):
    value = BootstrappedCrossEntropy().of_frames(
        [(release["logits0"].transpose(3, 1, 2, 0), release["labels"][0, :, :, 0])],
        tf.constant(50_000, tf.int64),
    )
    np.testing.assert_allclose(
        value, release["loss_up_topk0.15_mine100000_step50000"][0], rtol=1e-5
    )


def test_void_pixels_are_never_a_target():
    logits = tf.random.stateless_normal([3, 4, 5, 1], seed=[1, 2])
    labels = np.array(np.random.default_rng(0).integers(0, 3, (13, 17)), np.int32)
    labels[:4] = 255
    loss = BootstrappedCrossEntropy(hard_example_mining_step=100)
    step = tf.constant(0, tf.int64)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss.of_frames([(logits, labels)], step)
    assert np.all(tape.gradient(value, logits).numpy()[:, 0] == 0)
    assert float(loss.of_frames([(logits, np.full_like(labels, 255))], step)) == 0


def test_permuting_the_objects_does_not_change_the_loss():
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((3, 4, 5, 1)).astype(np.float32)
    labels = rng.integers(0, 3, (13, 17)).astype(np.int32)
    order = np.array([2, 0, 1])
    step = tf.constant(100_000, tf.int64)
    permuted = BootstrappedCrossEntropy().of_frames(
        [(logits[order], np.argsort(order)[labels])], step
    )
    np.testing.assert_allclose(
        permuted, BootstrappedCrossEntropy().of_frames([(logits, labels)], step), rtol=1e-6
    )


def test_only_full_and_pointwise_kernels_are_regularized():
    names = {
        "aspp0/weights": True,
        "logits/semantic/weights": True,
        "aspp1_depthwise/depthwise_weights": False,
        "embedding/split_separable_conv2d_pointwise/biases": False,
        "aspp0/BatchNorm/gamma": False,
    }
    assert {name: is_regularized(name) for name in names} == names
    variables = {name: tf.constant([1.0, 2.0]) for name in names}
    np.testing.assert_allclose(weight_decay_loss(variables, 0.1), 2 * 0.1 * 2.5)


def release_loss(logits, labels, count):
    """Returns the release's loss of a clip's predicted frames, and its gradient, in NumPy.

    Args:
      logits: of each frame, [objects, height, width, 1].
      labels: of each frame, [height, width].
      count: number of hardest pixels that count.
    """
    flat = np.concatenate([each[..., 0].reshape(len(each), -1).T for each in logits])
    target = np.concatenate([each.ravel() for each in labels])
    probabilities = np.exp(flat - flat.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    valid = target != 255
    rows = np.arange(len(target))
    losses = np.where(valid, -np.log(probabilities[rows, np.where(valid, target, 0)]), 0.0)
    hardest = np.argsort(-losses, kind="stable")[:count]
    hardest = hardest[valid[hardest]]
    gradient = np.zeros_like(flat)
    gradient[hardest] = probabilities[hardest]
    gradient[hardest, target[hardest]] -= 1.0
    return losses[hardest].mean(), gradient / len(hardest)


def test_the_hardest_pixels_of_a_clip_s_frames_are_chosen_together_as_in_the_release():
    rng = np.random.default_rng(5)
    logits = [scale * rng.standard_normal((3, 5, 6, 1)) for scale in (0.5, 3.0)]
    labels = rng.integers(0, 3, (4, 5, 6)).astype(np.int32)
    labels[2:, 0] = 255
    tensors = [tf.constant(each, tf.float32) for each in logits]
    step = tf.constant(50, tf.int64)

    def loss_of(**settings):
        output = ClipOutput(tensors[0], None, None, further_logits=(tensors[1],))
        clip = LossInputs(output, tf.constant(labels), tf.constant(3), step, None)
        return BootstrappedCrossEntropy(0.2, 100, **settings)(clip)

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = loss_of()
    # Halfway between all 60 pixels and a fifth of them, void ones included.
    expected, gradient = release_loss(logits, labels[2:], int(0.6 * 60))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    found = np.concatenate(
        [g.numpy()[..., 0].reshape(3, -1).T for g in tape.gradient(value, tensors)]
    )
    np.testing.assert_allclose(found, gradient, atol=1e-7)
    each = [release_loss(logits[i : i + 1], labels[2 + i : 3 + i], 18)[0] for i in (0, 1)]
    np.testing.assert_allclose(loss_of(pool_frames=False), np.mean(each), rtol=1e-5)
    assert abs(np.mean(each) - expected) > 0.01

import numpy as np
import tensorflow as tf

from feelvos_tf.testing.tiny_model import TinyModel, tiny_batch
from feelvos_tf.training.clip_forward import BATCH_KEYS, clip_logits
from feelvos_tf.training.losses import BootstrappedCrossEntropy
from feelvos_tf.training.optimizers import MomentumOptimizer
from feelvos_tf.training.train_step import (
    Objective,
    TrainState,
    TrainStep,
    mean_object_iou,
    new_step,
)

DECAY = 0.1


def make_step(model, optimizer=None, **settings):
    names = model.named_variables()
    state = TrainState(new_step(), optimizer or MomentumOptimizer(names))
    return TrainStep(model, names, state, 100, Objective(weight_decay=DECAY, **settings))


def clip_losses(model, batch):
    clips = clip_logits(model, *(tf.constant(batch[key]) for key in BATCH_KEYS), True)
    loss = BootstrappedCrossEntropy()
    return [
        float(loss.of_frames([(clip.logits, batch["labels"][i, 2])], tf.constant(0, tf.int64)))
        for i, clip in enumerate(clips)
    ]


def test_the_clips_of_a_replica_are_summed_and_weight_decay_is_added_once():
    model = TinyModel()
    batch = tiny_batch(3, seed=1)
    expected = sum(clip_losses(model, batch))
    decay = DECAY * 0.5 * float(tf.reduce_sum(model.weights_**2))
    scalars = make_step(model)(batch, 3).scalars
    np.testing.assert_allclose(scalars["cross_entropy"], expected, rtol=1e-5)
    np.testing.assert_allclose(scalars["regularization"], decay, rtol=1e-5)
    np.testing.assert_allclose(scalars["loss"], expected + decay, rtol=1e-5)


def test_a_step_descends_along_the_doubled_and_clipped_gradient():
    model = TinyModel()
    batch = tiny_batch(2, seed=1)
    train_step = make_step(model)
    gradients, _ = train_step.gradients({k: tf.constant(v) for k, v in batch.items()})
    before = {name: v.numpy() for name, v in model.named_variables().items()}
    train_step(batch, 2)
    for name, factor in [("logits/weights", 1), ("logits/biases", 2)]:
        gradient = factor * gradients[name].numpy()
        gradient *= min(1, 5.0 / np.linalg.norm(gradient))
        np.testing.assert_allclose(
            model.named_variables()[name], before[name] - 0.0007 * gradient, rtol=1e-6
        )


def test_a_variable_without_gradient_does_not_change():
    model = TinyModel()
    make_step(model)(tiny_batch(1, seed=0), 1)
    assert float(model.unused[0]) == 1.0


def test_the_loss_uses_the_current_frame_only():
    model = TinyModel()
    batch = tiny_batch(1, seed=2)
    expected = make_step(TinyModel())(batch, 1).scalars["loss"]
    batch["labels"][:, :2] = 0
    np.testing.assert_allclose(make_step(model)(batch, 1).scalars["loss"], expected)


def test_varying_object_counts_do_not_retrace_the_graph():
    train_step = make_step(TinyModel())
    for seed in range(3):
        batch = tiny_batch(2, seed)
        batch["num_objects"] = np.array([2, 2 + seed], np.int32)
        train_step({k: tf.constant(v) for k, v in batch.items()}, 2)
    assert train_step.__call__.experimental_get_tracing_count() == 1


def test_summed_clips_sets_how_many_losses_are_summed():
    """Three groups of one clip are averaged, as in the release on three GPUs."""
    batch = tiny_batch(3, seed=1)
    expected = sum(clip_losses(TinyModel(), batch)) / 3
    scalars = make_step(TinyModel(), summed_clips=1)(batch, 3).scalars
    np.testing.assert_allclose(scalars["cross_entropy"], expected, rtol=1e-5)
    decay = DECAY * 0.5 * float(tf.reduce_sum(TinyModel().weights_ ** 2))
    np.testing.assert_allclose(scalars["regularization"], decay, rtol=1e-5)
    # More than the batch has: each clip counts once.
    scalars = make_step(TinyModel(), summed_clips=4)(batch, 3).scalars
    np.testing.assert_allclose(scalars["cross_entropy"], 3 * expected, rtol=1e-5)


def test_the_loss_of_a_rollout_is_the_mean_over_its_frames():
    model = TinyModel()
    batch = tiny_batch(1, seed=1, frames=5)
    loss = BootstrappedCrossEntropy()
    (clip,) = clip_logits(model, *(tf.constant(batch[key]) for key in BATCH_KEYS), True)
    losses = [
        float(loss.of_frames([(logits, batch["labels"][0, 2 + frame])], tf.constant(0, tf.int64)))
        for frame, logits in enumerate([clip.logits, *clip.further_logits])
    ]
    assert len(losses) == 3
    scalars = make_step(model)(batch, 1).scalars
    np.testing.assert_allclose(scalars["cross_entropy"], np.mean(losses), rtol=1e-5)


def test_training_miou_equals_the_release_s(golden):
    release = np.load(golden / "ious.npz")
    predicted, truth = release["pred"].astype(np.int32), release["gt"].astype(np.int32)
    np.testing.assert_allclose(
        mean_object_iou(predicted, truth, 3), release["multi_object_miou_tf"], rtol=1e-5
    )
    np.testing.assert_allclose(
        [mean_object_iou(p, t, 3) for p, t in zip(predicted, truth)],
        release["multi_object_miou_tf_frames"],
        rtol=1e-5,
    )
    assert float(mean_object_iou(predicted, np.zeros_like(truth), 3)) == 1.0


def test_training_miou_ignores_void():
    labels = np.array([[0, 1, 255, 255]], np.int32)
    assert float(mean_object_iou(np.array([[0, 1, 1, 0]], np.int32), labels, 2)) == 1.0

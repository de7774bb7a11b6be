"""16 bits inside the network, 32 outside, and a loss that is scaled for float16."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing import small_model
from feelvos_tf.testing.tiny_model import TinyModel, tiny_batch
from feelvos_tf.training import mixed_precision
from feelvos_tf.training.clip_forward import clip_logits
from feelvos_tf.training.losses import BootstrappedCrossEntropy
from feelvos_tf.training.mixed_precision import LossScale
from feelvos_tf.training.optimizers import AdamOptimizer, MomentumOptimizer
from feelvos_tf.training.train_step import Objective, TrainState, TrainStep, new_step
from feelvos_tf.training.triplet_loss import TripletLoss

PRECISIONS = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def update(precision):
    """Returns the network, the scalars of one update, and its gradients."""
    with mixed_precision.layers(precision):
        model = small_model.create()
    variables = release_names(model)
    names = {name: v for name, v in variables.items() if v.trainable}
    loss_scale = LossScale() if model.compute_dtype == "float16" else None
    state = TrainState(new_step(), MomentumOptimizer(names), loss_scale=loss_scale)
    losses = [BootstrappedCrossEntropy(), TripletLoss(weight=1.0)]
    train_step = TrainStep(model, names, state, 100, Objective(losses, weight_decay=0.01))
    batch = {key: tf.constant(value) for key, value in tiny_batch(2, seed=1).items()}
    gradients, result = train_step.gradients(batch, tf.constant([[1, 2], [3, 4]], tf.int64))
    return model, variables, batch, gradients, result.scalars


@pytest.fixture(scope="module")
def exact():
    return update("float32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_network_computes_in_16_bits_and_everything_around_it_in_32(precision, exact):
    model, variables, batch, gradients, scalars = update(precision)
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    assert {v.dtype for v in variables.values()} == {tf.float32}
    assert {g.dtype for g in gradients.values()} == {tf.float32}
    low_level, deep = model.backbone(batch["images"][:, 0])
    assert low_level.dtype == deep.dtype == PRECISIONS[precision]
    features = model.extract(batch["images"][:, 0])
    assert features.embeddings.dtype == features.decoder_features.dtype == tf.float32
    [clip, _] = clip_logits(
        model, batch["images"], batch["labels"], batch["num_objects"], training=True
    )
    maps = (clip.logits, clip.global_map, clip.local_map, clip.embeddings)
    assert {each.dtype for each in maps} == {tf.float32}
    for name in ("loss", "cross_entropy"):
        assert scalars[name].dtype == tf.float32
        np.testing.assert_allclose(scalars[name], exact[-1][name], rtol=0.03)
    # Rounded, but not enough to change direction.
    ours, theirs = (
        np.concatenate([np.ravel(g[name]) for name in sorted(g)]) for g in (gradients, exact[-2])
    )
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert 0.9 < cosine < 1.0 - 1e-9


def make_step(model, optimizer, loss_scale):
    state = TrainState(new_step(), optimizer, loss_scale=loss_scale)
    objective = Objective(weight_decay=0.01)
    return TrainStep(model, model.named_variables(), state, 100, objective)


class Overflowing(TinyModel):
    """A model whose gradients are not finite while `spoiled` is 1."""

    def __init__(self):
        super().__init__()
        self.spoiled = tf.Variable(0.0, trainable=False)

    def extract(self, images, training, seeds=None):
        factor = tf.where(self.spoiled > 0, np.inf, 1.0)
        return super().extract(images * factor, training, seeds)


@pytest.mark.parametrize("optimizer", [MomentumOptimizer, AdamOptimizer])
def test_an_update_that_overflows_is_skipped_and_the_scale_halved(optimizer):
    model = Overflowing()
    names, scale = model.named_variables(), LossScale()
    updates = optimizer(names)
    train_step = make_step(model, updates, scale)
    before = scale.scale.numpy()
    train_step(tiny_batch(2, seed=1), 2)
    assert scale.scale.numpy() == before and scale.good_steps.numpy() == 1
    state = [v.numpy() for v in (*names.values(), *updates.variables)]
    model.spoiled.assign(1.0)
    train_step(tiny_batch(2, seed=2), 2)
    assert scale.scale.numpy() == before / 2 and scale.good_steps.numpy() == 0
    for old, variable in zip(state, (*names.values(), *updates.variables)):
        np.testing.assert_array_equal(old, variable)
    model.spoiled.assign(0.0)
    train_step(tiny_batch(2, seed=2), 2)
    assert (names["logits/weights"].numpy() != state[0]).any()


def test_a_scaled_loss_gives_the_same_weights():
    weights = []
    for scale in (None, LossScale()):
        model = TinyModel()
        names = model.named_variables()
        train_step = make_step(model, MomentumOptimizer(names), scale)
        for seed in range(3):
            train_step(tiny_batch(2, seed=seed), 2)
        weights.append(names["logits/weights"].numpy())
    np.testing.assert_allclose(*weights, rtol=1e-6)


def test_the_scale_grows_after_many_good_steps():
    scale = LossScale()
    before = scale.scale.numpy()
    scale.good_steps.assign(1999.0)
    scale.update(tf.constant(True))
    assert scale.scale.numpy() == 2 * before and scale.good_steps.numpy() == 0


def test_an_unknown_policy_is_refused_in_one_sentence():
    with pytest.raises(
        InputError, match="set_mixed_precision.policy: expected 'float32', 'mixed_bfloat16' or"
    ):
        mixed_precision.set_mixed_precision(policy="float16")

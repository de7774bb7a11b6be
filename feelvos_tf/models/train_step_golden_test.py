"""One training step of xception_65 against the release's: losses, all gradients, new weights.

Golden batch: one clip of 97x97 (reference, previous, current), output stride 16, the release's
default settings. Arrays of gradients and of new weights hold every n-th value of a variable.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing.golden import assert_close_to_golden, build_rule_model
from feelvos_tf.training.clip_forward import clip_logits
from feelvos_tf.training.losses import BootstrappedCrossEntropy, is_regularized
from feelvos_tf.training.optimizers import MomentumOptimizer
from feelvos_tf.training.train_step import Objective, TrainState, TrainStep

NUM_STEPS = 200_000
WEIGHT_DECAY = 0.00004
KEEP = 0.9
# Softmax ignores an offset common to all logits, so this gradient is only rounding noise.
WITHOUT_GRADIENT = "logits/semantic/biases"
SAMPLES = 150
# Largest relative difference of a gradient's norm. If the forward pass rounds differently, a few
# ReLUs and nearest neighbors decide differently, and about 40 of 459 norms without dropout differ
# by 1e-3 to 2.4e-3. (The same network in float64 is no closer: 60 above 1e-3, up to 2.2e-3.)
NORM_TOLERANCE = {"drop": 1e-3, "nodrop": 3e-3}
# Single entries of a gradient, relative to the largest.
ENTRY_TOLERANCE = 1e-2
# Replaces both if the forward pass is the release's to the last bit, as with
# TF_ENABLE_ONEDNN_OPTS=0 on processors like the golden numbers' (Xeon with AVX-512).
TOLERANCE_OF_SAME_ROUNDING = 1e-5


class Made(NamedTuple):
    """Gradients and losses of the golden batch, with or without dropout."""

    which: str
    gradients: dict[str, tf.Tensor]
    scalars: dict[str, tf.Tensor]
    has_same_rounding: bool

    @property
    def norm_tolerance(self) -> float:
        ordinary = NORM_TOLERANCE[self.which]
        return TOLERANCE_OF_SAME_ROUNDING if self.has_same_rounding else ordinary

    @property
    def entry_tolerance(self) -> float:
        return TOLERANCE_OF_SAME_ROUNDING if self.has_same_rounding else ENTRY_TOLERANCE


def fixed_dropout(mask):
    """Returns dropout with a given mask of the values to keep; None keeps all.

    Reproduction trap: kept values are multiplied by 1 / 0.9, not divided by 0.9.
    """
    return lambda x, seed: x if mask is None else x * mask * np.float32(1 / KEEP)


@pytest.fixture(scope="module")
def release(golden):
    arrays = dict(np.load(golden / "train_step.npz"))
    return {k: v.astype(str) if v.dtype.kind == "S" else v for k, v in arrays.items()}


@pytest.fixture(scope="module")
def model():
    """Returns a model for this module alone: the last test changes its weights."""
    return build_rule_model("xception_65", 16)


@pytest.fixture(scope="module")
def variables(model):
    return {n: v for n, v in release_names(model).items() if v.trainable}


@pytest.fixture(scope="module")
def optimizer(variables):
    return MomentumOptimizer(variables)


@pytest.fixture(scope="module")
def step():
    return tf.Variable(0, dtype=tf.int64)


@pytest.fixture(scope="module")
def train_step(model, variables, optimizer, step):
    objective = Objective(weight_decay=WEIGHT_DECAY)
    return TrainStep(model, variables, TrainState(step, optimizer), NUM_STEPS, objective)


@pytest.fixture(scope="module")
def batch(release):
    return {
        "images": tf.constant(release["images"][np.newaxis], tf.float32),
        "labels": tf.constant(release["labels"][np.newaxis], tf.int32),
        "num_objects": tf.constant([3]),
    }


@pytest.fixture(scope="module")
def dropout_mask(release):
    shape = release["dropout_mask_shape"]
    return np.unpackbits(release["dropout_mask"], count=shape.prod()).reshape(shape)


@pytest.fixture(scope="module", params=["nodrop", "drop"])
def made(request, release, train_step, model, batch, dropout_mask) -> Made:
    mask = dropout_mask.astype(np.float32) if request.param == "drop" else None
    model.aspp.dropout = fixed_dropout(mask)
    gradients, result = train_step.gradients(batch)
    same = rounds_the_same(model, batch, release[f"{request.param}_embeddings_sub"])
    return Made(request.param, gradients, result.scalars, same)


def rounds_the_same(model, batch, golden_embeddings) -> bool:
    """Returns whether the forward pass gives the golden embeddings to the last bit."""
    [clip] = clip_logits(model, **batch, training=True)
    return np.array_equal(clip.embeddings[:, ::4, ::4], golden_embeddings)


def sample(value) -> np.ndarray:
    flat = np.asarray(value).ravel()
    return flat[:: max(1, flat.size // SAMPLES)]


def test_the_trained_variables_are_the_release_s(release, variables):
    assert set(variables) == set(release["grad_names"])


def test_the_regularized_variables_are_the_release_s(release, variables):
    names = release["regularised_variables"]
    assert {name for name in variables if is_regularized(name)} == set(names)
    ours = [WEIGHT_DECAY * tf.nn.l2_loss(variables[name]) for name in names]
    np.testing.assert_allclose(ours, release["regularised_values"], rtol=1e-3)


def test_losses(release, made):
    found = [made.scalars[name] for name in ("loss", "cross_entropy", "regularization")]
    np.testing.assert_allclose(found, release[f"{made.which}_losses"], rtol=1e-4)


def test_norms_of_all_gradients_raw_and_clipped(release, made, optimizer):
    which, gradients, rtol = made.which, made.gradients, made.norm_tolerance
    names = [name for name in release["grad_names"] if name != WITHOUT_GRADIENT]
    rows = [i for i, name in enumerate(release["grad_names"]) if name != WITHOUT_GRADIENT]
    raw = [tf.norm(gradients[name]) for name in names]
    np.testing.assert_allclose(raw, release[f"{which}_gradnorm_raw"][rows], rtol=rtol)
    clipped = [tf.norm(optimizer.transform(name, gradients[name])) for name in names]
    expected = release[f"{which}_gradnorm_after_clip"][rows]
    np.testing.assert_allclose(clipped, expected, rtol=rtol)
    assert (expected > 4.9).any(), "some gradient must be long enough to be clipped"


def test_norms_after_the_doubling_of_biases(release, made, variables):
    which, gradients, rtol = made.which, made.gradients, made.norm_tolerance
    without_clipping = MomentumOptimizer(variables, clip_gradient_norm=0)
    for i, name in enumerate(release["grad_names"]):
        if name != WITHOUT_GRADIENT:
            norm = tf.norm(without_clipping.transform(name, gradients[name]))
            expected = release[f"{which}_gradnorm_after_bias_doubling"][i]
            np.testing.assert_allclose(norm, expected, rtol=rtol, err_msg=name)


def test_gradients_of_chosen_variables(release, made):
    for name in release["watch_names"]:
        if name != WITHOUT_GRADIENT:
            assert_close_to_golden(
                sample(made.gradients[name]),
                release[f"{made.which}_grad/{name}"],
                made.entry_tolerance,
            )


def test_logits_and_embeddings_of_the_clip(release, model, batch, dropout_mask):
    for which, mask in (("nodrop", None), ("drop", dropout_mask.astype(np.float32))):
        model.aspp.dropout = fixed_dropout(mask)
        [clip] = clip_logits(model, **batch, training=True)
        assert_close_to_golden(clip.logits[..., 0], release[f"{which}_logits"])
        assert_close_to_golden(clip.embeddings[:, ::4, ::4], release[f"{which}_embeddings_sub"])


def test_cross_entropy_over_the_hardest_pixels_later_in_training(release, model, batch):
    model.aspp.dropout = fixed_dropout(None)
    [clip] = clip_logits(model, **batch, training=True)
    for step, expected in release["cross_entropy_at_steps"]:
        loss = BootstrappedCrossEntropy().of_frames(
            [(clip.logits, batch["labels"][0, 2])], int(step)
        )
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.fixture
def restored_afterwards(variables, step):
    before = {name: variable.numpy() for name, variable in variables.items()}
    yield
    step.assign(0)
    for name, variable in variables.items():
        variable.assign(before[name])


@pytest.mark.slow
@pytest.mark.usefixtures("restored_afterwards")
def test_three_steps_descend_as_in_the_release(release, train_step, model, variables, batch):
    model.aspp.dropout = fixed_dropout(None)
    # Differences in rounding grow from step to step.
    same = rounds_the_same(model, batch, release["nodrop_embeddings_sub"])
    rtol = 1e-3 if same else 2e-2
    for i in range(3):
        scalars = train_step(batch, 1).scalars
        found = [scalars[name] for name in ("loss", "cross_entropy", "learning_rate")]
        np.testing.assert_allclose(found, release["step_losses"][i], rtol=rtol)
        if i in (0, 2):
            for name in release["watch_names"]:
                expected = release[f"after_step{i + 1}/{name}"]
                assert_close_to_golden(sample(variables[name]), expected)
    [clip] = clip_logits(model, **batch, training=True)
    loss = BootstrappedCrossEntropy().of_frames([(clip.logits, batch["labels"][0, 2])], 3)
    np.testing.assert_allclose(loss, release["step_losses"][3, 1], rtol=rtol)

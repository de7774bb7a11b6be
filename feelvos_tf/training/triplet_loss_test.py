from __future__ import annotations

import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import ClipOutput
from feelvos_tf.testing.tiny_model import TinyModel, tiny_batch
from feelvos_tf.training.clip_forward import BATCH_KEYS, clip_logits
from feelvos_tf.training.losses import LossInputs
from feelvos_tf.training.optimizers import MomentumOptimizer
from feelvos_tf.training.train_step import Objective, TrainState, TrainStep, new_step
from feelvos_tf.training.triplet_loss import TripletLoss

GRID = (5, 6)


@pytest.fixture(autouse=True)
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


def make_clip(seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.uniform(0, 1, (3, *GRID, 4)).astype(np.float32)
    small = rng.integers(0, 3, (3, *GRID)).astype(np.int32)
    small[:, 0] = 255
    small[:2][small[:2] == 2] = 0
    labels = small.repeat(4, 1).repeat(4, 2)
    return embeddings, labels


def embedding_loss(loss, embeddings, labels, num_objects, seed=None):
    output = ClipOutput(None, None, None, embeddings=embeddings)
    return loss(LossInputs(output, labels, num_objects, tf.constant(0), seed))


def reduced(labels):
    """Returns the labels on the grid, with aligned corners and ties to the later pixel."""
    rows, columns = (
        np.floor(np.arange(g) * (d - 1) / (g - 1) + 0.5).astype(int)
        for g, d in zip(GRID, labels.shape[1:])
    )
    return labels[:, rows][:, :, columns]


def slow_loss(embeddings, labels, margin, pick):
    """Returns the loss by its definition, anchor by anchor."""
    labels = reduced(labels)
    others = embeddings[:2].reshape(-1, 4)
    owners = labels[:2].reshape(-1)
    losses = []
    for anchor, owner in zip(embeddings[2].reshape(-1, 4), labels[2].reshape(-1)):
        distances = ((others - anchor) ** 2).sum(-1)
        positives = distances[owners == owner]
        negatives = distances[(owners != owner) & (owners != 255)]
        if owner != 255 and len(positives) and len(negatives):
            losses.append(max(0, pick(positives) - negatives.min() + margin))
    return np.mean(losses)


@pytest.mark.parametrize(("positive", "pick"), [("farthest", np.max), ("nearest", np.min)])
def test_the_loss_follows_its_definition_without_void_and_absent_objects(positive, pick):
    embeddings, labels = make_clip()
    assert 2 in labels[2] and 2 not in labels[:2]
    for margin in (0.0, 0.3):
        loss = embedding_loss(
            TripletLoss(margin=margin, positive=positive), embeddings, labels, tf.constant(3)
        )
        expected = slow_loss(embeddings, labels, margin, pick)
        assert expected > 0
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_clip_without_triplets_costs_nothing_and_has_a_finite_gradient():
    embeddings, labels = make_clip()
    embeddings = tf.Variable(embeddings)
    for one_object in (np.zeros_like(labels), np.full_like(labels, 255)):
        with tf.GradientTape() as tape:
            loss = embedding_loss(TripletLoss(), embeddings, one_object, tf.constant(3))
        assert float(loss) == 0.0
        assert np.isfinite(tape.gradient(loss, embeddings).numpy()).all()


def test_descending_separates_the_objects():
    embeddings, labels = make_clip()
    embeddings = tf.Variable(embeddings)
    loss = TripletLoss(positive="nearest", margin=0.5)
    before = float(embedding_loss(loss, embeddings, labels, tf.constant(3)))
    for _ in range(50):
        with tf.GradientTape() as tape:
            value = embedding_loss(loss, embeddings, labels, tf.constant(3))
        embeddings.assign_sub(tape.gradient(value, embeddings))
    assert np.isfinite(embeddings.numpy()).all()
    assert float(embedding_loss(loss, embeddings, labels, tf.constant(3))) < 0.2 * before


def test_pixels_are_sampled_per_object():
    embeddings, labels = make_clip()
    draws = {
        float(
            embedding_loss(TripletLoss(max_pixels_per_object=1), embeddings, labels, tf.constant(3))
        )
        for _ in range(20)
    }
    assert len(draws) > 1


class WithEmbeddings(TinyModel):
    """A model whose embeddings are scaled colors."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable([0.01], name="scale")

    def named_variables(self):
        return {**super().named_variables(), "embedding/biases": self.scale}

    def extract(self, images, training, seeds=None):
        features = super().extract(images, training, seeds)
        return features._replace(embeddings=tf.image.resize(images, [5, 5]) * self.scale)


def train(model, batch):
    names = model.named_variables()
    state = TrainState(new_step(), MomentumOptimizer(names))
    return TrainStep(model, names, state, 100, Objective(weight_decay=0.0))(batch, 2).scalars


def test_training_adds_the_weighted_loss_of_every_clip():
    batch = tiny_batch(2, seed=1)
    plain = train(WithEmbeddings(), batch)
    assert "triplet" not in plain
    gin.parse_config("TripletLoss.weight = 0.5")
    model = WithEmbeddings()
    clips = clip_logits(model, *(tf.constant(batch[key]) for key in BATCH_KEYS), True)
    expected = 0.5 * sum(
        float(
            embedding_loss(TripletLoss(), clip.embeddings, batch["labels"][i], tf.constant(2 + i))
        )
        for i, clip in enumerate(clips)
    )
    scalars = train(model, batch)
    assert expected > 0
    np.testing.assert_allclose(scalars["triplet"], expected, rtol=1e-5)
    np.testing.assert_allclose(scalars["loss"], plain["loss"] + expected, rtol=1e-5)
    assert float(model.scale[0]) != np.float32(0.01)


def test_training_works_without_cross_entropy():
    gin.parse_config("TripletLoss.weight = 1.0\nBootstrappedCrossEntropy.weight = 0.0")
    model = WithEmbeddings()
    scalars = train(model, tiny_batch(2, seed=1))
    np.testing.assert_allclose(scalars["loss"], scalars["triplet"], rtol=1e-6)
    assert "cross_entropy" not in scalars
    np.testing.assert_array_equal(model.weights_, TinyModel().weights_)
    assert float(model.scale[0]) != np.float32(0.01)


def test_settings_out_of_range_are_refused():
    for settings in ({"weight": -1}, {"margin": -0.1}, {"max_pixels_per_object": 0}):
        with pytest.raises(InputError, match="TripletLoss.*: expected"):
            TripletLoss(**settings)
    with pytest.raises(InputError, match="TripletLoss.positive: .*found 'hard'"):
        TripletLoss(positive="hard")


def test_the_previous_frame_can_be_left_out():
    rng = np.random.default_rng(0)
    embeddings = tf.constant(rng.normal(size=(3, 5, 6, 4)), tf.float32)
    labels = tf.constant(rng.integers(0, 3, (3, 17, 21)), tf.int32)
    changed = tf.concat([labels[:1], 2 - labels[1:2], labels[2:]], 0)
    alone = TripletLoss(1.0, use_previous_frame=False)
    both = TripletLoss(1.0)
    count, seed = tf.constant(3), tf.constant([1, 2])
    assert float(embedding_loss(alone, embeddings, labels, count, seed)) == float(
        embedding_loss(alone, embeddings, changed, count, seed)
    )
    assert float(embedding_loss(both, embeddings, labels, count, seed)) != float(
        embedding_loss(both, embeddings, changed, count, seed)
    )


def release_triplets(embeddings, labels, margin):
    """Returns the release's loss with all reference pixels as anchors, and its gradient."""
    labels = reduced(labels)
    anchors, owners = embeddings[0].reshape(-1, 4), labels[0].ravel()
    others, classes = embeddings[1:].reshape(-1, 4), labels[1:].ravel()
    gradient = np.zeros((3, embeddings[0].size // 4, 4))
    loss = 0.0
    for i, (anchor, owner) in enumerate(zip(anchors, owners)):
        distances = ((others - anchor) ** 2).sum(-1)
        positives = np.where((classes == owner) & (owner != 255), distances, np.inf)
        negatives = np.where((classes != owner) & (classes != 255), distances, np.inf)
        near, far = positives.argmin(), negatives.argmin()
        value = positives[near] - negatives[far] + margin
        if np.isfinite(value) and value > 0:
            loss += value / len(anchors)
            rest = gradient[1:].reshape(-1, 4)
            gradient[0, i] += 2 * (others[far] - others[near]) / len(anchors)
            rest[near] += 2 * (others[near] - anchor) / len(anchors)
            rest[far] -= 2 * (others[far] - anchor) / len(anchors)
    return loss, gradient.reshape(embeddings.shape)


@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_loss_and_gradient_equal_the_release_s(margin):
    embeddings, labels = make_clip(3)
    variable = tf.Variable(embeddings)
    every_pixel = TripletLoss(
        sampling="reference", positive="nearest", margin=margin, max_pixels_per_object=1000
    )
    with tf.GradientTape() as tape:
        loss = embedding_loss(every_pixel, variable, labels, tf.constant(3))
    expected, gradient = release_triplets(embeddings.astype(np.float64), labels, margin)
    assert expected > 0
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, variable), gradient, atol=1e-6)


def test_reference_anchors_are_random_pixels_of_any_object():
    embeddings, labels = make_clip(3)
    loss = TripletLoss(sampling="reference", positive="nearest", max_pixels_per_object=5)
    draw = tf.function(lambda seed: embedding_loss(loss, embeddings, labels, tf.constant(3), seed))
    draws = [float(draw(tf.constant([1, i]))) for i in range(200)]
    assert draws[0] == float(draw(tf.constant([1, 0])))
    expected, _ = release_triplets(embeddings.astype(np.float64), labels, 1.0)
    np.testing.assert_allclose(np.mean(draws), expected, rtol=0.1)
    assert np.std(draws) > 0.02


def test_the_release_s_sampling_needs_the_previous_frame():
    with pytest.raises(InputError, match="TripletLoss.use_previous_frame: expected True for"):
        TripletLoss(sampling="reference", use_previous_frame=False)

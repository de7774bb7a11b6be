"""A frozen backbone does not change by a bit, and everything else learns as without freezing."""

from __future__ import annotations

import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.models.weights import load_weights
from feelvos_tf.testing import checkpoint_state, small_model
from feelvos_tf.testing.tiny_model import tiny_batch, tiny_batches
from feelvos_tf.training.optimizers import AdamOptimizer, MomentumOptimizer, is_head
from feelvos_tf.training.train_step import TrainState, TrainStep, new_step
from feelvos_tf.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(autouse=True)
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


def network(freeze=True):
    model = small_model.create()
    model.freeze_backbone = freeze
    return model, release_names(model)


def gradients(freeze):
    model, names = network(freeze)
    learned = {n: v for n, v in names.items() if v.trainable}
    step = TrainStep(model, learned, TrainState(new_step(), MomentumOptimizer(learned)), 100)
    batch = {key: tf.constant(value) for key, value in tiny_batch(1, seed=1).items()}
    found, _ = step.gradients(batch, tf.constant([[1, 2]], tf.int64))
    return {name: gradient.numpy() for name, gradient in found.items()}


def test_the_head_has_the_gradients_of_ordinary_training_and_the_backbone_those_of_decay_alone():
    frozen, ordinary = gradients(True), gradients(False)
    head = {name for name in ordinary if is_head(name)}
    assert 20 < len(head) < len(ordinary)
    for name in head:
        np.testing.assert_allclose(frozen[name], ordinary[name], rtol=1e-5, atol=1e-7, err_msg=name)
    _, names = network()
    for name in frozen.keys() - head:
        np.testing.assert_allclose(frozen[name], 0.00004 * names[name].numpy(), rtol=1e-5)


def make_trainer(folder, optimizer, num_steps):
    model, names = network()
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    arguments = {"optimizer": optimizer, "num_steps": num_steps, "average_decay": 0.5}
    return names, Trainer(model, names, folder, strategy, seed=1, **arguments)


@pytest.mark.parametrize("optimizer", [MomentumOptimizer, AdamOptimizer])
def test_training_moves_all_but_the_backbone_and_can_be_resumed_and_exported(tmp_path, optimizer):
    # The rate must not depend on the number of steps, which differs between the runs.
    gin.parse_config("LearningRate.policy = 'step'\nIntervals.save_every_steps = 1")
    before = {name: variable.numpy() for name, variable in network()[1].items()}
    names, whole = make_trainer(tmp_path / "whole", optimizer, 2)
    whole.train(tiny_batches(1))
    changed = {name for name in before if not np.array_equal(before[name], names[name])}
    assert len(changed) > 20 and all(map(is_head, changed))
    assert set(whole._state.average.averages) == {n for n in names if is_head(n)} & {
        n for n, v in names.items() if v.trainable
    }

    for num_steps in (1, 2):
        make_trainer(tmp_path / "halves", optimizer, num_steps)[1].train(tiny_batches(1))
    expected, found = (checkpoint_state.read(tmp_path / n, 2) for n in ("whole", "halves"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)

    exported = small_model.create(seed=9)
    load_weights(exported, str(tmp_path / "whole/ckpt-2"))
    averages = whole._state.average.averages
    for name, variable in release_names(exported).items():
        value = averages[name].numpy() if name in averages else before[name]
        np.testing.assert_array_equal(variable, value, err_msg=name)

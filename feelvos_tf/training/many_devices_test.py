"""A batch gives the same weights on one device, on several, and in parts."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing import small_model
from feelvos_tf.testing.tiny_model import TinyModel, tiny_batches
from feelvos_tf.training.losses import BootstrappedCrossEntropy
from feelvos_tf.training.optimizers import AdamOptimizer, MomentumOptimizer
from feelvos_tf.training.progress_log import ProgressLog
from feelvos_tf.training.trainer import Trainer
from feelvos_tf.training.triplet_loss import TripletLoss

CLIPS = 4
OPTIMIZERS = {"momentum": MomentumOptimizer, "adam": AdamOptimizer}


def tiny():
    model = TinyModel()
    return model, model.named_variables()


def feelvos():
    """Returns a network with dropout, which draws the pixels that it matches."""
    model = small_model.create()
    model.train_max_neighbors_per_object = 4
    return model, release_names(model)


def trained(make, strategy, folder, optimizer="momentum", num_steps=3, **settings):
    """Returns the losses of all steps and the weights, and averages, after the last."""
    with strategy.scope():
        model, names = make()
        # Hard pixels alone, for the loss whose clips are summed.
        losses = [BootstrappedCrossEntropy(hard_example_mining_step=0)]
        if make is feelvos:
            losses.append(TripletLoss(weight=1.0))
    trainer = Trainer(
        model,
        names,
        folder,
        strategy,
        optimizer=OPTIMIZERS[optimizer],
        losses=losses,
        num_steps=num_steps,
        average_decay=0.9,
        weight_decay=0.01,
        picture_every_steps=0,
        seed=5,
        **settings,
    )
    found = []
    with mock.patch.object(ProgressLog, "add", lambda _, scalars, __: found.append(scalars)):
        assert trainer.train(tiny_batches(CLIPS))
    losses = {name: np.array([float(s[name]) for s in found]) for name in found[0]}
    weights = {name: variable.numpy() for name, variable in names.items()}
    averages = {f"average of {n}": v.numpy() for n, v in trainer._average.averages.items()}
    return losses, {**weights, **averages}


def assert_equal(first, second):
    for ours, theirs in zip(first, second):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_allclose(value, theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)


def one_device():
    return tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_batch_in_parts_gives_the_weights_of_the_whole(tmp_path, optimizer):
    whole = trained(tiny, one_device(), tmp_path / "whole", optimizer)
    for parts in (2, 4):
        in_parts = trained(
            tiny, one_device(), tmp_path / f"{parts}", optimizer, gradient_accumulation_steps=parts
        )
        assert_equal(whole, in_parts)
    assert len(whole[0]["loss"]) == 3 and whole[0]["loss"].std() > 0


def test_so_it_does_with_the_network_its_dropout_and_its_drawn_pixels(tmp_path, eagerly):
    whole = trained(feelvos, one_device(), tmp_path / "whole", num_steps=2)
    in_parts = trained(
        feelvos, one_device(), tmp_path / "parts", num_steps=2, gradient_accumulation_steps=2
    )
    assert_equal(whole, in_parts)


TWO_DEVICES = """
import pathlib, sys
import tensorflow as tf
from feelvos_tf.training import devices, many_devices_test as t
names = devices.logical_processors(2)
folder = pathlib.Path(sys.argv[1])

def compare(which, make, **settings):
    one = t.trained(make, t.one_device(), folder / (which + "one"), **settings)
    strategy = devices.distribution("mirrored", names)
    assert strategy.num_replicas_in_sync == 2
    two = t.trained(make, strategy, folder / (which + "two"), **settings)
    t.assert_equal(one, two)
    parts = {**settings, "gradient_accumulation_steps": 2}
    t.assert_equal(one, t.trained(make, strategy, folder / (which + "parts"), **parts))
    print(which, "agree")
"""
TINY = """
compare("adam", t.tiny, optimizer="adam")
compare("summed", t.tiny, summed_clips=2)
"""
NETWORK = """
compare("network", t.feelvos, num_steps=2)
"""


def run_on_two_devices(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.splitlines()


def test_two_devices_give_the_weights_of_one_with_the_same_batch(tmp_path):
    """With Adam, and with momentum and losses of summed clips."""
    agree = ["adam agree", "summed agree"]
    assert run_on_two_devices(TWO_DEVICES + TINY, tmp_path) == agree


@pytest.mark.slow
def test_so_they_do_with_the_network(tmp_path):
    assert run_on_two_devices(TWO_DEVICES + NETWORK, tmp_path) == ["network agree"]

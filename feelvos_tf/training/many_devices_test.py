"""A batch gives the same weights on one device, on several, and in parts."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest import mock

import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core import gin_settings
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing import small_model
from feelvos_tf.testing.tiny_model import TinyModel, tiny_batch, tiny_batches
from feelvos_tf.training import mixed_precision, optimizers
from feelvos_tf.training.devices import DistributedBatches
from feelvos_tf.training.optimizers import AdamOptimizer, MomentumOptimizer
from feelvos_tf.training.progress_log import ProgressLog
from feelvos_tf.training.train_step import TrainState, TrainStep, new_step
from feelvos_tf.training.trainer import Trainer

OPTIMIZERS = {"momentum": MomentumOptimizer, "adam": AdamOptimizer}
# Only the hardest pixels count, from the first step on.
SETTINGS = """
Objective.weight_decay = 0.01
BootstrappedCrossEntropy.hard_example_mining_step = 0
"""


def tiny():
    model = TinyModel()
    return model, model.named_variables()


def feelvos():
    """Returns a network with dropout that samples its reference pixels."""
    model = small_model.create()
    model.train_max_neighbors_per_object = 4
    return model, release_names(model)


def frozen_float16():
    """Returns the same network in float16, which needs a loss scale, with a frozen backbone."""
    with mixed_precision.layers("mixed_float16"):
        model, names = feelvos()
    model.freeze_backbone = True
    return model, names


def trained(
    make, strategy, folder, optimizer="momentum", num_steps=3, settings="", clips=4, **arguments
):
    """Returns the losses of all steps, and the weights and averages after the last one."""
    gin.clear_config()
    gin.parse_config(SETTINGS + settings)
    with strategy.scope():
        model, names = make()
    trainer = Trainer(
        model,
        names,
        folder,
        strategy,
        optimizer=OPTIMIZERS[optimizer],
        num_steps=num_steps,
        average_decay=0.9,
        seed=5,
        **arguments,
    )
    found = []
    with mock.patch.object(ProgressLog, "add", lambda _, __, scalars, ___: found.append(scalars)):
        assert trainer.train(tiny_batches(clips)) == 0
    gin.clear_config()
    losses = {name: np.array([float(s[name]) for s in found]) for name in found[0]}
    weights = {name: variable.numpy() for name, variable in names.items()}
    averages = trainer._state.average.averages
    return losses, {**weights, **{f"average of {n}": v.numpy() for n, v in averages.items()}}


def assert_equal(first, second, rtol=1e-5, atol=1e-6):
    for ours, theirs in zip(first, second):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_allclose(value, theirs[name], rtol, atol, err_msg=name)


def one_device():
    return tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_accumulated_gradients_give_the_weights_of_the_whole_batch(tmp_path, optimizer, eagerly):
    whole = trained(tiny, one_device(), tmp_path / "whole", optimizer)
    for parts in (2, 4):
        in_parts = trained(
            tiny, one_device(), tmp_path / f"{parts}", optimizer, gradient_accumulation_steps=parts
        )
        assert_equal(whole, in_parts)
    assert len(whole[0]["loss"]) == 3 and whole[0]["loss"].std() > 0


def test_accumulation_keeps_the_network_s_dropout_and_sampled_pixels(tmp_path, eagerly):
    case = {"settings": "TripletLoss.weight = 1.0", "num_steps": 1, "clips": 2}
    whole = trained(feelvos, one_device(), tmp_path / "whole", **case)
    case["gradient_accumulation_steps"] = 2
    assert_equal(whole, trained(feelvos, one_device(), tmp_path / "parts", **case))


ADAM = "AdamOptimizer.{} = {}\n"
CASES = {
    "momentum, summed clips": {"make": tiny, "settings": "Objective.summed_clips = 2"},
    "adam, clipping": {
        "make": tiny,
        "optimizer": "adam",
        "settings": ADAM.format("adaptive_gradient_clipping", 0.01),
    },
    "calibration, triplet loss": {
        "make": feelvos,
        "settings": "TripletLoss.weight = 1.0\nInitialWeights.calibration_clips = 3",
    },
    # Without the epsilon, rounding decides the direction of Adam's step where a gradient is tiny.
    "backbone rate": {
        "make": feelvos,
        "optimizer": "adam",
        "settings": ADAM.format("backbone_rate_multiplier", 0.1) + ADAM.format("epsilon", 0.1),
    },
    "frozen, float16": {"make": frozen_float16, "rtol": 1e-3, "atol": 1e-4},
}


def compare_on_two_devices(folder, names):
    """Prints the name of each case once it gives the same weights on one and two devices."""
    [processor] = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, parts)
    optimizers._USUAL_AFTER = 1.0  # Clips gradients from the second step on.
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    for name in names:
        case = dict(CASES[name])
        # Building the network's graphs would take most of the time.
        tf.config.run_functions_eagerly(case["make"] is not tiny)
        tolerance = {key: case.pop(key) for key in ("rtol", "atol") if key in case}
        if case["make"] is not tiny:
            # With one clip per device, any difference shows in the weights after one step.
            case = {"num_steps": 1, "clips": 2, **case}
        one = trained(strategy=one_device(), folder=f"{folder}/{name} one", **case)
        before = {name: variable.numpy() for name, variable in case["make"]()[1].items()}
        assert any((one[1][name] != value).any() for name, value in before.items())
        two = trained(strategy=strategy, folder=f"{folder}/{name} two", **case)
        assert_equal(one, two, **tolerance)
        if case["make"] is tiny:
            case["gradient_accumulation_steps"] = 2
            in_parts = trained(strategy=strategy, folder=f"{folder}/{name} parts", **case)
            assert_equal(one, in_parts, **tolerance)
        print(name, flush=True)
    tf.config.run_functions_eagerly(True)
    check_the_paper_s_gradient(strategy)


def check_the_paper_s_gradient(strategy):
    """Prints the "-YTB-VOS" recipe once its update on two devices is the release's on two GPUs.

    In the release, each GPU sums the losses of its 3 clips, and the GPUs' gradients are averaged.
    Weight decay is added once; then the gradients of biases are doubled and each is clipped.
    """
    import feelvos_tf.configurables  # noqa: F401

    recipe = "gin_configs/train/davis_2017_as_released.gin"
    gin_settings.parse([recipe], ["training_dataset.records = 'none'"])
    clips = gin.query_parameter("training_dataset.batch_size")
    with strategy.scope():
        model, names = tiny()
        state = TrainState(new_step(), MomentumOptimizer(names))
        step = TrainStep(model, names, state, gin.query_parameter("Trainer.num_steps"))
    before = {name: variable.numpy().astype(np.float64) for name, variable in names.items()}
    batches = DistributedBatches(strategy, tiny_batches(clips), 0, 1)
    with strategy.scope():
        step(next(batches.parts_of(0, [])), batches.clips_per_replica)
    assert batches.clips_per_replica == 3
    batch = tiny_batch(clips, 0)
    gpus = [[clip_gradients(before, batch, i) for i in own] for own in (range(3), range(3, 6))]
    for name, position, decay, factor in (
        ("logits/weights", 0, 0.00004, 1.0),
        ("logits/biases", 1, 0.0, 2.0),
    ):
        sums = [np.sum([gradients[position] for gradients in gpu], 0) for gpu in gpus]
        gradient = factor * (np.mean(sums, 0) + decay * before[name])
        gradient *= min(1.0, 5.0 / np.linalg.norm(gradient))
        found = (before[name] - names[name].numpy()) / 0.0007
        np.testing.assert_allclose(found, gradient, rtol=1e-3, err_msg=name)
    print(recipe)


def clip_gradients(weights, batch, clip):
    """Returns the gradients of a clip's loss for the tiny model's variables, in NumPy."""
    colors = tf.image.resize(batch["images"][clip, 2], [5, 5]).numpy() / 255.0 - 0.5
    labels, objects = batch["labels"][clip, 2], np.arange(batch["num_objects"][clip])
    size = len(labels)
    places = np.arange(size) * 4 / (size - 1)
    enlarge = np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(5)))
    logits = (colors @ weights["logits/weights"] + weights["logits/biases"])[..., 0]
    scores = objects[:, None, None] * (enlarge @ logits @ enlarge.T)
    probabilities = np.exp(scores) / np.exp(scores).sum(0)
    valid = labels != 255
    errors = (probabilities - (labels == objects[:, None, None])) * valid / valid.sum()
    errors = enlarge.T @ (objects[:, None, None] * errors).sum(0) @ enlarge
    return np.einsum("hw,hwc->c", errors, colors)[:, None], errors.sum()[None]


def run_on_two_devices(folder, names):
    """Returns the output lines of a process that compares the cases."""
    program = f"from {__name__} import *; compare_on_two_devices({str(folder)!r}, {names!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["adam, clipping"], id="clipping"),
        pytest.param(list(CASES), id="every_option", marks=pytest.mark.slow),
    ],
)
def test_two_devices_give_the_weights_of_one(tmp_path, names):
    *cases, recipe = run_on_two_devices(tmp_path, names)
    assert cases == names
    assert recipe == "gin_configs/train/davis_2017_as_released.gin"

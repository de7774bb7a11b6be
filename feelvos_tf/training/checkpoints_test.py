"""Checkpoints are saved whole, restored unless damaged, and their folder is locked."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from unittest import mock

import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models import packed_weights
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing.tiny_model import TinyModel
from feelvos_tf.training.checkpoints import Checkpoints, only_process
from feelvos_tf.training.devices import Workers
from feelvos_tf.training.optimizers import AdamOptimizer, MomentumOptimizer
from feelvos_tf.training.train_step import TrainState
from feelvos_tf.training.trainer import Trainer
from feelvos_tf.training.weight_averaging import WeightAverage

DATA = ".data-00000-of-00001"


def alone() -> Workers:
    """Returns the workers of a run in a single process."""
    return Workers(tf.distribute.get_strategy())


class Run:
    """A tiny run whose bias is the number of its step."""

    def __init__(self, folder, optimizer=MomentumOptimizer, average_decay=0.0):
        self.model = TinyModel()
        self.step = tf.Variable(0, dtype=tf.int64)
        names = self.model.named_variables()
        average = WeightAverage(names, average_decay) if average_decay else None
        state = TrainState(self.step, optimizer(names), average)
        self.checkpoints = Checkpoints(folder, self.model, names, state, alone())

    def save(self, step):
        self.step.assign(step)
        self.model.biases.assign([float(step)])
        self.checkpoints.save()

    def state(self):
        return int(self.step.numpy()), float(self.model.biases[0])


@pytest.fixture
def folder(tmp_path):
    """Returns a folder with the checkpoints of steps 5, 10 and 20."""
    run = Run(tmp_path)
    for step in (5, 10, 20):
        run.save(step)
    return tmp_path


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".index", DATA])
@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.unlink()])
def test_the_checkpoint_before_a_damaged_one_is_restored(folder, suffix, damage, capsys):
    damage(folder / f"ckpt-20{suffix}")
    run = Run(folder)
    assert run.checkpoints.resume() == str(folder / "ckpt-10")
    assert run.state() == (10, 10.0)
    [line] = [x for x in capsys.readouterr().err.splitlines() if "damaged" in x]
    assert "ckpt-20: the checkpoint is damaged" in line and "trying the one before" in line
    run.save(20)
    again = Run(folder)
    assert again.checkpoints.resume() == str(folder / "ckpt-20")
    assert again.state() == (20, 20.0)


def test_damaged_checkpoints_without_an_intact_one_are_refused_in_one_sentence(folder):
    for step in (5, 10, 20):
        cut(folder / f"ckpt-{step}{DATA}")
    with pytest.raises(InputError, match="only damaged ones .ckpt-5, ckpt-10, ckpt-20") as caught:
        Run(folder).checkpoints.resume()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [None, "no checkpoint state", 'model_checkpoint_path: "ckpt-10"\n']
)
def test_a_run_resumes_without_the_file_that_lists_its_checkpoints(folder, content, capsys):
    (folder / "checkpoint").unlink()
    if content:
        (folder / "checkpoint").write_text(content)
    with only_process(folder):
        run = Run(folder)
    assert run.checkpoints.resume() == str(folder / "ckpt-20")
    assert run.state() == (20, 20.0)
    assert "found 3 checkpoints without it" in capsys.readouterr().err
    assert tf.train.latest_checkpoint(str(folder)) == str(folder / "ckpt-20")
    for step in (30, 40, 50):
        run.save(step)
    assert not (folder / "ckpt-5.index").exists()


def test_only_the_partial_files_of_a_killed_process_are_removed(folder):
    kept = {path.name for path in folder.iterdir()}
    (folder / "ckpt-30_temp").mkdir()
    (folder / "ckpt-30_temp/part-00000-of-00001.data-00000-of-00001").write_text("half")
    (folder / "ckpt-30.index.tempstate1234").write_text("half")
    (folder / "checkpoint.tmpabcd").write_text("half")
    with only_process(folder):
        assert {path.name for path in folder.iterdir()} == {*kept, ".training.lock"}


def small_feelvos(seed):
    tf.keras.utils.set_random_seed(seed)
    model = Feelvos(MobileNetV2(0.1), atrous_rates=(), embedding_dimension=4)
    model.create_variables()
    return model


def test_a_run_can_start_from_the_weights_of_another(tmp_path):
    runs = []
    for name in ("source", "target"):
        model, step = small_feelvos(len(runs)), tf.Variable(0, dtype=tf.int64)
        names = release_names(model)
        state = TrainState(step, MomentumOptimizer(names))
        runs.append((names, step, Checkpoints(tmp_path / name, model, names, state, alone())))
    (source, step, checkpoints), (target, target_step, others) = runs
    step.assign(6)
    assert others.initialize(checkpoints.save(), False) == list(target)
    assert int(target_step.numpy()) == 0
    for name, variable in source.items():
        np.testing.assert_array_equal(variable, target[name])


def test_a_run_and_its_averages_can_start_from_packed_weights(tmp_path):
    source, model = small_feelvos(1), small_feelvos(2)
    packed_weights.write(source, tmp_path / "weights.npz")
    names = release_names(model)
    gin.parse_config(f"InitialWeights.checkpoint = '{tmp_path}/weights.npz'")
    strategy = tf.distribute.get_strategy()
    trainer = Trainer(model, names, tmp_path / "run", strategy, average_decay=0.5)
    gin.clear_config()
    assert int(trainer.step.numpy()) == 0
    averages = trainer._state.average.averages
    for name, variable in release_names(source).items():
        # Kernels are packed as float16.
        np.testing.assert_allclose(names[name], variable, rtol=1e-3, atol=1e-7, err_msg=name)
        if name in averages:
            np.testing.assert_array_equal(averages[name], names[name], err_msg=name)


def test_an_empty_folder_has_nothing_to_resume_from(tmp_path):
    assert Run(tmp_path / "new").checkpoints.resume() is None


def test_a_folder_that_cannot_be_written_is_reported_in_one_sentence(folder):
    run = Run(folder)
    shutil.rmtree(folder)
    folder.write_text("a file")
    with pytest.raises(InputError, match="cannot be written") as caught:
        run.save(30)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_no_partial_checkpoint(folder, monkeypatch):
    run = Run(folder)
    before = sorted(folder.iterdir())

    def fill_disk(_, checkpoint_number):
        part = folder / f"ckpt-{checkpoint_number}_temp" / "part-00000-of-00001.data"
        part.parent.mkdir()
        part.write_bytes(b"half of it")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.CheckpointManager, "save", fill_disk)
    with pytest.raises(InputError, match="cannot be written .No space left on device."):
        run.save(30)
    assert sorted(folder.iterdir()) == before


def test_checkpoints_hold_the_release_s_names_and_none_of_keras(tmp_path):
    """So that one version of Keras reads what another wrote."""
    model = small_feelvos(1)
    names, step = release_names(model), tf.Variable(3, dtype=tf.int64)
    learned = {n: v for n, v in names.items() if v.trainable}
    optimizer = MomentumOptimizer(learned)
    path = Checkpoints(tmp_path, model, names, TrainState(step, optimizer), alone()).save()
    value = "/.ATTRIBUTES/VARIABLE_VALUE"
    expected = {f"weights/{name.replace('/', '.S')}{value}" for name in names}
    expected |= {f"optimizer/accumulators/{name.replace('/', '.S')}{value}" for name in learned}
    keys = {key for key, _ in tf.train.list_variables(path)}
    assert expected <= keys
    others = {"_CHECKPOINTABLE_OBJECT_GRAPH", "step" + value, "save_counter" + value}
    assert keys - expected == others


def test_a_checkpoint_of_another_optimizer_is_refused_with_its_slots(folder):
    with pytest.raises(InputError, match="@AdamOptimizer, found one of another optimizer .accumul"):
        Run(folder, AdamOptimizer).checkpoints.resume()


def test_a_checkpoint_without_the_state_of_a_layer_trained_now_is_refused_with_the_setting(folder):
    run = Run(folder)
    names = run.model.named_variables()
    state = TrainState(run.step, MomentumOptimizer({**names, "conv/weights": tf.Variable(1.0)}))
    sentence = (
        "the optimizer's state of all layers that are trained now, .* Feelvos.freeze_backbone"
    )
    with pytest.raises(InputError, match=sentence):
        Checkpoints(folder, run.model, names, state, alone()).resume()


def test_a_checkpoint_of_another_network_is_refused_with_the_name_of_a_variable(folder):
    run = Run(folder)
    wider = {**run.model.named_variables(), "logits/weights": tf.Variable(tf.zeros([3, 2]))}
    state = TrainState(run.step, MomentumOptimizer(wider))
    sentence = r"logits/weights of shape \[3, 2\], found shape \[3, 1\]"
    with pytest.raises(InputError, match=sentence):
        Checkpoints(folder, run.model, wider, state, alone()).resume()


HOLD = """
import sys
from feelvos_tf.training.checkpoints import only_process
with only_process(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_in_a_folder_is_refused_until_the_first_ends(tmp_path):
    folder = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another process is training"), only_process(folder):
        pass
    with only_process(tmp_path / "other"):
        pass
    first.kill()
    first.communicate()
    with only_process(folder):
        pass


def test_a_file_in_place_of_the_folder_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "run").write_text("a file")
    for folder in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(InputError, match="a part of the path is a file"), only_process(folder):
            pass


def test_a_file_system_without_locks_is_accepted(tmp_path):
    no_locks = OSError(errno.ENOLCK, "No locks available")
    with mock.patch("fcntl.flock", side_effect=no_locks), only_process(tmp_path / "run"):
        pass

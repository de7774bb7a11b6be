"""Two processes on one machine train like one, even if one of them is killed and restarted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.training import devices
from feelvos_tf.training.many_devices_test import one_device, tiny, trained

CHILD = """
import sys
from feelvos_tf.training.two_workers_test import work
work(*sys.argv[1:])
"""


def work(folder, num_steps, optimizer):
    """Trains as one of the workers in TF_CONFIG."""
    strategy = devices.distribution()
    workers = devices.Workers(strategy)
    saving = "Intervals.save_every_steps = 5"
    with devices.joining_again(workers, folder):
        trained(tiny, strategy, folder, optimizer, int(num_steps), saving)


def free_addresses():
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


class Cluster:
    """Two workers that train in one folder."""

    def __init__(self, folder, num_steps, optimizer="momentum"):
        self.folder, self._arguments = folder, [str(folder), str(num_steps), optimizer]
        self._addresses = free_addresses()
        self._folder = folder.parent
        self.processes = [self._start(0), self._start(1)]

    def _start(self, index):
        cluster = {"worker": self._addresses}
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        log = (self._folder / f"{self.folder.name}.worker{index}.log").open("a")
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *self._arguments],
            env={**os.environ, "TF_CONFIG": json.dumps(config), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=log,
            stderr=log,
        )

    def kill_and_start_again(self, index):
        self.processes[index].kill()
        self.processes[index].wait()
        self.processes[index] = self._start(index)

    def wait_for(self, step):
        while not (self.folder / f"ckpt-{step}.index").exists():
            assert all(p.poll() is None for p in self.processes), self.logs()
            time.sleep(0.05)

    def end(self):
        """Returns the logs of both workers once they have succeeded.

        A worker that fails leaves the other waiting for it forever.
        """
        while None in (codes := [process.poll() for process in self.processes]):
            assert not any(codes), self.logs()
            time.sleep(0.1)
        assert codes == [0, 0], self.logs()
        return self.logs()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()

    def logs(self):
        paths = sorted(self._folder.glob(f"{self.folder.name}.worker*.log"))
        return [path.read_text() for path in paths]


def weights_of(folder, step):
    reader = tf.train.load_checkpoint(str(folder / f"ckpt-{step}"))
    names = reader.get_variable_to_shape_map()
    return {n: reader.get_tensor(n) for n in names if n.split("/")[0] in ("weights", "average")}


def assert_like_one_process(folder, num_steps, optimizer, tmp_path):
    trained(tiny, one_device(), tmp_path / "one", optimizer, num_steps=num_steps)
    expected, found = weights_of(tmp_path / "one", num_steps), weights_of(folder, num_steps)
    assert len(expected) > 5 and found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


# Adam by default: it shows differences that momentum hides.
@pytest.mark.parametrize("optimizer", ["adam", pytest.param("momentum", marks=pytest.mark.slow)])
def test_two_processes_train_like_one_and_the_chief_alone_writes(tmp_path, optimizer):
    with Cluster(tmp_path / "two", 6, optimizer) as cluster:
        chief, other = cluster.end()
    assert_like_one_process(cluster.folder, 6, optimizer, tmp_path)
    assert "saved" in chief and "saved" not in other
    assert len(list(cluster.folder.glob("train/events.*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_rejoins_and_the_weights_are_those_of_an_undisturbed_run(tmp_path, killed):
    with Cluster(tmp_path / "undisturbed", 400) as cluster:
        cluster.end()
    with Cluster(tmp_path / "killed", 400) as cluster:
        cluster.wait_for(5)
        cluster.kill_and_start_again(killed)
        logs = cluster.end()
    assert "starting again from the last checkpoint" in logs[1 - killed]
    assert all("resuming from" in log for log in logs)
    expected, found = (weights_of(tmp_path / name, 400) for name in ("undisturbed", "killed"))
    assert len(expected) > 5 and found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


class Restarted(BaseException):
    """Stands in for the replacement of the process."""


def test_an_error_that_recurs_without_a_new_checkpoint_ends_the_restarts(monkeypatch, tmp_path):
    workers = mock.Mock(count=2, index=1)
    monkeypatch.setattr(devices.os, "execv", mock.Mock(side_effect=Restarted))
    monkeypatch.setattr(devices.time, "sleep", lambda _: None)
    monkeypatch.setenv(devices._RESTARTS, "0:")

    def fail():
        with devices.joining_again(workers, tmp_path):
            raise tf.errors.InternalError(None, None, "cuDNN failed")

    for _ in range(devices._MOST_RESTARTS):
        with pytest.raises(Restarted):
            fail()
    # A new checkpoint is progress, so restarts are counted from 0 again.
    tf.train.Checkpoint(step=tf.Variable(1)).save(str(tmp_path / "ckpt"))
    for _ in range(devices._MOST_RESTARTS):
        with pytest.raises(Restarted):
            fail()
    with pytest.raises(tf.errors.InternalError, match="cuDNN failed"):
        fail()


def set_workers(monkeypatch, cluster, task):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))


@pytest.mark.parametrize("strategy", ["mirrored", "one_device"])
def test_a_strategy_for_one_machine_is_refused_in_a_cluster(monkeypatch, strategy):
    task = {"type": "worker", "index": 1}
    set_workers(monkeypatch, {"worker": ["a:1", "b:1"]}, task)
    with pytest.raises(InputError, match="'multi_worker' because TF_CONFIG names 2 workers"):
        devices.distribution(strategy)


@pytest.mark.parametrize(
    ("cluster", "task"),
    [
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 2}),
        ({"worker": ["a:1", "b:1"]}, {"type": "chief", "index": 0}),
        ({"worker": ["a:1"], "ps": ["b:1"]}, {"type": "worker", "index": 0}),
        ({"worker": "a:1"}, {"type": "worker", "index": 0}),
        ({"worker": ["a:1"]}, {}),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": -1}),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 0.5}),
        ({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}),
        ({"worker": ["a:1", "b:port"]}, {"type": "worker", "index": 0}),
        ({"worker": ["a:1", "b:99999"]}, {"type": "worker", "index": 0}),
        ({"worker": [":1", "b:1"]}, {"type": "worker", "index": 0}),
        ({"worker": [1, 2]}, {"type": "worker", "index": 0}),
        ({"chief": ["a:1", "b:1"]}, {"type": "chief", "index": 1}),
    ],
)
def test_an_impossible_cluster_is_refused_in_one_sentence(monkeypatch, cluster, task):
    set_workers(monkeypatch, cluster, task)
    with (
        pytest.raises(InputError, match="TF_CONFIG: expected") as caught,
        gin_settings.input_errors(),
    ):
        devices.distribution()
    assert "\n" not in str(caught.value)


def test_unknown_strategies_and_devices_are_refused_in_one_sentence(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match="distribution.strategy: expected 'auto', 'mirrored'"):
        devices.distribution("parameter_server")
    with pytest.raises(InputError, match="addresses of the workers in the environment variable"):
        devices.distribution("multi_worker")
    for named in (("GPU:77",), ()):
        with pytest.raises(InputError, match="distribution.devices: expected some of .*CPU:0"):
            devices.distribution("mirrored", named)
    with pytest.raises(InputError, match="distribution.devices: expected strategy 'mirrored'"):
        devices.distribution("one_device", ("CPU:0",))
    monkeypatch.setenv("TF_CONFIG", "two workers")
    with pytest.raises(InputError, match="TF_CONFIG: expected .* found two workers"):
        devices.distribution()

"""Distributes training over devices and machines: strategies, workers, shares of a batch.

    distribution.strategy = 'auto'            # 'multi_worker' if TF_CONFIG names several workers,
                                              # else 'mirrored'
                            'mirrored'        # all GPUs of this machine, or its CPU
                            'one_device'      # the first GPU alone, or the CPU
                            'multi_worker'    # one process per machine, from TF_CONFIG

`feelvos_tf/training/README.md` shows how to start the processes of several machines.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.errors import InputError, first_line
from feelvos_tf.data.corrupt_records import readable_errors
from feelvos_tf.data.input_pipeline import BatchShare
from feelvos_tf.training.clip_forward import BATCH_KEYS
from feelvos_tf.training.progress_log import say

BatchesFrom = Callable[[int, BatchShare], tf.data.Dataset]
_WORKERS = ("chief", "worker")
_LOST_WORKER = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
_SECONDS_BEFORE_REJOINING = 2.0
# Enough for a worker that a person or a scheduler is slow to restart; an error that recurs at the
# same step will not go away.
_MOST_RESTARTS = 10
_RESTARTS = "FEELVOS_RESTARTS"
# Batches hold, besides `BATCH_KEYS`, the videos' names, truncated to this many bytes.
_NAME, _NAME_BYTES = "video_name", 64


@settings.configurable
def distribution(
    strategy: Literal["auto", "mirrored", "one_device", "multi_worker"] = "auto",
    devices: Sequence[str] | None = None,
) -> tf.distribute.Strategy:
    """Returns the strategy that the settings name.

    One for several workers must be created before anything else in the process uses TensorFlow.

    Args:
      strategy: see the module's docstring.
      devices: for 'mirrored', such as `('GPU:0', 'GPU:1')`; all GPUs when None.

    Raises:
      InputError: TF_CONFIG is wrong or, like `devices`, contradicts the strategy.
    """
    workers = _workers_of_tf_config()
    if strategy == "auto":
        strategy = "multi_worker" if workers > 1 else "mirrored"
    if devices is not None and strategy != "mirrored":
        raise InputError(
            f"distribution.devices: expected strategy 'mirrored', found {strategy!r}, which "
            "chooses its devices itself"
        )
    if strategy == "multi_worker":
        if workers == 0:
            raise InputError(
                "distribution.strategy = 'multi_worker': expected the addresses of the workers in "
                "the environment variable TF_CONFIG, found none"
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if workers > 1:
        raise InputError(
            f"distribution.strategy = {strategy!r}: expected 'multi_worker' because TF_CONFIG "
            f"names {workers} workers, each of which would otherwise train its own model"
        )
    if strategy == "one_device":
        has_gpu = tf.config.list_physical_devices("GPU")
        return tf.distribute.OneDeviceStrategy("/gpu:0" if has_gpu else "/cpu:0")
    if devices is not None:
        _check_exist(devices)
    return tf.distribute.MirroredStrategy(devices)


def _check_exist(devices: Sequence[str]) -> None:
    """Raises InputError unless `devices` are one or more of this machine's."""
    existing = [device.name.split("device:")[-1] for device in tf.config.list_logical_devices()]
    if not devices or not {name.lstrip("/").upper() for name in devices}.issubset(existing):
        raise InputError(
            f"distribution.devices: expected some of {', '.join(existing)}, found {devices!r}"
        )


class Workers:
    """The processes that train one model together, usually just one.

    Attributes:
      count: number of processes.
      index: index of this process.
      is_chief: whether this process writes checkpoints, scores and log files.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        """Reads the cluster of `strategy`. All workers must call methods in the same order."""
        self._strategy = strategy
        resolver = strategy.cluster_resolver
        cluster = resolver.cluster_spec().as_dict() if resolver and resolver.task_type else {}
        tasks = [(job, i) for job in _WORKERS for i in range(len(cluster.get(job, ())))]
        self.count = max(len(tasks), 1)
        self.index = tasks.index((resolver.task_type, resolver.task_id)) if tasks else 0
        self.is_chief = self.index == 0

    def from_chief(self, number: int) -> int:
        """Returns the chief's `number`, on all workers."""
        if self.count == 1:
            return number
        return int(self._sum(tf.constant(number if self.is_chief else 0, tf.int64)))

    def any(self, number: int) -> int:
        """Returns the largest `number` of all workers: nonzero if any of them is."""
        if self.count == 1:
            return number
        slots = tf.one_hot(self.index, self.count, on_value=number, off_value=0, dtype=tf.int64)
        return int(tf.reduce_max(self._sum(slots)))

    def broadcast(self, variables: Iterable[tf.Variable]) -> None:
        """Sets the variables to the chief's values on all workers."""
        if self.count == 1:
            return
        for variable in variables:
            value = tf.convert_to_tensor(variable)
            variable.assign(self._sum(value if self.is_chief else tf.zeros_like(value)))

    @tf.function(reduce_retracing=True)
    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        """Returns the sum over all workers."""

        def own() -> tf.Tensor:
            # Only the first replica of a worker contributes.
            replica = tf.distribute.get_replica_context()
            per_worker = self._strategy.num_replicas_in_sync // self.count
            first = replica.replica_id_in_sync_group % per_worker == 0
            mine = tf.where(first, value, tf.zeros_like(value))
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return self._strategy.experimental_local_results(self._strategy.run(own))[0]


@contextlib.contextmanager
def joining_again(workers: Workers, model_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Restarts this process when another worker is lost inside the block.

    TensorFlow cannot replace a worker in a running cluster, so all processes start over once the
    lost one has been restarted, and resume from the last checkpoint. An error that recurs without
    a new checkpoint in between is raised after some restarts: it has another cause, such as a
    broken device, which raises the same kinds of errors.

    Args:
      workers: of the run.
      model_dir: folder of its checkpoints.
    """
    try:
        yield
    except _LOST_WORKER as error:
        if workers.count == 1:
            raise
        latest = tf.train.latest_checkpoint(str(model_dir)) or ""
        number, before = os.environ.get(_RESTARTS, "0:").split(":", 1)
        number = 1 + (int(number) if before == latest else 0)
        if number > _MOST_RESTARTS:
            say(
                f"worker {workers.index}: giving up after {_MOST_RESTARTS} restarts without a new "
                "checkpoint"
            )
            raise
        os.environ[_RESTARTS] = f"{number}:{latest}"
        reason = first_line(error)[:200]
        say(
            f"worker {workers.index} lost another worker ({reason}); starting again "
            "from the last checkpoint once all workers are back"
        )
        time.sleep(_SECONDS_BEFORE_REJOINING)
        command = getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv]
        os.execv(sys.executable, [sys.executable, *command[1:]])


class DistributedBatches:
    """The batches of this worker's replicas from a step on, without other workers' clips.

    Attributes:
      clips_per_replica: clips of one replica in one part of a batch.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, batches_from: BatchesFrom, step: int, parts: int
    ):
        """Makes the dataset.

        Args:
          strategy: of the run.
          batches_from: as in `Trainer.train`.
          step: number of updates made so far.
          parts: parts of a batch whose gradients are accumulated.

        Raises:
          InputError: batches cannot be divided.
        """
        clips: list[int | None] = []

        def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = BatchShare(
                parts,
                context.num_replicas_in_sync,
                context.num_input_pipelines,
                context.input_pipeline_id,
            )
            dataset = batches_from(step, share)
            clips.append(dataset.element_spec["images"].shape[0])
            return _with_numeric_names(dataset)

        dataset = strategy.distribute_datasets_from_function(own)
        if clips[0] is None:
            raise InputError("training batches: expected a fixed number of clips, found none")
        self.clips_per_replica = clips[0]
        self._strategy = strategy
        self._parts = parts
        self._batches = iter(dataset)

    def parts_of(self, step: int, names: list[tf.Tensor]) -> Iterator[Mapping[str, tf.Tensor]]:
        """Yields the parts of the next batch and appends their videos' names to `names`.

        Args:
          step: of the batch, for the error message.
          names: receives uint8 [clips, bytes] of every replica and part.

        Raises:
          InputError: there is no next batch, or one of its records cannot be read.
        """
        for _ in range(self._parts):
            with readable_errors():
                batch = next(self._batches, None)
            if batch is None:
                raise InputError(f"the training data ended at step {step}: expected it to repeat")
            names.extend(self._strategy.experimental_local_results(batch.pop(_NAME)))
            yield batch


def _with_numeric_names(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset with video names as uint8 [clips, bytes], as GPUs hold no strings."""

    def convert(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        names = tf.io.decode_raw(batch["video_id"], tf.uint8, fixed_length=_NAME_BYTES)
        return {_NAME: names, **{key: batch[key] for key in BATCH_KEYS}}

    return dataset.map(convert)


def _workers_of_tf_config() -> int:
    """Returns how many workers TF_CONFIG names, 0 if none.

    Raises:
      InputError: TF_CONFIG does not describe a cluster of workers.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    try:
        return _checked_workers(json.loads(text or "{}"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            'TF_CONFIG: expected {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            f'"worker", "index": 0}}}}, found {text} ({type(error).__name__}: {error})'
        ) from error


def _checked_workers(config: Mapping[str, Any]) -> int:
    """Returns how many workers a cluster has; raises some error if it is impossible."""
    jobs = dict(config.get("cluster", {}))
    if not jobs:
        return 0
    task = config["task"]
    # Some scripts write the index as text.
    if str(task["index"]) not in map(str, range(len(jobs[task["type"]]))):
        raise ValueError(f"no {task['type']} {task['index']} in the cluster")
    if not set(jobs) <= set(_WORKERS) or len(jobs.get("chief", ())) > 1:
        raise ValueError("jobs other than one chief and workers")
    addresses = [address for job in jobs.values() for address in job]
    for address in addresses:
        found = re.fullmatch(r"\S+:(\d{1,5})", address)
        if not found or not 0 < int(found[1]) < 65536:
            raise ValueError(f"{address!r} is not host:port")
        if addresses.count(address) > 1:
            raise ValueError(f"{address!r} occurs twice")
    return len(addresses)

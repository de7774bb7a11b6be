"""Which devices, of how many machines, train one model together.

    distribution.strategy = 'auto'            # several workers where TF_CONFIG names them, else
                            'mirrored'        # all GPUs of this machine, or its processor
                            'one_device'      # the first GPU alone, or the processor
                            'multi_worker'    # a process per machine, by TF_CONFIG

`feelvos_tf/training/README.md` shows how the processes of several machines are started.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked
from feelvos_tf.training.progress_log import say

_STRATEGIES = ("auto", "mirrored", "one_device", "multi_worker")
_WORKERS = ("chief", "worker")
_LOST_WORKER = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
_SECONDS_BEFORE_JOINING = 2.0


@gin.configurable
@checked("distribution")
def distribution(
    strategy: str = "auto", devices: Sequence[str] | None = None
) -> tf.distribute.Strategy:
    """Returns the strategy that the settings name.

    One for several workers must be made before TensorFlow does anything else in the process.

    Args:
      strategy: one of those in the module's docstring.
      devices: such as `('GPU:0', 'GPU:1')`, for 'mirrored'; all GPUs when None.

    Raises:
      InputError: there is no such strategy, or TF_CONFIG and it contradict each other.
    """
    if strategy not in _STRATEGIES:
        raise InputError(
            f"distribution.strategy: expected one of {', '.join(_STRATEGIES)}, found {strategy!r}"
        )
    workers = _workers_of_tf_config()
    if strategy == "auto":
        strategy = "multi_worker" if workers > 1 else "mirrored"
    if strategy == "multi_worker":
        if workers == 0:
            raise InputError(
                "distribution.strategy = 'multi_worker': expected the addresses of the workers in "
                "the environment variable TF_CONFIG, found none"
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if workers > 1:
        raise InputError(
            f"distribution.strategy = {strategy!r}: expected 'multi_worker' where TF_CONFIG names "
            f"{workers} workers, which would each train a model of their own"
        )
    if strategy == "one_device":
        return tf.distribute.OneDeviceStrategy(_first_device())
    return tf.distribute.MirroredStrategy(_checked_devices(devices))


def _checked_devices(devices: Sequence[str] | None) -> Sequence[str] | None:
    """Returns the devices, all of which are there."""
    if devices is None:
        return None
    there = [
        f"{device.device_type}:{i}"
        for kind in ("GPU", "CPU")
        for i, device in enumerate(tf.config.list_logical_devices(kind))
    ]
    unknown = [device for device in devices if device.lstrip("/").upper() not in there]
    if unknown or not devices:
        raise InputError(
            f"distribution.devices: expected some of {', '.join(there)}, found {devices!r}"
        )
    return devices


class Workers:
    """The processes that train one model together; most often there is one.

    Attributes:
      count: how many.
      index: number of this one.
      is_chief: whether this is the one that writes checkpoints, scores and log files.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        """Asks the strategy; its methods must be called by all workers in the same order."""
        self._strategy = strategy
        resolver = strategy.cluster_resolver
        self.count = _count(resolver)
        self.index = _index(resolver) if self.count > 1 else 0
        self.is_chief = self.index == 0

    def from_chief(self, number: int) -> int:
        """Returns the `number` that the chief gave, to all workers."""
        if self.count == 1:
            return number
        return int(self._sum(tf.constant(number if self.is_chief else 0, tf.int64)))

    def any(self, number: int) -> int:
        """Returns a `number` that is not 0 if one of the workers gave one, the largest of them."""
        if self.count == 1:
            return number
        slots = tf.one_hot(self.index, self.count, on_value=number, off_value=0, dtype=tf.int64)
        return int(tf.reduce_max(self._sum(slots)))

    def broadcast(self, variables: Mapping[str, tf.Variable]) -> None:
        """Gives all workers the chief's values of the variables."""
        if self.count == 1:
            return
        for variable in variables.values():
            value = tf.convert_to_tensor(variable)
            variable.assign(self._sum(value if self.is_chief else tf.zeros_like(value)))

    @tf.function(reduce_retracing=True)
    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        """Returns the sum of what the workers gave."""

        def own() -> tf.Tensor:
            # Of a worker's replicas one speaks.
            replica = tf.distribute.get_replica_context()
            first = replica.replica_id_in_sync_group % self._replicas_per_worker() == 0
            mine = tf.where(first, value, tf.zeros_like(value))
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return self._strategy.experimental_local_results(self._strategy.run(own))[0]

    def _replicas_per_worker(self) -> int:
        return self._strategy.num_replicas_in_sync // self.count


@contextlib.contextmanager
def joining_again(workers: Workers) -> Iterator[None]:
    """Starts this process anew when another worker is lost inside the block.

    TensorFlow cannot replace a worker in a cluster that is running. So all begin again, as soon as
    the lost one has been started again, and go on from the last checkpoint.
    """
    try:
        yield
    except _LOST_WORKER as error:
        if workers.count == 1:
            raise
        say(
            f"worker {workers.index} lost another worker ({_first_line(error)}); starting again "
            "from the last checkpoint, as soon as all workers are there"
        )
        time.sleep(_SECONDS_BEFORE_JOINING)
        command = getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv]
        os.execv(sys.executable, [sys.executable, *command[1:]])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def logical_processors(count: int) -> list[str]:
    """Returns names of `count` devices that share the processor, to try a strategy out on.

    Call it before TensorFlow does anything else in the process.
    """
    [processor] = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(processor, parts)
    return [f"CPU:{number}" for number in range(count)]


def _count(resolver) -> int:
    """Returns the number of workers of a cluster, 1 where there is no cluster."""
    if resolver is None or not resolver.task_type:
        return 1
    return sum(len(resolver.cluster_spec().as_dict().get(job, ())) for job in _WORKERS) or 1


def _index(resolver) -> int:
    """Returns the number of this worker: a chief comes before all others."""
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    return 0 if resolver.task_type == "chief" else chiefs + resolver.task_id


def _first_device() -> str:
    return "/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"


def _workers_of_tf_config() -> int:
    """Returns how many workers TF_CONFIG names, 0 where it names none.

    Raises:
      InputError: TF_CONFIG is no description of a cluster of workers.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return 0
    try:
        config = json.loads(text)
        jobs = {job: [*addresses] for job, addresses in config.get("cluster", {}).items()}
        if not jobs:
            return 0
        task = config["task"]
        _ = jobs[task["type"]][_whole_number(task["index"])]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            'TF_CONFIG: expected {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            f'"worker", "index": 0}}}}, found {text} ({type(error).__name__}: {error})'
        ) from error
    addresses = [address for job in jobs.values() for address in job]
    is_known = set(jobs) <= set(_WORKERS) and len(jobs.get("chief", ())) <= 1
    if not (is_known and all(map(_is_address, addresses))):
        raise InputError(
            "TF_CONFIG: expected jobs named chief (of one address) and worker, each a list of "
            f"host:port, found {text}"
        )
    if len(set(addresses)) < len(addresses):
        raise InputError(f"TF_CONFIG: expected every address once, found {text}")
    return len(addresses)


def _whole_number(index: object) -> int:
    """Returns the index of a task, which scripts also write as text."""
    if not re.fullmatch(r"\d+", str(index)):
        raise ValueError(f"index {index!r}")
    return int(str(index))


def _is_address(address: object) -> bool:
    found = isinstance(address, str) and re.fullmatch(r"\S+:(\d{1,5})", address)
    return bool(found) and 0 < int(found[1]) < 65536

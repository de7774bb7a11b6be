"""Propagates masks on a Ray cluster, with a model per GPU or per few cores.

Ray distributes the videos to actors. It restarts an actor that was killed and gives it back its
video, which resumes from the last saved state. All machines must see the same files under the same
paths.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from feelvos_tf.core.errors import InputError, first_line
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.propagation import (
    Outputs,
    Propagator,
    Report,
    needs_propagation,
    propagate_video,
    write_missing,
)

CORES_PER_WORKER = 4
_RETRIES = 5  # For a video whose worker was killed.


class Worker:
    """An actor: holds a model and propagates one video after another."""

    def __init__(self, make_predictor: Callable[[], Propagator], folder: str):
        """Stores how to make the model, which is made for the first video that needs it.

        Args:
          make_predictor: returns the model.
          folder: base of relative paths.
        """
        import ray

        os.chdir(folder)
        self._predictor = functools.cache(make_predictor)
        # The video whose worker was killed is the first of the next one.
        self._was_killed = ray.get_runtime_context().was_current_actor_reconstructed

    def propagate(
        self, video: InputVideo, outputs: Outputs, settings: dict[str, Any], overwrite: bool
    ) -> tuple[str, bool, Report]:
        """Propagates a video.

        Returns:
          name: of the video.
          was_killed: whether an earlier worker was killed during this video.
          report: of this video.
        """
        was_killed, self._was_killed = self._was_killed, False
        report = Report()
        try:
            if needs_propagation(video, outputs, settings, overwrite):
                start_over = overwrite and not was_killed
                propagate_video(self._predictor(), video, outputs, settings, report, start_over)
            else:
                write_missing(video, outputs)
                report.complete.append(video.name)
        except InputError as error:
            report.failed[video.name] = str(error)
        except Exception as error:  # E.g. of the model; every retry would fail as well.
            report.failed[video.name] = f"{video.name}: {type(error).__name__}: {error}"
        return video.name, was_killed, report


def propagate_videos_on_ray(
    make_predictor: Callable[[], Propagator],
    videos: Sequence[InputVideo],
    outputs_of: Callable[[InputVideo], Outputs],
    settings: dict[str, Any],
    overwrite: bool = False,
    num_workers: int | None = None,
) -> Report:
    """Writes the results of videos to disk and reports what happened to each.

    The cluster is the one in RAY_ADDRESS, one running on this machine, or a new one here.

    For the other arguments see `propagate_videos`.

    Args:
      make_predictor: called in every worker that has something to do.
      num_workers: number of actors; None for one per GPU or, without GPUs, per four cores.

    Raises:
      InputError: Ray is not installed, or its cluster cannot be reached.
    """
    ray = _ray()
    report, begin = Report(), time.perf_counter()
    from ray.util import ActorPool

    workers = _start_workers(ray, make_predictor, num_workers, len(videos))
    pool = ActorPool(workers)
    waiting = set()
    for video in videos:
        try:
            task = (video, outputs_of(video), settings, overwrite)
        except InputError as error:
            report.failed[video.name] = str(error)
            continue
        waiting.add(video.name)
        pool.submit(lambda worker, task: worker.propagate.remote(*task), task)
    with tqdm(total=len(waiting), unit="video") as progress:
        while pool.has_next():
            try:
                name, was_killed, of_video = pool.get_next_unordered()
            except ray.exceptions.RayError as error:
                tqdm.write(f"a worker was lost: {first_line(error)}")
                progress.update()
                continue
            waiting.discard(name)
            if was_killed:
                tqdm.write(f"{name}: its worker was killed; another one finished it")
            report.add(of_video)
            progress.set_postfix(frames=len(report.timing.step_seconds), refresh=False)
            progress.update()
    report.timing.total_seconds = time.perf_counter() - begin  # Not the sum over workers.
    for name in sorted(waiting):
        report.failed[name] = f"{name}: its worker was killed {_RETRIES + 1} times"
    return report


def _ray() -> Any:
    """Returns the `ray` module, connected to a cluster."""
    ray = _import_ray()
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level="warning")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"--ray: no cluster ({first_line(error)})") from error
    return ray


def _import_ray() -> Any:
    # Skips Ray's paragraph on a killed worker, for which `propagate_videos_on_ray` has a sentence.
    # The variable is read during the import.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")
    try:
        import ray
    except ImportError as error:
        raise InputError("--ray needs Ray: pip install 'feelvos_tf[cluster]'") from error
    return ray


def _start_workers(
    ray: Any, make_predictor: Callable[[], Propagator], num_workers: int | None, num_videos: int
) -> list[Any]:
    """Returns actors that share the cluster's GPUs and cores."""
    resources = ray.cluster_resources()
    gpus, cores = resources.get("GPU", 0), int(resources.get("CPU", 1))
    num_workers = num_workers or int(gpus) or cores // CORES_PER_WORKER
    num_workers = max(1, min(num_workers, num_videos))
    cores = max(1, cores // num_workers)
    actor = ray.remote(Worker).options(
        num_cpus=cores,
        num_gpus=min(1, gpus / num_workers),
        max_restarts=-1,
        max_task_retries=_RETRIES,
        runtime_env={"env_vars": {"TF_NUM_INTRAOP_THREADS": str(cores)}},
    )
    return [actor.remote(make_predictor, os.getcwd()) for _ in range(num_workers)]

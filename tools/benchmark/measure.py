"""Measures time and peak memory of cases, and formats the tables."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

import tqdm

from feelvos_tf.core import cli, process_memory

_PACKAGES = ("tensorflow", "tensorflow-addons", "numpy", "opencv-python-headless", "pillow")
_MEGABYTE = 2**20
# A process that hangs must not block the whole table.
_MEMORY_TIMEOUT_SECONDS = 1800


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
      name: describes the work; unique within its group.
      group: cases of a group do the same work and are compared; the first is ours, the others are
        yardsticks.
      make: returns a function that does the work once. Inputs are built and weights loaded here,
        where time is not measured.
      items: number of frames or clips that one call handles, for rates per second.
      whole_process: whether peak memory is that of the whole process, with libraries and weights,
        rather than what the call adds.
    """

    name: str
    group: str
    make: Callable[[], Callable[[], object]]
    items: int = 1
    whole_process: bool = False

    @property
    def title(self) -> str:
        """Identifies the case among all of a command."""
        return f"{self.group}: {self.name}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; `ratio` is the time relative to the first line of its group."""

    group: str
    name: str
    ratio: float
    seconds: float
    peak_mb: float | None
    items_per_second: float


def measure(
    cases: Sequence[Case],
    repeats: int,
    peak_command: Sequence[str] | None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Returns a row per case.

    Memory is measured first, each case in a process of its own. Then the cases of a group run
    interleaved, so that a temporary slowdown of the machine affects all of them.

    Args:
      cases: may belong to several groups.
      repeats: timed runs per case, after a warm-up run.
      peak_command: the command line that, with --peak_of=TITLE, prints a case's peak memory; None
        skips it.
      clock: returns seconds; `time.process_time` measures CPU time, summed over threads.
    """
    groups = list(dict.fromkeys(case.group for case in cases))
    steps = len(cases) * (repeats + 1 + (peak_command is not None))
    rows = []
    with tqdm.tqdm(total=steps, desc="measuring", unit="run") as bar:
        for group in groups:
            members = [case for case in cases if case.group == group]
            peaks: list[float | None] = [None] * len(members)
            if peak_command is not None:
                for i, case in enumerate(members):
                    peaks[i] = _peak_in_subprocess([*peak_command, f"--peak_of={case.title}"])
                    bar.update()
            seconds = _interleaved_medians(members, repeats, clock, bar.update)
            for case, peak, median in zip(members, peaks, seconds):
                per_second = case.items / median
                rows.append(Row(group, case.name, median / seconds[0], median, peak, per_second))
    return rows


def _interleaved_medians(
    cases: Sequence[Case], repeats: int, clock: Callable[[], float], progress: Callable[[], object]
) -> list[float]:
    functions = [case.make() for case in cases]
    times: list[list[float]] = [[] for _ in cases]
    for repeat in range(repeats + 1):
        for function, own in zip(functions, times):
            start = clock()
            function()
            if repeat:  # The first run traces and warms up.
                own.append(clock() - start)
            progress()
    return [statistics.median(own) for own in times]


def peak_of(case: Case) -> float:
    """Returns the peak memory of one call in MB; the process should be fresh."""
    function = case.make()
    if not case.whole_process:
        process_memory.reset_peak()
    before = 0.0 if case.whole_process else process_memory.resident() / _MEGABYTE
    function()
    return max(peak_mb() - before, 0.0)


def _peak_in_subprocess(command: list[str]) -> float:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_MEMORY_TIMEOUT_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def peak_mb() -> float:
    """Returns the peak memory of this process in MB."""
    return process_memory.peak() / _MEGABYTE


def print_environment() -> None:
    """Prints `environment` as one line, and an empty one."""
    print(", ".join(f"{name} {value}" for name, value in environment().items()) + "\n")


def environment() -> dict[str, str]:
    """Returns what times depend on besides the code: date, machine and versions."""
    found = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["processor"] = (
        cli.of_processor("model name") or platform.processor() or platform.machine()
    )
    found["cores"] = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)
    return found


def format_table(rows: Sequence[Row]) -> str:
    """Returns the rows as text, a block per group, ratios first."""
    width = max(len(row.name) for row in rows)
    lines = []
    for group in dict.fromkeys(row.group for row in rows):
        lines += [
            "",
            group,
            f"  {'':{width}}  {'x ours':>7}  {'seconds':>9}  {'peak MB':>8}  per s",
        ]
        for row in (row for row in rows if row.group == group):
            peak = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
            lines.append(
                f"  {row.name:{width}}  {row.ratio:7.2f}  {row.seconds:9.4f}  {peak:>8}  "
                f"{row.items_per_second:.2f}"
            )
    return "\n".join(lines[1:])


def to_json(command: str, sizes: dict[str, object], rows: Sequence[Row]) -> str:
    """Returns everything that is printed, as one JSON object."""
    return json.dumps(
        {
            "benchmark": command,
            "sizes": sizes,
            "environment": environment(),
            "rows": [dataclasses.asdict(row) for row in rows],
        },
        indent=2,
    )

"""A table of a training's numbers, one line per step that was logged: `metrics.csv`."""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Mapping

from feelvos_tf.core import atomic_files

NAME = "metrics.csv"
_STEP = "step"


class MetricsFile:
    """The numbers of a run by step; what has no number at a step stays empty.

    A run that goes on from a checkpoint goes on in its file: lines behind the checkpoint's step,
    which are made again, are dropped.
    """

    def __init__(self, model_dir: str | os.PathLike[str], step: int):
        """Opens the file in a run's folder, up to and with a step."""
        self._path = pathlib.Path(model_dir) / NAME
        self._columns = [_STEP]
        rows = []
        if self._path.is_file():
            with self._path.open(newline="") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if _is_until(row, step)]
                self._columns = list(reader.fieldnames or self._columns)
        self._rewrite(rows)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Adds the numbers of a step, to its line if that is the last one."""
        row = {_STEP: step, **{name: f"{value:.6g}" for name, value in numbers.items()}}
        new = [name for name in row if name not in self._columns]
        last = self._last
        is_same = last is not None and last[_STEP] == str(step)
        if new or is_same:
            self._columns += new
            rows = self._read()
            rows[-1:] = [{**rows[-1], **row}] if is_same else [*rows[-1:], row]
            self._rewrite(rows)
            return
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)
        self._last = {name: str(value) for name, value in row.items()}

    def _read(self) -> list[dict[str, str]]:
        with self._path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: list[Mapping[str, object]]) -> None:
        with (
            atomic_files.replacing(self._path) as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        self._last = {n: str(v) for n, v in rows[-1].items()} if rows else None


def _is_until(row: Mapping[str, str | None], step: int) -> bool:
    """Returns whether a line is whole and of this step or one before."""
    text = row.get(_STEP) or ""
    return text.isdigit() and int(text) <= step

"""Tables of scores: text for the terminal, and the two CSV files of the DAVIS evaluation."""

from __future__ import annotations

import collections
import csv
import math
import os
import pathlib
import re

from feelvos_tf.core import atomic_files
from feelvos_tf.evaluation import region_and_contour
from feelvos_tf.evaluation.score_predictions import Scores

_MEASURES = ("Mean", "Recall", "Decay")


def write_csvs(scores: Scores, folder: str | os.PathLike[str], split: str) -> list[pathlib.Path]:
    """Writes `global_results-<split>.csv` and `per-sequence_results-<split>.csv`; returns them.

    Names, columns, rows and the rounding to three digits are those of the official tool. Where
    only J is measured, the columns of F are left out.
    """
    folder = pathlib.Path(folder)
    contents = {
        folder / f"global_results-{split}.csv": [summary_row(scores.summary)],
        folder / f"per-sequence_results-{split}.csv": _object_rows(scores.sequences),
    }
    text = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    for path, rows in contents.items():
        with atomic_files.replacing(path) as temporary, temporary.open("w", **text) as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            table.writeheader()
            for row in rows:
                table.writerow({k: v if isinstance(v, str) else f"{v:.3f}" for k, v in row.items()})
    return list(contents)


def _object_rows(
    sequences: list[region_and_contour.SequenceScores],
) -> list[dict[str, str | float]]:
    """Returns name ("dog_1") and means of every object that has a value."""
    rows = []
    for sequence in sequences:
        for object_id, one in zip(sequence.objects, sequence.by_object()):
            row = {"Sequence": f"{sequence.name}_{object_id}", "J-Mean": one.j.mean}
            if one.f is not None:
                row["F-Mean"] = one.f.mean
            if not math.isnan(one.j.mean):
                rows.append(row)
    return rows


def summary_row(summary: region_and_contour.Summary) -> dict[str, float]:
    """Returns the averages by the column names of the official tool."""
    row = {} if summary.f is None else {"J&F-Mean": summary.j_and_f}
    for name, result in (("J", summary.j), ("F", summary.f)):
        if result is not None:
            row.update({f"{name}-{key}": getattr(result, key.lower()) for key in _MEASURES})
    return row


def number(value: float) -> str:
    """Returns a score to three digits, or a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def format_table(scores: Scores) -> str:
    """Returns a table for the terminal: one line per sequence, then the averages over objects."""
    summaries = [region_and_contour.summarize([sequence]) for sequence in scores.sequences]
    columns = ["sequence", "objects", "frames", *summary_row(scores.summary), ""]
    rows = [[name.replace("-", " ") for name in columns]]
    for sequence, summary, remark in zip(scores.sequences, summaries, best_and_worst(summaries)):
        sizes = [str(len(sequence.objects)), str(len(sequence.frames))]
        rows.append([sequence.name, *sizes, *_cells(summary), remark])
    objects = sum(len(sequence.objects) for sequence in scores.sequences)
    frames = sum(len(sequence.frames) for sequence in scores.sequences)
    overall = ["all objects", str(objects), str(frames), *_cells(scores.summary), ""]
    return _aligned([*rows, overall])


def format_class_means(scores: Scores) -> str:
    """Returns a table of mean J by class, the measure of YouTube-Objects, and the classes' mean.

    A sequence's class is the letters that its name begins with: `cat` of `cat-0001-003`. The
    class's mean weights its sequences equally.
    """
    by_class = collections.defaultdict(list)
    for sequence in scores.sequences:
        mean = region_and_contour.summarize([sequence]).j.mean
        if not math.isnan(mean):
            by_class[re.match(r"[^\W\d_]*", sequence.name)[0]].append(mean)
    means = {name: sum(values) / len(values) for name, values in sorted(by_class.items())}
    rows = [[name, str(len(by_class[name])), f"{mean:.3f}", ""] for name, mean in means.items()]
    overall = f"{sum(means.values()) / len(means):.3f}"
    return _aligned(
        [["class", "sequences", "J Mean", ""], *rows, ["mean of classes", "", overall, ""]]
    )


def ranking_value(summary: region_and_contour.Summary) -> float:
    """Returns the value that ranks sequences: J&F, or J where F is not measured."""
    return summary.j.mean if summary.j_and_f is None else summary.j_and_f


def _cells(summary: region_and_contour.Summary) -> list[str]:
    return [number(value) for value in summary_row(summary).values()]


def best_and_worst(summaries: list[region_and_contour.Summary]) -> list[str]:
    """Returns "best", "worst" or "" for each summary."""
    values = [ranking_value(summary) for summary in summaries]
    known = {value for value in values if not math.isnan(value)}
    remarks = {max(known): "best", min(known): "worst"} if len(known) > 1 else {}
    return [remarks.get(value, "") for value in values]


def _aligned(rows: list[list[str]]) -> str:
    """Returns the rows as text, the first column left-aligned and the numbers right-aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    lines = []
    for first, *numbers, remark in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:-1])]
        lines.append("  ".join([first.ljust(widths[0]), *cells, remark]).rstrip())
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

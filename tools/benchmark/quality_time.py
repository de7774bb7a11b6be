"""`tools/benchmark quality_time`: J&F over seconds per frame, the paper's figure 4.

The output folder gets masks, `quality_time.csv` and `quality_time.png`. The CSV file has the
columns of `peers.csv` and can be used as one; models and sizes already in it are not run again.
"""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import statistics
from collections.abc import Iterable, Sequence

import measure

from feelvos_tf.core import atomic_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags
from feelvos_tf.evaluation import plotting, protocols, score_predictions
from feelvos_tf.inference import input_video, model_loading
from feelvos_tf.inference.propagation import Outputs, propagate_videos

COLUMNS = ("method", "dataset", "seconds", "J&F", "fine-tuned", "source")


def run(
    models: Sequence[str],
    sizes: Sequence[int | None],
    chosen: dataset_flags.Choice,
    peers: str,
    folder: pathlib.Path,
) -> list[dict[str, str]]:
    """Measures models and sizes, and writes their points to `folder`; returns the points.

    Args:
      models: folders of SavedModels, or "bundled".
      sizes: pixels of the short side; None for a model's own size.
      chosen: the videos.
      peers: path of a file of other methods' points.
      folder: for masks, points and plot.

    Raises:
      InputError: a model, file or video is missing.
    """
    others = [row for row in read_points(pathlib.Path(peers)) if row["dataset"] == chosen.dataset]
    path = folder / "quality_time.csv"
    points = read_points(path) if path.exists() else []
    for model in models:
        for size in sizes:
            choice = model_loading.choose(None if model == "bundled" else model, size)
            name = f"{pathlib.Path(model).name} at {choice.inference_size or 'full size'}"
            if not any(row["method"] == name for row in points):
                points.append(_point(name, choice, chosen, folder / "masks" / name))
                _write(path, points)
                draw(points, others, folder / "quality_time.png")
    return points


def _point(
    name: str, choice: model_loading.ModelChoice, chosen: dataset_flags.Choice, folder: pathlib.Path
) -> dict[str, str]:
    """Returns the row of one model at one size."""
    scores, seconds = measured(choice, chosen, folder)
    score, where = f"{100 * scores.summary.j_and_f:.1f}", measure.environment()
    machine = f"{where['processor']}, {where['cores']} cores, {where['date']}"
    source = f"{len(scores.sequences)} sequences, {machine}"
    row = (name, chosen.dataset, f"{seconds:.3f}", score, "no", source)
    return dict(zip(COLUMNS, row))


def measured(
    choice: model_loading.ModelChoice, chosen: dataset_flags.Choice, folder: pathlib.Path
) -> tuple[score_predictions.Scores, float]:
    """Returns the scores and median seconds per frame of a model; writes its masks to `folder`."""
    report = propagate_videos(
        choice.load,
        input_video.from_dataset(chosen.list_sequences("first")),
        lambda video: Outputs(folder / video.name),
        {"model": choice.identity, "inference_size": choice.inference_size},
        overwrite=True,  # A video that was reused would have no times.
    )
    if report.failed:
        raise InputError(f"{folder.name}: {min(report.failed.values())}")
    truth = protocols.dataset_ground_truths(*dataclasses.astuple(chosen))
    scores = score_predictions.score_folder(truth, folder)
    return scores, statistics.median(report.timing.step_seconds)


def read_points(path: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a file of points.

    Raises:
      InputError: the file is missing, or has wrong columns or values.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            float(row["seconds"]), float(row["J&F"])
            if tuple(row) != COLUMNS:
                raise ValueError(f"columns {', '.join(map(str, row))}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected the columns {', '.join(COLUMNS)} ({error})") from error
    return rows


def _write(path: pathlib.Path, points: Iterable[dict[str, str]]) -> None:
    with atomic_files.replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(points)


def draw(points: list[dict[str, str]], others: list[dict[str, str]], path: pathlib.Path) -> None:
    """Writes the plot: a dot per method, hollow if it fine-tunes, ours in color."""
    pyplot = plotting.pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for rows, color in ((others, "gray"), (points, "tab:blue")):
        for row in rows:
            place = float(row["seconds"]), float(row["J&F"])
            inside = "none" if row["fine-tuned"] == "yes" else color
            axes.scatter(*place, facecolors=inside, edgecolors=color)
            axes.annotate(
                row["method"], place, (5, 3), textcoords="offset points", fontsize=8, color=color
            )
    axes.set_xscale("log")
    axes.set_xlabel("seconds per frame (each method on its own machine)")
    axes.set_ylabel("J&F in percent")
    axes.set_title(f"blue: {points[-1]['source']}", loc="left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)

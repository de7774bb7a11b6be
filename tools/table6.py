r"""Trains and scores the six lines of the paper's ablation (table 6), and compares the results.

    python tools/table6.py --output_dir=runs/table6 --steps=1500 --seeds=1,2 \
        --gin_file=gin_configs/train/small_model_1_frozen.gin \
        --gin_param="stills_records = 'RECORDS/stills/train-*.tfrecord'" \
        --gin_param="davis_2016_records = 'RECORDS/davis_2016/train-*.tfrecord'" \
        --gin_param="InitialWeights.checkpoint = 'deeplab_mnv2_dm1.0_pascal/model.ckpt'" \
        --evaluation_gin_file= --dataset_root=DAVIS2016 --year=2016 --split=val --inference_size=320

Every line is trained separately, with the same recipe, steps and seeds. The output folder gets
runs/, scores.csv (one row per training run), settings.json, table6.md and table6.png. The same
command resumes an interrupted one; more --seeds or --lines add to the results. Any other change
needs another --output_dir. As in the paper, networks are scored at
output stride 8 with doubled atrous rates (the default of --evaluation_gin_file), whatever they were
trained with; the small model above has no atrous rates and is scored as it was trained.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import json
import pathlib
import re
import statistics
import subprocess
import sys
from typing import Any, NamedTuple

import gin

from feelvos_tf.core import atomic_files, cli, gin_settings, whole_files
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags, datasets
from feelvos_tf.evaluation import plotting

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_OUTPUT_DIR = _DEFINE.string("output_dir", "Folder for runs, scores, table, plot.", required=True)
_GIN_FILE, _GIN_PARAM = gin_settings.define_flags(
    _FLAGS, "Settings of every training run", "LearningRate.base = 0.001"
)
_EVALUATION_GIN_FILE = _DEFINE.string(
    "evaluation_gin_file",
    "Settings that override the training's for scoring; '' for none.",
    "gin_configs/evaluation.gin",
)
_STEPS = _DEFINE.integer("steps", "Steps of every training run.", 1500, lower_bound=1)
_SEEDS = _DEFINE.comma_list("seeds", "One training run each.", ["1"])
_LINES = _DEFINE.comma_list(
    "lines", "Lines of the table, as the paper numbers them.", list("123456")
)
_DATASET = dataset_flags.define(_FLAGS, "Folder of the data set to score on.")
_INFERENCE_SIZE = _DEFINE.integer(
    "inference_size", "Size of the models' input: pixels of the short side.", lower_bound=16
)

_RATES = "atrous_rates"
_SCORE = re.compile(r"J ([\d.]+), F ([\d.]+), J&F ([\d.]+)")
_COLUMNS = ("line", "seed", "steps", "J", "F", "J&F")


class Line(NamedTuple):
    """One line of table 6.

    Attributes:
      cues: the inputs of the head, by their names in the paper.
      paper: J, F and J&F on DAVIS 2017 val in percent.
    """

    cues: str
    paper: tuple[float, float, float]

    def bindings(self) -> list[str]:
        """Returns the gin settings of the network."""
        previous = "local" if "PF-LM" in self.cues else "global" if "PF-GM" in self.cues else "none"
        return [
            f"Feelvos.first_frame_matching = {'FF-GM' in self.cues}",
            f"Feelvos.previous_frame_matching = {previous!r}",
            f"Feelvos.previous_frame_predictions = {'PFP' in self.cues}",
        ]

    def evaluation(self) -> list[str]:
        """Returns the gin settings of the scoring.

        Source: the release feeds back probabilities if nothing is matched with the previous frame,
        and hard masks otherwise.
        """
        return [] if "PF-" in self.cues else ["Predictor.feedback = 'probabilities'"]


# Paper, table 6.
LINES = {
    "1": Line("FF-GM + PF-LM + PFP", (65.9, 72.3, 69.1)),
    "2": Line("FF-GM + PF-GM + PFP", (61.2, 67.3, 64.2)),
    "3": Line("FF-GM + PFP", (49.9, 59.8, 54.9)),
    "4": Line("FF-GM", (47.3, 57.9, 52.6)),
    "5": Line("FF-GM + PF-LM", (60.4, 66.2, 63.3)),
    "6": Line("PF-LM + PFP", (53.8, 58.3, 56.1)),
}


def main() -> None:
    """Trains and scores missing lines and seeds, updating table and plot after each."""
    datasets.check_names("--lines", _LINES.value, list(LINES))
    if not _LINES.value or not _SEEDS.value:
        raise InputError("--lines and --seeds: expected at least one each, found none")
    for seed in _SEEDS.value:
        if not seed.isdecimal():
            raise InputError(f"--seeds: expected whole numbers, found {seed!r}")
    if not _GIN_FILE.value:
        raise InputError("--gin_file: expected the recipe to train with, found nothing")
    from feelvos_tf import configurables  # noqa: F401

    bound = _bound()
    _DATASET.choice().list_sequences()
    plotting.pyplot()  # If it is not installed, fail before the first training run.
    folder = pathlib.Path(_OUTPUT_DIR.value)
    scores = _read_scores(folder)
    _keep_settings(folder, _settings(bound))
    for seed in _SEEDS.value:
        for number in _LINES.value:
            if not any(row["line"] == number and row["seed"] == seed for row in scores):
                scores.append(_train_and_score(folder, number, seed))
                _write(folder, scores)
    _write(folder, scores)  # Even if all had been scored: the table may have been deleted.
    print((folder / "table6.md").read_text())


def _bound() -> dict[str, dict[str, str]]:
    """Returns the gin settings of "training" and of "scoring", name -> value.

    Raises:
      InputError: the scored network would be a different one.
    """
    gin.clear_config()
    gin_settings.parse(_GIN_FILE.value, _GIN_PARAM.value)
    bound = {"training": gin_settings.bound()}
    # Those of scoring override those of training.
    gin_settings.parse([_EVALUATION_GIN_FILE.value] if _EVALUATION_GIN_FILE.value else [], [])
    bound["scoring"] = gin_settings.bound()
    gin.clear_config()
    trained, scored = (len(ast.literal_eval(each.get(_RATES, "()"))) for each in bound.values())
    if trained != scored:
        raise InputError(
            f"--evaluation_gin_file: expected settings for a network of {trained} dilated "
            f"branches, as it is trained, found {_EVALUATION_GIN_FILE.value} for {scored}; "
            "--evaluation_gin_file= (empty) scores with the training's settings"
        )
    return bound


def _keep_settings(folder: pathlib.Path, now: dict[str, Any]) -> None:
    """Writes the settings of the results to settings.json.

    Raises:
      InputError: the folder holds results of other settings, which would be mixed in one table.
    """
    path = folder / "settings.json"
    # The settings of a command that ended before its first checkpoint may be corrected.
    if (folder / "scores.csv").exists() or any(folder.glob("runs/*/ckpt-*.index")):
        what = "the settings of the results in this folder, as written by tools/table6.py"
        before = whole_files.read_json(path, what)
        if not isinstance(before, dict):
            raise InputError(f"{path}: expected {what}, found other JSON")
        for name in {**now, **before}:
            if now.get(name) != before.get(name):
                raise InputError(
                    f"{path}: expected results of {name} = {now.get(name)}, found "
                    f"{before.get(name)}; use another --output_dir or the settings of those results"
                )
    atomic_files.write_text(path, json.dumps(now, indent=1) + "\n")


def _settings(bound: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Returns all settings but lines and seeds, by name; values are as read from JSON."""
    chosen = dataclasses.asdict(_DATASET.choice())
    chosen["dataset_root"] = str(pathlib.Path(chosen.pop("root")).resolve())
    chosen.update(steps=_STEPS.value, inference_size=_INFERENCE_SIZE.value)
    settings = {f"--{name}": value for name, value in chosen.items()}
    for program, values in bound.items():
        settings |= {f"{name} in {program}": value for name, value in values.items()}
    return settings


def _train_and_score(folder: pathlib.Path, number: str, seed: str) -> dict[str, str]:
    """Returns the scores of one training run, which is resumed if it was interrupted."""
    run = folder / "runs" / f"line{number}_seed{seed}"
    print(f"== line {number}, seed {seed}: {LINES[number].cues}", flush=True)
    settings = [
        *_GIN_PARAM.value,
        *LINES[number].bindings(),
        f"Trainer.num_steps = {_STEPS.value}",
        "Intervals.evaluate_every_steps = 0",
        f"set_random_seed.seed = {int(seed)}",
        f"training_dataset.seed = {int(seed)}",
    ]
    files = [f"--gin_file={path}" for path in _GIN_FILE.value]
    _run("train", f"--model_dir={run}", *files, *[f"--gin_param={s}" for s in settings])
    given = {**_DATASET.given(), "inference_size": _INFERENCE_SIZE.value}
    given["dataset_root"] = given.pop("root")
    arguments = [
        f"--{name}={','.join(value) if isinstance(value, list) else value}"
        for name, value in given.items()
        if value is not None
    ]
    if _EVALUATION_GIN_FILE.value:
        arguments.append(f"--gin_file={_EVALUATION_GIN_FILE.value}")
    arguments += [f"--gin_param={setting}" for setting in LINES[number].evaluation()]
    printed = _run("evaluate", f"--model_dir={run}", "--once", *arguments)
    row = (number, seed, str(_STEPS.value), *_SCORE.search(printed).groups())
    return dict(zip(_COLUMNS, row))


def _run(program: str, *arguments: str) -> str:
    """Runs a program of this project; returns its output.

    Raises:
      InputError: it failed; its message has been printed.
    """
    command = [sys.executable, "-m", f"feelvos_tf.{program}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        raise InputError(f"feelvos_tf.{program} ended with exit code {process.returncode}")
    return "".join(lines)


def _read_scores(folder: pathlib.Path) -> list[dict[str, str]]:
    path = folder / "scores.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if any(tuple(row) != _COLUMNS or row["line"] not in LINES for row in rows):
        raise InputError(f"{path}: expected the columns {','.join(_COLUMNS)}, as written here")
    return rows


def _write(folder: pathlib.Path, scores: list[dict[str, str]]) -> None:
    """Writes scores, table and plot, each atomically."""
    with atomic_files.replacing(folder / "scores.csv") as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(scores)
    atomic_files.write_text(folder / "table6.md", table(scores))
    with atomic_files.replacing(folder / "table6.png") as path:
        draw(scores, path)


def _by_line(scores: list[dict[str, str]], column: str = "J&F") -> dict[str, list[float]]:
    """Returns line -> a measure of each seed, in percent."""
    values = {number: [] for number in LINES}
    for row in scores:
        values[row["line"]].append(100 * float(row[column]))
    return {number: found for number, found in values.items() if found}


def table(scores: list[dict[str, str]]) -> str:
    """Returns the table in Markdown: the mean over the seeds, each seed, and the paper."""
    lines = [
        "| line | inputs of the head | J here | F | J&F | seeds | below line 1 "
        "| J in the paper | F | J&F | below line 1 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    j, f, both = (_by_line(scores, column) for column in ("J", "F", "J&F"))
    for number, values in both.items():
        line, mean = LINES[number], statistics.fmean(values)
        seeds = ", ".join(f"{value:.1f}" for value in values)
        drop = f"{statistics.fmean(both['1']) - mean:.1f}" if "1" in both else ""
        paper = " | ".join(map(str, line.paper))
        lines.append(
            f"| {number} | {line.cues} | {statistics.fmean(j[number]):.1f} "
            f"| {statistics.fmean(f[number]):.1f} | {mean:.1f} | {seeds} | {drop} "
            f"| {paper} | {LINES['1'].paper[-1] - line.paper[-1]:.1f} |"
        )
    return "\n".join(lines) + "\n"


def draw(scores: list[dict[str, str]], path: pathlib.Path) -> None:
    """Writes a plot: for each line, our bar with a dot per seed, next to the paper's bar."""
    pyplot = plotting.pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    by_line = _by_line(scores)
    for place, (number, values) in enumerate(by_line.items()):
        ours = axes.bar(place - 0.2, statistics.fmean(values), 0.38, color="tab:blue")
        axes.plot([place - 0.2] * len(values), values, "o", color="black", markersize=4)
        paper = axes.bar(place + 0.2, LINES[number].paper[-1], 0.38, color="lightgray")
    names = [f"{number}\n{LINES[number].cues}".replace(" + ", "\n") for number in by_line]
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("J&F in percent")
    titles = ["here (dots: seeds)", "paper, DAVIS 2017"]
    figure.legend([ours, paper], titles, frameon=False, loc="outside upper right", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    cli.run(main)

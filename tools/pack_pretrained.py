"""Puts the model of a training run into the package, as the default model.

    python tools/pack_pretrained.py --model_dir=RUN --hours=12.5

writes weights.npz and settings.gin in feelvos_tf/pretrained/, describes the weights in the
MODEL_CARD.md there, and removes the scores of earlier weights from it. If the run kept a moving
average of the weights, the average is packed. To add the scores, for example on DAVIS 2016:

    python -m feelvos_tf.predict --dataset=davis_2016 --dataset_root=DAVIS2016 --split=val \\
        --output_dir=OUT
    python tools/eval_davis.py --dataset=davis_2016 --dataset_root=DAVIS2016 --split=val \\
        --predictions=OUT
    python tools/pack_pretrained.py --scores=OUT/per-sequence_results-val.csv

`bash tools/refresh_pretrained.sh` does all of this.
"""

from __future__ import annotations

import collections
import csv
import os
import pathlib
import re
import statistics

from feelvos_tf.core import atomic_files, cli, gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import model_loading

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_MODEL_DIR = _DEFINE.string("model_dir", "Folder of the training run.")
_CHECKPOINT = _DEFINE.string(
    "checkpoint", "Checkpoint prefix; the latest of --model_dir by default."
)
_INFERENCE_SIZE = _DEFINE.integer(
    "inference_size",
    "Default size of the model's input: pixels of the short side.",
    480,
    lower_bound=16,
)
_WINDOW = _DEFINE.floating(
    "window",
    "Default share of a frame's pixels to process, around the objects.",
    0.5,
    lower_bound=0.0,
    upper_bound=1.0,
)
_HOURS = _DEFINE.floating("hours", "Total training time of all stages, for the card.")
_SCORES = _DEFINE.string(
    "scores", "Per-sequence CSV file that tools/eval_davis.py wrote for the bundled model."
)
_OUTPUT_DIR = _DEFINE.string(
    "output_dir", "Folder of the bundled model.", str(model_loading.BUNDLED)
)

CARD = "MODEL_CARD.md"
_HEADER = """\
# Settings of the bundled model, one per line; written by tools/pack_pretrained.py.

inference_size = {inference_size}
window = {window}

"""
_SCOPE = "evaluation/"
_SEQUENCES = 20
_NOT_SCORED = "These weights have not been scored yet."


def pack(
    model_dir: str,
    checkpoint: str | None,
    inference_size: int,
    folder: pathlib.Path,
    window: float = 0.0,
) -> str:
    """Writes the weights and settings of a run's model; returns their description for the card.

    Args:
      model_dir: folder of the run.
      checkpoint: prefix; by default, the latest.
      inference_size: default size to record in the settings.
      folder: of the bundled model.
      window: default window to record in the settings; see `VideoPredictor`.

    Raises:
      InputError: there is no usable checkpoint, or a weight cannot be written.
    """
    from feelvos_tf import configurables, export  # noqa: F401
    from feelvos_tf.models import packed_weights

    prefix = export.find_checkpoint(model_dir, checkpoint)
    gin_settings.parse_model_dir(model_dir, [])
    with gin_settings.input_errors():
        model, _ = model_loading.build_evaluated(prefix, fused=False)
    text = _HEADER.format(inference_size=inference_size, window=window) + settings_of_evaluation()
    # Both are complete before the first one takes its final name.
    with (
        atomic_files.replacing(folder / model_loading.SETTINGS) as settings,
        atomic_files.replacing(folder / model_loading.WEIGHTS) as weights,
    ):
        settings.write_text(text)
        rounding = packed_weights.write(model, weights)
    size = (folder / model_loading.WEIGHTS).stat().st_size
    stage = pathlib.Path(prefix).resolve().parent.name
    return (
        f"Weights of {stage}, {os.path.basename(prefix)}: {rounding.parameters:,} parameters, "
        f"{size / 1e6:.1f} MB. Rounding to float16 changed no weight by more than "
        f"{rounding.difference:.1e} of the largest one of its variable ({rounding.variable})."
    )


def settings_of_evaluation() -> str:
    """Returns the settings, including defaults, of the model that was built for evaluation.

    Each is on one line, without a scope, with macros replaced by their values.
    """
    used = gin_settings.used()
    macros = {f"%{name}": value for name, value in used.items()}
    return "".join(
        f"{name.removeprefix(_SCOPE)} = {macros.get(value, value)}\n"
        for name, value in used.items()
        if name.startswith(_SCOPE)
    )


def scores_table(path: str) -> str:
    """Returns the card's table of scores: J, F and J&F per sequence and their means, in percent.

    Args:
      path: `per-sequence_results-<split>.csv` of `tools/eval_davis.py`.

    Raises:
      InputError: the file is not such a table.
    """
    try:
        with open(path, newline="") as file:
            rows = [
                (row["Sequence"], float(row["J-Mean"]), float(row["F-Mean"]))
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected scores of tools/eval_davis.py, found {error}"
        ) from error
    if not rows:
        raise InputError(f"{path}: expected scores of at least one sequence, found none")
    objects = collections.Counter(row_name.rsplit("_", 1)[0] for row_name, _, _ in rows)
    _, j_values, f_values = zip(*rows)
    lines = [
        f"{len(objects)} of the {_SEQUENCES} sequences of DAVIS 2016 validation:",
        "",
        "| sequence | J&F | J | F |",
        "|---|---|---|---|",
        _row("**mean**", statistics.fmean(j_values), statistics.fmean(f_values)),
    ]
    for row_name, j, f in rows:
        name, number = row_name.rsplit("_", 1)
        lines.append(_row(name if objects[name] == 1 else f"{name}, object {number}", j, f))
    return "\n".join(lines)


def _row(name: str, j: float, f: float) -> str:
    return f"| {name} | {50 * (j + f):.1f} | {100 * j:.1f} | {100 * f:.1f} |"


def fill_in(card: pathlib.Path, section: str, text: str) -> None:
    """Replaces the text between the two comments of a section of the card.

    Raises:
      InputError: the card or one of the comments is missing.
    """
    head, tail = _around(card, section)
    atomic_files.write_text(card, f"{head}\n{text}\n{tail}")


def _around(card: pathlib.Path, section: str) -> tuple[str, str]:
    """Returns the card up to the first comment of a section, and from the second on."""
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    text = card.read_text() if card.is_file() else ""
    found = re.fullmatch(f"(.*{begin}).*({end}.*)", text, re.DOTALL)
    if not found:
        raise InputError(f"{card}: expected a card with the line {begin!r}, found none")
    return found.groups()


def main() -> None:
    """Packs a run, or writes scores into the card."""
    if (_MODEL_DIR.value is None) == (_SCORES.value is None):
        raise InputError("expected either --model_dir (a run to pack) or --scores (for the card)")
    folder = pathlib.Path(_OUTPUT_DIR.value)
    if _SCORES.value is not None:
        fill_in(folder / CARD, "scores", scores_table(_SCORES.value))
        print(f"written: {folder / CARD}")
        return
    for section in ("weights", "scores"):
        _around(folder / CARD, section)  # Raises before the old weights are replaced.
    what = pack(_MODEL_DIR.value, _CHECKPOINT.value, _INFERENCE_SIZE.value, folder, _WINDOW.value)
    if _HOURS.value is not None:
        what += f" All stages together were trained for {_HOURS.value:g} hours."
    fill_in(folder / CARD, "weights", what)
    fill_in(folder / CARD, "scores", _NOT_SCORED)
    print(what)
    print(f"written: {folder}")


if __name__ == "__main__":
    cli.run(main)

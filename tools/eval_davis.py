r"""Scores predicted masks: J, F and J&F as DAVIS defines them.

Reads `PREDICTIONS/<sequence>/00000.png ...` and writes `global_results-<split>.csv` and
`per-sequence_results-<split>.csv` next to the sequences.

    python tools/eval_davis.py --dataset_root=DAVIS --predictions=OUT --year=2017 --split=val
    python tools/eval_davis.py --dataset=youtube_vos --dataset_root=YTVOS --split=train \
        --predictions=OUT
    python tools/eval_davis.py --dataset=youtube_objects --dataset_root=YTO --predictions=OUT
    python tools/eval_davis.py --ground_truth=MASKS --predictions=OUT --report=report.html \
        --compare=OTHER

Only the masks and lists of a data set are needed; its frames are for the report's pictures.
"""

from __future__ import annotations

import dataclasses
import os

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags
from feelvos_tf.evaluation import protocols, score_predictions, tables
from feelvos_tf.evaluation.protocols import SequenceGroundTruth
from feelvos_tf.evaluation.report import page
from feelvos_tf.evaluation.score_predictions import Scores

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_PREDICTIONS = _DEFINE.string(
    "predictions", "Folder with one folder of mask PNGs per sequence.", required=True
)
_DATASET = dataset_flags.define(_FLAGS, "Folder of the data set that holds the ground truth.")
_GROUND_TRUTH = _DEFINE.string("ground_truth", "Any tree of masks, used instead of a data set.")
_WORKERS = _DEFINE.integer(
    "workers", "Number of processes.", min(os.cpu_count() or 1, 8), lower_bound=1
)
_REPORT = _DEFINE.string("report", "HTML file to write: curves, pictures, tables.")
_COMPARE = _DEFINE.string("compare", "Folder of other predictions to compare with.")
_ALLOW_MISSING = _DEFINE.boolean(
    "allow_missing", "Score incomplete predictions; list what is missing.", False
)
_COUNT_FIRST_FRAME = _DEFINE.boolean(
    "count_first_frame",
    "YouTube-Objects: also score the first annotated frame, whose mask is given. Papers differ.",
    False,
)


def main() -> None:
    """Scores the predictions given by the flags."""
    chosen = _DATASET.choice()
    measure_f = _GROUND_TRUTH.value is not None or protocols.measures_f(chosen.dataset)
    folders = [_PREDICTIONS.value] + ([_COMPARE.value] if _COMPARE.value else [])
    ground_truths = _ground_truths(chosen, folders)
    scored = [_score(ground_truths, folder, measure_f) for folder in folders]
    for one in scored:
        _print(one, with_name=len(scored) > 1)
        if _GROUND_TRUTH.value is None and chosen.dataset == "youtube_objects":
            print(f"\n{tables.format_class_means(one)}")
    for path in tables.write_csvs(scored[0], _PREDICTIONS.value, chosen.split):
        print(f"written: {path}")
    if _REPORT.value:
        page.write_report(_REPORT.value, ground_truths, *scored)
        print(f"written: {_REPORT.value}")


def _ground_truths(chosen: dataset_flags.Choice, folders: list[str]) -> list[SequenceGroundTruth]:
    if (_GROUND_TRUTH.value is None) == (chosen.root is None):
        raise InputError(
            "expected either --dataset_root=DIR or --ground_truth=DIR, found both or neither"
        )
    if _GROUND_TRUTH.value is not None:
        if _COUNT_FIRST_FRAME.value:
            raise InputError("--count_first_frame is for --dataset=youtube_objects")
        return protocols.folder_ground_truths(_GROUND_TRUTH.value, chosen.sequences, folders)
    return protocols.dataset_ground_truths(
        *dataclasses.astuple(chosen), count_first_frame=_COUNT_FIRST_FRAME.value
    )


def _score(ground_truths: list[SequenceGroundTruth], folder: str, measure_f: bool) -> Scores:
    return score_predictions.score_folder(
        ground_truths,
        folder,
        measure_f=measure_f,
        workers=_WORKERS.value,
        allow_missing=_ALLOW_MISSING.value,
        progress=True,
    )


def _print(scored: Scores, with_name: bool) -> None:
    if with_name:
        print(f"{scored.folder}:")
    print(tables.format_table(scored))
    if scored.confused_share is not None:
        print(f"objects' pixels given to another object: {scored.confused_share:.1%}")
    for sentence in scored.missing:
        print(f"not scored: {sentence}")


if __name__ == "__main__":
    cli.run(main)

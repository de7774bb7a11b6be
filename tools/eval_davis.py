r"""Scores predicted masks: J, F and J&F as DAVIS defines them.

Reads `PREDICTIONS/<sequence>/00000.png ...` and writes `global_results-<split>.csv` and
`per-sequence_results-<split>.csv` beside the sequences.

    python tools/eval_davis.py --davis_root=DAVIS --predictions=OUT --year=2017 --split=val
    python tools/eval_davis.py --dataset=youtube_vos --davis_root=YTVOS --predictions=OUT
    python tools/eval_davis.py --ground_truth=MASKS --predictions=OUT --report=report.html \
        --compare=OTHER
"""

from __future__ import annotations

import os
import pathlib

from absl import flags

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.evaluation import protocols, score_predictions, tables
from feelvos_tf.evaluation.report import page

FLAGS = flags.FLAGS

flags.DEFINE_string("predictions", None, "Folder with one folder of mask PNGs per sequence.")
flags.DEFINE_string("davis_root", None, "Root of the data set that holds the ground truth.")
flags.DEFINE_enum("year", "2017", list(protocols.DATASETS_BY_YEAR), "Year of DAVIS.")
flags.DEFINE_enum(
    "dataset", None, datasets.DATASETS, "Kind of data set; DAVIS of --year if not set."
)
flags.DEFINE_string("split", "val", "List of sequences to score, which also names the CSV files.")
flags.DEFINE_list("sequences", None, "Score only these sequences of the split.")
flags.DEFINE_string("resolution", "480p", "Folder of DAVIS below JPEGImages and Annotations.")
flags.DEFINE_string("ground_truth", None, "Any tree of masks, scored instead of a data set.")
flags.DEFINE_integer("workers", min(os.cpu_count() or 1, 8), "Number of processes.", lower_bound=1)
flags.DEFINE_string("report", None, "HTML file to write: curves, pictures, tables.")
flags.DEFINE_string("compare", None, "Other predictions of the same, to compare with.")
flags.DEFINE_bool("allow_missing", False, "Score what is there and say what was not.")


def main(_: list[str]) -> None:
    if FLAGS.predictions is None:
        raise InputError("--predictions=DIR is needed: the folder of masks to score")
    dataset = FLAGS.dataset or protocols.DATASETS_BY_YEAR[FLAGS.year]
    measure_f = FLAGS.ground_truth is not None or protocols.measures_f(dataset)
    targets = _targets(dataset)
    folders = [FLAGS.predictions] + ([FLAGS.compare] if FLAGS.compare else [])
    scored = [_score(targets, pathlib.Path(folder), measure_f) for folder in folders]
    for one in scored:
        _print(one, with_name=len(scored) > 1)
    for path in tables.write_csvs(scored[0].scores, FLAGS.predictions, FLAGS.split):
        print(f"written: {path}")
    if FLAGS.report:
        page.write_report(FLAGS.report, targets, *scored)
        print(f"written: {FLAGS.report}")


def _targets(dataset: str) -> list[protocols.SequenceGroundTruth]:
    if (FLAGS.ground_truth is None) == (FLAGS.davis_root is None):
        raise InputError("give the ground truth by either --davis_root=DIR or --ground_truth=DIR")
    if FLAGS.ground_truth is not None:
        return protocols.folder_targets(FLAGS.ground_truth, FLAGS.sequences or None)
    return protocols.dataset_targets(
        FLAGS.davis_root, dataset, FLAGS.split, FLAGS.resolution, FLAGS.sequences or None
    )


def _score(
    targets: list[protocols.SequenceGroundTruth], folder: pathlib.Path, measure_f: bool
) -> page.Scored:
    scores = score_predictions.score_folder(
        targets,
        folder,
        measure_f=measure_f,
        workers=FLAGS.workers,
        allow_missing=FLAGS.allow_missing,
        progress=True,
    )
    return page.Scored(folder, scores)


def _print(scored: page.Scored, with_name: bool) -> None:
    if with_name:
        print(f"{scored.folder}:")
    print(tables.format_table(scored.scores))
    for sentence in scored.scores.missing:
        print(f"not scored: {sentence}")


if __name__ == "__main__":
    cli.run(main)

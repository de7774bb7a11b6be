import csv
import shutil
import subprocess
import sys
from pathlib import Path

import eval_davis
import pytest
from PIL import Image

from feelvos_tf.testing import drawn_masks, drawn_videos, in_this_process

TOOL = Path(__file__).with_name("eval_davis.py")
OBJECTS = {"one": [1], "three": [1, 2, 3]}


def run(*arguments):
    return in_this_process.run(eval_davis, "--workers=1", *arguments)


@pytest.fixture
def davis(tmp_path):
    return drawn_videos.write_davis(tmp_path / "davis", OBJECTS, 8)


@pytest.fixture
def predictions(tmp_path):
    return drawn_masks.write_predictions(tmp_path / "out", OBJECTS)


def test_the_tool_prints_the_table_and_writes_the_csvs(davis, predictions):
    """Runs the program itself, as users do."""
    command = [sys.executable, str(TOOL), f"--dataset_root={davis}", f"--predictions={predictions}"]
    result = subprocess.run([*command, "--workers=2"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with (predictions / "global_results-val.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["J&F-Mean"] in result.stdout.splitlines()[-4]
    assert result.stdout.splitlines()[-3].endswith("given to another object: 0.0%")
    with (predictions / "per-sequence_results-val.csv").open() as file:
        names = [row["Sequence"] for row in csv.DictReader(file)]
    assert names == ["one_1", "three_1", "three_2", "three_3"]


def test_year_sequences_and_split_select_what_is_scored(tmp_path, predictions):
    root = drawn_videos.write_davis(tmp_path / "d16", OBJECTS, 8, split="mini", year="2016")
    result = run(
        f"--dataset_root={root}",
        f"--predictions={predictions}",
        "--year=2016",
        "--split=mini",
        "--sequences=three",
    )
    assert result.returncode == 0, result.stderr
    text = (predictions / "per-sequence_results-mini.csv").read_text()
    assert [line.split(",")[0] for line in text.splitlines()] == ["Sequence", "three_1"]


def test_any_tree_of_masks_can_be_the_ground_truth(davis, predictions):
    truth = davis / "Annotations/480p"
    result = run(f"--ground_truth={truth}", f"--predictions={predictions}")
    assert result.returncode == 0, result.stderr
    assert len((predictions / "per-sequence_results-val.csv").read_text().splitlines()) == 5


def test_ground_truth_without_predictions_is_not_read(davis, predictions):
    truth = davis / "Annotations/480p"
    Image.new("LA", (80, 48), (1, 100)).save(truth / "three/00001.png")
    shutil.rmtree(predictions / "three")
    arguments = f"--ground_truth={truth}", f"--predictions={predictions}"
    check_refusal(run(*arguments), predictions, "sequence three", "--allow_missing")
    result = run(*arguments, "--allow_missing")
    assert result.returncode == 0, result.stderr
    assert "not scored: sequence three: expected 6 predicted masks" in result.stdout


def test_youtube_objects_has_a_mean_per_class(tmp_path):
    names = {"cat-0001-001": 0, "cat-0002-001": 3, "dog-0001-001": 0}
    for name, error in names.items():
        truth = [drawn_masks.draw(i, [255]) for i in range(4)]
        drawn_masks.write_masks(tmp_path / "yto/Annotations" / name, truth)
        predicted = [drawn_masks.draw(i, [1], error) for i in range(4)]
        drawn_masks.write_masks(tmp_path / "out" / name, predicted)
    result = run(
        "--dataset=youtube_objects",
        f"--dataset_root={tmp_path}/yto",
        f"--predictions={tmp_path}/out",
    )
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    cat, overall = (next(x for x in lines if x[:1] == [word]) for word in ("cat", "mean"))
    assert cat[1] == "2"
    assert 0.5 < float(cat[2]) < 0.95
    assert ["dog", "1", "1.000"] in lines
    assert float(overall[-1]) == pytest.approx((float(cat[2]) + 1) / 2, abs=1e-3)


def test_a_report_compares_two_folders(davis, predictions, tmp_path):
    other = drawn_masks.write_predictions(tmp_path / "other", OBJECTS, error=5)
    result = run(
        f"--dataset_root={davis}",
        f"--predictions={predictions}",
        f"--compare={other}",
        f"--report={tmp_path}/new/report.html",
    )
    assert result.returncode == 0, result.stderr
    assert f"{predictions}:" in result.stdout
    assert f"{other}:" in result.stdout
    assert "Compared with <b>other</b>" in (tmp_path / "new/report.html").read_text()
    assert not list(other.glob("*.csv"))


def check_refusal(result, predictions, *words):
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert all(word in line for word in words), line
    assert "Traceback" not in result.stderr
    assert not list(predictions.glob("*.csv"))


def test_bad_predictions_give_one_sentence_and_no_csv(davis, predictions):
    arguments = f"--dataset_root={davis}", f"--predictions={predictions}"
    Image.new("RGB", (80, 48), (128, 0, 0)).save(predictions / "one/00002.png")
    check_refusal(run(*arguments), predictions, "one/00002.png", "colors")
    (predictions / "one/00002.png").unlink()
    check_refusal(run(*arguments), predictions, "sequence one", "00002.png")


def test_missing_predictions_are_skipped_with_allow_missing(davis, predictions):
    (predictions / "one/00002.png").unlink()
    result = run(f"--dataset_root={davis}", f"--predictions={predictions}", "--allow_missing")
    assert result.returncode == 0, result.stderr
    assert "not scored: sequence one: expected 6 predicted masks" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["expected --predictions"]),
        (("--predictions={out}",), ["either --dataset_root=DIR or --ground_truth=DIR"]),
        (
            ("--predictions={out}", "--dataset_root=/nowhere"),
            ["/nowhere: expected a data set, found no such"],
        ),
        (
            ("--predictions=/nowhere", "--dataset_root={davis}"),
            ["/nowhere: expected a folder of mask PNGs per sequence, found no such folder"],
        ),
        (("--predictions={out}", "--dataset_root={davis}", "--split=train"), ["train.txt"]),
        (("--predictions={out}", "--dataset_root={davis}", "--sequences=dog"), ["'dog'"]),
        (("--predictions={out}", "--dataset_root={davis}", "--year=2016"), ["2016/val.txt"]),
    ],
)
def test_invalid_flags_give_one_sentence(davis, predictions, arguments, words):
    filled = [text.format(out=predictions, davis=davis) for text in arguments]
    check_refusal(run(*filled), predictions, *words)

import csv

import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.training import progress_log
from feelvos_tf.training.progress_log import MetricsFile, ProgressLog, duration


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_every_step_is_one_row_with_its_scores(tmp_path):
    metrics = MetricsFile(tmp_path, 0)
    metrics.write({"loss": 1.5}, 1)
    metrics.write({"loss": 0.25}, 2)
    metrics.write({"eval/J": 0.5}, 2)
    metrics.write({"loss": 0.125}, 3)
    assert rows(tmp_path) == [
        {"step": "1", "loss": "1.5"},
        {"step": "2", "loss": "0.25", "eval/J": "0.5"},
        {"step": "3", "loss": "0.125"},
    ]


def test_a_resumed_run_drops_the_rows_that_it_will_repeat(tmp_path):
    first = MetricsFile(tmp_path, 0)
    for step in (1, 2, 3, 4):
        first.write({"loss": float(step)}, step)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("5,")  # Killed while writing.
    again = MetricsFile(tmp_path, 2)
    again.write({"loss": 30.0, "triplet": 1.0}, 3)
    assert rows(tmp_path) == [
        {"step": "1", "loss": "1"},
        {"step": "2", "loss": "2"},
        {"step": "3", "loss": "30", "triplet": "1"},
    ]


def test_rows_are_written_at_once(tmp_path):
    metrics = MetricsFile(tmp_path, 0)
    for step in range(1, 4):
        metrics.write({"loss": 1.0}, step)
        assert len(rows(tmp_path)) == step


def test_durations_are_readable():
    assert duration(59) == "59 s"
    assert duration(3700) == "1 h 01 min"


def scalars(loss):
    return {"loss": loss, "training_miou": 0.5, "learning_rate": 0.1}


def test_an_evaluation_does_not_slow_down_the_reported_training(tmp_path, monkeypatch):
    now = 0
    monkeypatch.setattr(progress_log.time, "monotonic", lambda: now)
    log = ProgressLog(0, 100, 1, MetricsFile(tmp_path, 0))
    log.add(1, scalars(1.0))
    now = 10
    log.write(1)
    now = 100
    log.write_scores({"J": 0.5}, 1)
    log.add(2, scalars(1.0))
    now = 120
    log.write(2)
    assert [row["steps_per_second"] for row in rows(tmp_path)] == ["0.1", "0.05"]


def test_without_lines_scalars_do_not_pile_up_and_a_loss_that_is_not_finite_is_noticed(capsys):
    log = ProgressLog(0, 10**6, 1)
    for step in range(1, 10 * progress_log._MOST_PENDING):
        log.add(step, scalars(2.0 * step))
        assert len(log._pending) < progress_log._MOST_PENDING
    log.write(step)
    assert f"step {step}/1000000  loss {step + 1:.4f}" in capsys.readouterr().err
    with pytest.raises(InputError, match=f"the loss became nan at step {step + 3}"):
        for more in range(1, progress_log._MOST_PENDING + 1):
            log.add(step + more, scalars(float("nan") if more == 3 else 1.0))

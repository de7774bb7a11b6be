"""The GPU check, run on a CPU."""

import json
import os
import pathlib
import subprocess
import sys

import gpu_check
import pytest
from gpu_check import Row

SCRIPT = pathlib.Path(__file__).parents[1] / "gpu_check.sh"


@pytest.fixture(autouse=True)
def parsed_flags(tmp_path):
    gpu_check._FLAGS(["gpu_check", "--short", f"--output_dir={tmp_path}"])
    yield
    gpu_check._FLAGS.unparse_flags()


def test_a_row_passes_within_its_limits():
    assert Row("a", 2.0).passed is None
    assert Row("a", 2.0, at_most=2).passed is True
    assert Row("a", 2.0, at_least=3).passed is False
    assert Row("a", float("nan"), at_most=2).passed is False
    assert Row("a", "stopped", at_least=0).passed is False


def test_the_table_has_a_line_per_row():
    rows = [Row("peak", 1234.5, "MB", part="frames"), Row("J&F", 80.0, "%", at_least=90, part="q")]
    assert gpu_check.table(rows).splitlines()[2:] == [
        "| frames | peak | 1234 MB |  |  |",
        "| q | J&F | 80 % | at least 90 | **failed** |",
    ]


def test_a_part_that_fails_or_hangs_is_a_row(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "_LEAST_SECONDS", 0)
    [failed] = gpu_check.run_part("no_such_part")
    assert failed.passed is False and "exit code 1: KeyError: 'no_such_part'" in failed.value
    [stopped] = gpu_check.run_part("device", seconds=0.01)
    assert stopped.value.startswith("stopped after") and stopped.passed is False
    rows = gpu_check.run_all(["no_such_part"])
    assert [row.what for row in rows] == ["all of it", "the part"]
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [row["passed"] for row in found["rows"]] == [False, None]
    assert "KeyError" in (tmp_path / "gpu_check.md").read_text()


def check(folder, *arguments):
    """Runs the script on the CPU; returns the finished process and the rows."""
    environment = {**os.environ, "FEELVOS_PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", SCRIPT, "--short", f"--output_dir={folder}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return done, json.loads((folder / "gpu_check.json").read_text())["rows"]


def test_without_a_gpu_the_check_of_the_device_fails(tmp_path):
    done, rows = check(tmp_path, "--only=device")
    assert done.returncode == 1
    assert [row["what"] for row in rows if row["passed"] is False] == ["GPUs"]
    assert "| device | GPUs | 0 | at least 1 | **failed** |" in done.stdout


@pytest.mark.slow
def test_everything_else_passes_on_a_cpu(tmp_path):
    _, rows = check(tmp_path, "--seconds=2000")
    failed = [row for row in rows if row["passed"] is False]
    assert [row["what"] for row in failed] == ["GPUs"], failed
    assert {row["part"] for row in rows} == set(gpu_check._OF_GPU)

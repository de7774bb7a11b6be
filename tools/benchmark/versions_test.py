import pathlib
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = pathlib.Path(__file__).with_name("versions.py")


def run(*arguments):
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True)


def test_two_files_become_a_table_of_the_largest_differences(tmp_path):
    maps = np.array([1.0, -4.0], np.float32)
    norms = np.array([10.0, 0.1], np.float32)
    for name, shift in (("one", 0.0), ("two", 0.01)):
        arrays = {"logits": maps + shift, "norms, each": norms + shift}
        np.savez(tmp_path / f"{name}.npz", version=name, **arrays)
    done = run(f"--compare={tmp_path / 'one.npz'},{tmp_path / 'two.npz'}")
    assert done.returncode == 0, done.stderr
    title, _, logits, norms = done.stdout.splitlines()
    assert title == "| compared | TensorFlow one and two |"
    # Relative to the largest value, 4, and to each norm, the smaller of which is 0.1.
    assert logits == "| logits | 2.5e-03 |"
    assert norms == "| norms, each | 1.0e-01 |"


@pytest.mark.parametrize("arguments", [(), ("--compare=one.npz",)])
def test_missing_flags_are_named(arguments):
    done = run(*arguments)
    assert done.returncode == 1
    assert "error: expected --output=FILE.npz or --compare=" in done.stderr


def test_a_file_that_cannot_be_compared_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", something=1)
    for name, found in {
        "none.npz": ", found no such file",
        "text.npz": " (",
        "other.npz": ", found something",
    }.items():
        done = run(f"--compare={tmp_path / name},{tmp_path / name}")
        assert done.returncode == 1
        assert f"{name}: expected a file that --output wrote{found}" in done.stderr
        assert "Traceback" not in done.stderr

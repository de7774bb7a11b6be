"""The golden tests again with their narrow limits, in a process that rounds as the release did.

There, testing/golden.py also builds the networks with `Feelvos.fold_batch_norm = False`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = [HERE / "forward_golden_test.py", HERE / "train_step_golden_test.py"]


@pytest.mark.parametrize(
    "tests",
    [
        pytest.param([FILES[0], "-k", "mobilenet_v2 and (features or distance)"], id="mobilenet"),
        pytest.param(FILES, id="all", marks=pytest.mark.slow),
    ],
)
def test_golden_numbers_without_onednn(tests):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, tests)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env["TF_ENABLE_ONEDNN_OPTS"] = "0"
    result = subprocess.run(command, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stdout[-4000:]

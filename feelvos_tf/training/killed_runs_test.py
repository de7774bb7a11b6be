"""A run that is killed, whenever and however often, ends like an uninterrupted one."""

from __future__ import annotations

import pathlib
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from feelvos_tf.data import datasets, record_shards
from feelvos_tf.data.input_pipeline import training_dataset
from feelvos_tf.data.paper_clips import ClipSettings
from feelvos_tf.testing import checkpoint_state
from feelvos_tf.training.checkpoints import only_process
from feelvos_tf.training.optimizers import AdamOptimizer
from feelvos_tf.training.trainer_test import make_trainer

CHILD = """
import sys
from feelvos_tf.training.killed_runs_test import train
train(*sys.argv[1:])
"""


def train(records, folder, num_steps):
    """Trains or resumes in a folder until the last step, with a checkpoint after every step."""
    clips = ClipSettings(crop_size=(17, 17), min_label_count=1)
    settings = {"records": records, "clips": clips, "seed": 3}
    with only_process(folder):
        _, trainer = make_trainer(
            pathlib.Path(folder),
            num_steps=int(num_steps),
            optimizer=AdamOptimizer,
            average_decay=0.9,
            save_every_steps=1,
            log_every_steps=1,
        )
        trainer.train(
            lambda step, share: training_dataset(2, first_batch=step, share=share, **settings)
        )


def start(records, folder, num_steps):
    command = [sys.executable, "-c", CHILD, records, str(folder), str(num_steps)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def kill(process, moment):
    """Kills the process some time after its first step; returns whether it was still running."""
    for line in process.stderr:
        if "  loss " in line:
            break
    time.sleep(moment)
    process.kill()
    process.communicate()
    return process.returncode != 0


@pytest.mark.parametrize(
    ("kills", "steps"), [(2, 15), pytest.param(20, 40, marks=pytest.mark.slow)]
)
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path, testdata, kills, steps, capsys
):
    videos = datasets.list_sequences(testdata, split="train")[:3]
    record_shards.write_shards(videos, tmp_path / "records", "train", 2)
    records = str(tmp_path / "records/train-*")
    begin = time.monotonic()
    train(records, tmp_path / "whole", steps)
    moments, killed, folder = random.Random(1), 0, tmp_path / "killed-0"
    # A little longer than the time from one checkpoint to the next.
    longest = min(1.0, (time.monotonic() - begin) / steps)
    while killed < kills:
        if kill(start(records, folder, steps), moments.uniform(0, longest)):
            killed += 1
        else:
            folder = tmp_path / f"killed-{killed}"
    assert any(folder.glob("ckpt-*.index"))
    train(records, folder, steps)
    assert "resuming from" in capsys.readouterr().err
    expected, found = (checkpoint_state.read(path, steps) for path in (tmp_path / "whole", folder))
    assert len(expected) > 10 and found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    left = {path.name.split("-")[0] for path in folder.iterdir() if "temp" in path.name}
    assert not left

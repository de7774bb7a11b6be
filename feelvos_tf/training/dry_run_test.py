"""A dry run reports what a run will need, and writes nothing."""

from __future__ import annotations

import contextlib
from unittest import mock

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.testing.tiny_model import tiny_batches
from feelvos_tf.training import dry_run
from feelvos_tf.training.trainer_test import make_trainer


def listing(folder):
    return {(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir()}


def test_it_resumes_from_the_run_s_checkpoint_and_writes_nothing(tmp_path):
    _, trainer = make_trainer(tmp_path)
    trainer.train(tiny_batches(4))
    before = listing(tmp_path)
    _, trainer = make_trainer(
        tmp_path, num_steps=1000, gradient_accumulation_steps=4, save_every_steps=300
    )
    trial = trainer.try_out(tiny_batches(4))
    lines = trainer.forecast(trial, parts=2, batch_size=4)
    assert listing(tmp_path) == before
    assert trial.clips == 1 and trial.bytes_before > 0 and trial.seconds > 0
    text = "\n".join(lines)
    assert "parameters: 5 in 3 variables, 5 trained" in text
    assert "batch: 4 clips = 2 parts x 1 device x 2 clips" in text
    assert "steps: 994 of 1000" in text and "checkpoints: 4, of which 4 are kept" in text


@pytest.mark.parametrize("parts", [1, 2])
def test_memory_that_tensorflow_keeps_after_the_first_step_counts(tmp_path, parts):
    """Its oneDNN allocator never gives memory back, so a second step needs no more."""
    _, trainer = make_trainer(tmp_path, gradient_accumulation_steps=parts)
    update, kept = trainer._update, []

    def keep_memory(*arguments):
        kept[:] = kept or [np.ones(64 * 2**20, np.uint8)]
        return update(*arguments)

    with mock.patch.object(trainer, "_update", keep_memory):
        trial = trainer.try_out(tiny_batches(2))
    if trial.place != "this machine":
        pytest.skip("looks at the GPU")
    assert trial.bytes_more * 2 // parts > 48 * 2**20


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_lost_list_of_checkpoints_and_partial_files_stay_as_they_are(
    tmp_path, capsys, is_damaged
):
    make_trainer(tmp_path)[1].train(tiny_batches(1))
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "ckpt-9.index.tempstate1234").write_text("half")
    if is_damaged:
        (tmp_path / "ckpt-6.index").write_text("cut")
    refused = pytest.raises(InputError, match=f"^{tmp_path}: .* found only damaged")
    before = listing(tmp_path)
    capsys.readouterr()
    with refused if is_damaged else contextlib.nullcontext():
        make_trainer(tmp_path)[1].try_out(tiny_batches(1))
    said = capsys.readouterr().err
    what = "ckpt-6: the checkpoint is damaged" if is_damaged else "ckpt-6, step 6"
    assert f"{tmp_path}/{what}" in said
    assert listing(tmp_path) == before


def test_a_missing_folder_is_not_created(tmp_path):
    make_trainer(tmp_path / "new")[1].try_out(tiny_batches(1))
    assert not (tmp_path / "new").exists()


def test_memory_is_that_of_the_clips_of_one_device(tmp_path):
    trial = dry_run.Trial(0, {"loss": 1.0}, 2, 3.0, 10 * 2**30, 2**30, "GPU:0")
    _, trainer = make_trainer(tmp_path, num_steps=10)
    trainer._strategy = mock.Mock(num_replicas_in_sync=2)
    text = "\n".join(trainer.forecast(trial, parts=4, batch_size=48))
    assert "so about 16.00 GiB of GPU:0" in text
    assert "about 72.0 s each, 0 h 12 min in total" in text


def test_losses_and_j_are_named_as_in_the_log(tmp_path):
    scalars = {"loss": 1.0, "learning_rate": 0.1, "training_miou": 0.5}
    trial = dry_run.Trial(0, scalars, 1, 3.0, 2**30, 2**30, "GPU:0")
    lines = make_trainer(tmp_path)[1].forecast(trial, parts=4, batch_size=48)
    assert "a step with 1 clip: loss 1.0000, J 0.5000" in lines


def test_the_peak_memory_of_the_process_is_measured():
    memory = dry_run.MemoryWatch()
    if memory.place != "this machine":
        pytest.skip("looks at the GPU")
    before = memory.reset()
    assert np.ones(64 * 2**20, np.uint8).all()
    assert memory.peak() - before > 48 * 2**20
    memory.reset()
    assert memory.peak() - before < 48 * 2**20


def test_memory_that_was_freed_before_counts_again():
    memory = dry_run.MemoryWatch()
    if memory.place != "this machine":
        pytest.skip("looks at the GPU")
    # Small blocks, the last one kept, so that the C library gives none of them back by itself.
    blocks = [np.ones(2**14, np.uint8) for _ in range(4096)]
    del blocks[:-1]
    before = memory.reset()
    blocks += [np.ones(2**14, np.uint8) for _ in range(4096)]
    assert memory.peak() - before > 48 * 2**20

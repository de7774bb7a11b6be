import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.testing.tiny_model import tiny_batches
from feelvos_tf.training import watch
from feelvos_tf.training.trainer_test import make_trainer, read_events


def test_histograms_and_a_profile_are_made_at_the_steps_asked_for(tmp_path):
    weights = {"logits/weights": tf.Variable([1.0, 2.0])}
    writer = tf.summary.create_file_writer(str(tmp_path / "train"))
    watched = watch.Summaries(tmp_path, weights, histogram_every_steps=2, profile_steps=(2, 3))
    with writer.as_default():
        for step in range(1, 6):
            watched.before(step)
            watched.after(step, {})
    writer.close()
    assert [step for step, tag, _ in read_events(tmp_path) if tag == "logits/weights"] == [2, 4]
    assert list(tmp_path.glob("train/plugins/profile/*/*.xplane.pb"))


def test_a_profile_that_ends_before_it_begins_is_refused(tmp_path):
    with pytest.raises(InputError, match="Summaries.profile_steps: expected"):
        watch.Summaries(tmp_path, {}, profile_steps=(5, 4))


def test_a_run_writes_its_table_with_j_and_clips_per_second(tmp_path, capsys):
    _, trainer = make_trainer(tmp_path, log_every_steps=2)
    trainer.train(tiny_batches(3))
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    assert {"step", "loss", "training_miou", "learning_rate", "clips_per_second"} <= set(columns)
    table = np.genfromtxt(lines, delimiter=",", names=True)
    assert table["step"].tolist() == [1, 2, 4, 6]
    np.testing.assert_allclose(table["clips_per_second"], 3 * table["steps_per_second"], rtol=1e-4)
    assert "J 0." in capsys.readouterr().err

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.testing.tiny_model import tiny_batches
from feelvos_tf.training import summaries
from feelvos_tf.training.trainer_test import make_trainer, read_events


def test_histograms_and_a_profile_are_made_at_the_steps_asked_for(tmp_path):
    weights = {"logits/weights": tf.Variable([1.0, 2.0])}
    writer = tf.summary.create_file_writer(str(tmp_path / "train"))
    watched = summaries.Summaries(tmp_path, weights, histogram_every_steps=2, profile_steps=(2, 3))
    with writer.as_default():
        for step in range(1, 6):
            watched.before(step)
            watched.after(step, {})
    writer.close()
    assert [step for step, tag, _ in read_events(tmp_path) if tag == "logits/weights"] == [2, 4]
    assert list(tmp_path.glob("train/plugins/profile/*/*.xplane.pb"))


def test_a_profile_that_ends_before_it_begins_is_refused(tmp_path):
    with pytest.raises(InputError, match="Summaries.profile_steps: expected"):
        summaries.Summaries(tmp_path, {}, profile_steps=(5, 4))


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


HEIGHT, WIDTH, GAP = 12, 16, 6


def clip(num_objects=2):
    rng = np.random.default_rng(0)
    labels = np.zeros((3, HEIGHT, WIDTH), np.int32)
    labels[0, :6], labels[2, 6:] = 1, 1
    return {
        "images": rng.uniform(0, 255, (3, HEIGHT, WIDTH, 3)).astype(np.float32),
        "labels": labels,
        "prediction": np.zeros((HEIGHT, WIDTH), np.int32),
        "global_map": np.linspace(0, 1, num_objects * 12).reshape(num_objects, 3, 4),
        "local_map": np.ones((num_objects, 3, 4)),
    }


def test_the_picture_has_a_row_of_frames_and_a_row_of_maps_per_object():
    picture = summaries.training_picture(clip(num_objects=3))
    assert picture.shape == (4 * HEIGHT + 3 * GAP, 4 * WIDTH + 3 * GAP, 3)
    assert picture.dtype == np.uint8
    second = picture[:HEIGHT, WIDTH + GAP : 2 * WIDTH + GAP]
    np.testing.assert_array_equal(second, clip()["images"][2].astype(np.uint8))
    third = picture[:HEIGHT, 2 * (WIDTH + GAP) : 2 * (WIDTH + GAP) + WIDTH]
    np.testing.assert_array_equal(third, second)
    fourth = picture[:HEIGHT, 3 * (WIDTH + GAP) :]
    assert np.array_equal(fourth[:6], second[:6]) and not np.array_equal(fourth[6:], second[6:])
    first_map = picture[HEIGHT + GAP : 2 * HEIGHT + GAP, :WIDTH]
    assert first_map[0, 0, 0] == 0 and first_map.max() < 255 / 2
    local_map = picture[HEIGHT + GAP : 2 * HEIGHT + GAP, WIDTH + GAP : 2 * WIDTH + GAP]
    assert np.all(local_map == 255)


def test_a_map_that_the_model_does_not_use_is_omitted():
    without = {k: v for k, v in clip().items() if k != "global_map"}
    picture = summaries.training_picture(without)
    row = picture[HEIGHT + GAP : 2 * HEIGHT + GAP]
    assert np.all(row[:, :WIDTH] == 255) and np.all(row[:, WIDTH + GAP : 2 * WIDTH] == 0)

import os
import signal
import subprocess
import sys

import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf import configurables  # noqa: F401
from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import corrupt_records
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.weights import checkpoint_of
from feelvos_tf.testing import small_model
from feelvos_tf.testing.tiny_model import TinyModel, tiny_batches, tiny_dataset
from feelvos_tf.training import trainer as trainer_module
from feelvos_tf.training.losses import Loss, LossInputs
from feelvos_tf.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("eagerly")
EVENTS = "train/events.*"
SETTINGS_OF_PARTS = {
    "Intervals": {"log_every_steps", "save_every_steps", "evaluate_every_steps"},
    "InitialWeights": {"checkpoint", "calibration_clips"},
    "Objective": {"losses", "weight_decay"},
    "Summaries": {"picture_every_steps"},
}


@pytest.fixture(autouse=True)
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


def make_trainer(model_dir, model=None, **settings):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = model or TinyModel()
    settings = {"num_steps": 6, "weight_decay": 0.01, **settings}
    for part, names in SETTINGS_OF_PARTS.items():
        for name in names & settings.keys():
            gin.bind_parameter(f"{part}.{name}", settings.pop(name))
    return model, Trainer(model, model.named_variables(), model_dir, strategy, **settings)


def read_events(model_dir):
    (path,) = model_dir.glob(EVENTS)
    events = [e for e in tf.compat.v1.train.summary_iterator(str(path)) if e.summary.value]
    return [(e.step, v.tag, tf.make_ndarray(v.tensor)) for e in events for v in e.summary.value]


def test_training_writes_checkpoints_settings_scalars_and_pictures(tmp_path, capsys):
    _, trainer = make_trainer(
        tmp_path, save_every_steps=3, log_every_steps=2, picture_every_steps=3
    )
    assert trainer.train(tiny_batches(2)) == 0
    names = {p.name for p in tmp_path.iterdir()}
    assert {"ckpt-3.index", "ckpt-6.index", "operative_config.gin", "train"} <= names
    config = (tmp_path / "operative_config.gin").read_text()
    for line in (
        "MomentumOptimizer.bias_gradient_multiplier = 2.0",
        "BootstrappedCrossEntropy.top_k_percent_pixels = 0.15",
        "LearningRate.base = 0.0007",
        "Checkpoints.max_to_keep = 5",
    ):
        assert line in config
    events = read_events(tmp_path)
    tags = {tag for _, tag, _ in events}
    assert {"loss", "cross_entropy", "regularization", "learning_rate", "training_miou"} <= tags
    assert [step for step, tag, _ in events if tag == "clip"] == [3, 6]
    log = capsys.readouterr().err
    assert "step 4/6" in log and "steps/s" in log and "left" in log


def test_resuming_gives_the_weights_and_averages_of_an_uninterrupted_run(tmp_path):
    whole, trainer = make_trainer(tmp_path / "whole", average_decay=0.5)
    trainer.train(tiny_batches(2))
    _, first = make_trainer(tmp_path / "halves", average_decay=0.5, save_every_steps=3)
    stop_after(first, 3)
    assert first.train(tiny_batches(2)) == signal.SIGTERM
    second, resumed = make_trainer(tmp_path / "halves", average_decay=0.5)
    assert int(resumed.step.numpy()) == 3
    resumed.train(tiny_batches(2))
    for name, variable in whole.named_variables().items():
        np.testing.assert_array_equal(variable, second.named_variables()[name])
        average = trainer._state.average.averages[name]
        np.testing.assert_array_equal(average, resumed._state.average.averages[name])


def test_an_average_that_a_run_began_without_starts_at_the_weights_it_resumes_with(tmp_path):
    make_trainer(tmp_path, num_steps=2)[1].train(tiny_batches(2))
    model, resumed = make_trainer(tmp_path, average_decay=0.5)
    assert int(resumed.step.numpy()) == 2
    for name, average in resumed._state.average.averages.items():
        np.testing.assert_array_equal(average, model.named_variables()[name])
    resumed.train(tiny_batches(2))
    averages = {n: a.numpy() for n, a in resumed._state.average.averages.items()}

    _, again = make_trainer(tmp_path, average_decay=0.5)
    for name, average in again._state.average.averages.items():
        np.testing.assert_array_equal(average, averages[name])
    make_trainer(tmp_path, num_steps=8)[1].train(tiny_batches(2))
    assert (tmp_path / "ckpt-8.index").exists()


def test_settings_that_differ_from_the_folder_s_last_run_are_printed(tmp_path, capsys):
    gin.parse_config("LearningRate.base = 0.01")
    _, trainer = make_trainer(tmp_path)
    trainer.train(tiny_batches(1))
    gin.clear_config()
    capsys.readouterr()
    make_trainer(tmp_path, num_steps=9, weight_decay=0.02)
    lines = [line for line in capsys.readouterr().err.splitlines() if "changed since" in line]
    found = {line.split("in this folder: ")[1] for line in lines}
    assert found == {
        "LearningRate.base = 0.0007, was 0.01",
        "Objective.weight_decay = 0.02, was 0.01",
    }


def test_a_batch_that_cannot_be_divided_into_the_parts_is_refused(tmp_path):
    _, trainer = make_trainer(tmp_path, gradient_accumulation_steps=3)
    with pytest.raises(InputError, match="batch_size: expected a multiple of 3 .* found 2"):
        trainer.train(tiny_batches(2))


def stop_after(trainer, steps):
    """Sends this process SIGTERM during the given step."""
    update = trainer._train_step
    count = [0]

    def counting(*args):
        count[0] += 1
        if count[0] == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(*args)

    trainer._train_step = counting


def test_a_finished_run_is_reported_and_left_unchanged(tmp_path, capsys):
    _, trainer = make_trainer(tmp_path)
    trainer.train(tiny_batches(1))
    written = (tmp_path / "ckpt-6.index").stat().st_mtime_ns
    _, trainer = make_trainer(tmp_path)
    assert trainer.train(tiny_batches(1)) == 0
    assert "this run already ended at step 6; Trainer.num_steps = 6 must" in capsys.readouterr().err
    assert (tmp_path / "ckpt-6.index").stat().st_mtime_ns == written


def test_a_signal_stops_after_the_step_with_a_checkpoint_and_handlers_are_restored(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    _, trainer = make_trainer(tmp_path, save_every_steps=100)
    stop_after(trainer, 2)
    assert trainer.train(tiny_batches(1)) == signal.SIGTERM
    assert (tmp_path / "ckpt-2.index").exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_loss_that_is_not_finite_stops_the_training_and_nothing_more_is_saved(tmp_path):
    model, trainer = make_trainer(tmp_path, save_every_steps=1, log_every_steps=1)
    update = trainer._train_step

    def spoiling(*args):
        if int(trainer.step.numpy()) == 2:
            model.biases.assign([float("nan")])
        return update(*args)

    trainer._train_step = spoiling
    with pytest.raises(InputError, match="the loss became nan at step 3, with clips of ") as caught:
        trainer.train(named_batches)
    # The third batch is the one after the two that were trained on.
    assert "clips of balloon 2, ball 2: expected a number" in str(caught.value)
    assert f"resume from {tmp_path / 'ckpt-2'} with a smaller" in str(caught.value)
    assert not (tmp_path / "ckpt-3.index").exists()


def named_batches(step, _):
    """Returns batches of two clips whose video names contain the number of the batch."""

    def name(number, batch):
        names = [
            tf.strings.join([each, tf.strings.as_string(number)]) for each in ("balloon ", "ball ")
        ]
        return {**batch, "video_id": tf.stack(names)}

    return tiny_dataset(2).skip(step).enumerate(step).map(name)


def test_data_that_ends_and_batches_of_unknown_size_are_refused(tmp_path):
    _, trainer = make_trainer(tmp_path)
    with pytest.raises(InputError, match="data ended at step 2"):
        trainer.train(lambda *_: tiny_dataset(1).take(2))
    loose = tiny_dataset(1).unbatch().batch(2)
    with pytest.raises(InputError, match="fixed number of clips"):
        trainer.train(lambda *_: loose)


def test_the_model_is_scored_at_its_intervals_and_the_scores_are_written(tmp_path):
    asked = []

    def evaluate(step):
        asked.append(step)
        return {"J": 0.5}

    _, trainer = make_trainer(tmp_path, evaluate=evaluate, evaluate_every_steps=2)
    trainer.train(tiny_batches(1))
    assert asked == [2, 4, 6]
    scores = [(step, float(v)) for step, tag, v in read_events(tmp_path) if tag == "eval/J"]
    assert scores == [(2, 0.5), (4, 0.5), (6, 0.5)]


def test_training_goes_on_after_an_evaluation_that_failed(tmp_path, capsys):
    def evaluate(step):
        if step == 4:
            raise InputError("no space left")
        return {"J": 0.5}

    _, trainer = make_trainer(tmp_path, evaluate=evaluate, evaluate_every_steps=2)
    assert trainer.train(tiny_batches(1)) == 0
    assert "step 4: not scored, no space left" in capsys.readouterr().err
    assert [step for step, tag, _ in read_events(tmp_path) if tag == "eval/J"] == [2, 6]


def test_a_checkpoint_of_weights_alone_starts_with_fresh_momentum(tmp_path):
    source = TinyModel()
    source.biases.assign([3.0])
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = checkpoint_of(source.named_variables(), step=step)
    tf.train.CheckpointManager(checkpoint, str(tmp_path), 1, checkpoint_name="ckpt").save(0)
    model, trainer = make_trainer(tmp_path)
    assert float(model.biases[0]) == 3.0
    assert trainer.train(tiny_batches(1)) == 0


class OtherModel(TinyModel):
    def __init__(self):
        super().__init__()
        self.more = tf.Variable([1.0], name="more")

    def named_variables(self):
        return {**super().named_variables(), "more/biases": self.more}


def test_checkpoints_that_are_missing_or_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere: expected the prefix of a TensorFlow checkpoint"):
        make_trainer(tmp_path / "a", checkpoint=str(tmp_path / "nowhere"))
    gin.clear_config()
    _, trainer = make_trainer(tmp_path / "b")
    trainer.train(tiny_batches(1))
    with pytest.raises(InputError, match="ckpt-6: expected a checkpoint of the model"):
        make_trainer(tmp_path / "b", model=OtherModel())


EXIT = """
import sys
from feelvos_tf.testing import tiny_model
from feelvos_tf.training import trainer_test
_, trainer = trainer_test.make_trainer(__import__("pathlib").Path(sys.argv[1]), num_steps=10**9)
sys.exit(128 + trainer.train(tiny_model.tiny_batches(1)))
"""


def test_a_real_interrupt_leaves_a_checkpoint(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", EXIT, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("step 20/"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "stopping after this step" in rest and "saved" in rest
    assert tf.train.latest_checkpoint(str(tmp_path))


def spoil_weights_after(trainer, model, step):
    """Sets a weight to NaN after the given step, whose own loss is still finite."""
    update = trainer._train_step

    def spoiling(*args):
        result = update(*args)
        if int(trainer.step.numpy()) == step:
            model.biases.assign([float("nan")])
        return result

    trainer._train_step = spoiling


def test_a_signal_during_evaluation_saves_nothing_after_a_loss_that_is_not_finite(tmp_path):
    def evaluate(step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"J": 0.5}

    settings = {"evaluate": evaluate, "evaluate_every_steps": 2, "save_every_steps": 100}
    model, trainer = make_trainer(tmp_path, log_every_steps=100, **settings)
    spoil_weights_after(trainer, model, 2)
    with pytest.raises(
        InputError, match="loss became nan at step 3.* there is no earlier checkpoint"
    ):
        trainer.train(tiny_batches(1))
    assert not list(tmp_path.glob("ckpt-*"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model, trainer = make_trainer(tmp_path, save_every_steps=2)
    spoil_weights_after(trainer, model, 4)
    with pytest.raises(InputError, match="a weight is not a finite number after step 4"):
        trainer.train(tiny_batches(1))
    assert {p.name for p in tmp_path.glob("ckpt-*.index")} == {"ckpt-2.index"}


def test_an_optimizer_given_as_a_string_is_refused(tmp_path):
    with pytest.raises(InputError, match="Trainer.optimizer: .*@AdamOptimizer, found 'Adam"):
        make_trainer(tmp_path, optimizer="AdamOptimizer")


def test_the_average_starts_at_the_initial_weights_and_is_scored(tmp_path):
    scored = []
    model, trainer = make_trainer(
        tmp_path,
        average_decay=0.5,
        evaluate_every_steps=6,
        evaluate=lambda step: scored.append(model.weights_.numpy()) or {"J": 0.0},
    )
    first = trainer._state.average.averages["logits/weights"].numpy()
    np.testing.assert_array_equal(first, model.weights_)
    trainer.train(tiny_batches(2))
    np.testing.assert_array_equal(scored[0], trainer._state.average.averages["logits/weights"])
    assert not np.array_equal(scored[0], model.weights_)


@gin.configurable
class ShareOfObjects(Loss):
    """A loss that a user might add in a file of their own."""

    name = "share_of_objects"

    def __init__(self, weight=1.0):
        self.weight = weight

    def __call__(self, clip: LossInputs):
        assert clip.seed.shape == [2] and clip.step.dtype == tf.int64
        return tf.reduce_mean(tf.nn.softmax(clip.output.logits, axis=0)[1:])


def test_a_new_loss_takes_one_line_of_gin_and_appears_in_log_and_tensorboard(tmp_path, capsys):
    gin.parse_config(
        """
        Objective.losses = [@BootstrappedCrossEntropy(), @ShareOfObjects(), @TripletLoss()]
        ShareOfObjects.weight = 0.5
        """
    )
    _, trainer = make_trainer(tmp_path, log_every_steps=2)
    trainer.train(tiny_batches(2))
    scalars = {
        (step, tag): float(value) for step, tag, value in read_events(tmp_path) if "_" in tag
    }
    # Two clips with half the weight each; the triplet loss has weight 0 and is left out.
    assert 0 < scalars[4, "share_of_objects"] < 1
    assert not any(tag == "triplet" for _, tag in scalars)
    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("step 4/")]
    assert f"share_of_objects {scalars[4, 'share_of_objects']:.4f}" in line
    written = (tmp_path / "operative_config.gin").read_text()
    assert "@ShareOfObjects()" in written and "ShareOfObjects.weight = 0.5" in written
    gin.clear_config()
    gin.parse_config(written)
    assert [loss.name for loss in gin.get_bindings("Objective")["losses"]] == [
        "cross_entropy",
        "share_of_objects",
        "triplet",
    ]


@pytest.mark.parametrize(
    "losses",
    [["TripletLoss"], [ShareOfObjects], [], [ShareOfObjects(), ShareOfObjects()], "TripletLoss"],
)
def test_anything_but_a_list_of_losses_is_refused(tmp_path, losses):
    with pytest.raises(InputError, match="Objective.losses: expected"):
        make_trainer(tmp_path, losses=losses)


def test_calibration_reads_the_first_clips(tmp_path, monkeypatch):
    datasets, calibrated = [], []
    monkeypatch.setattr(
        trainer_module, "calibrate_batch_norm", lambda _, images, __: calibrated.append(len(images))
    )

    def batches_from(step, share):
        datasets.append(step)
        return tiny_batches(1)(step, share)

    _, trainer = make_trainer(tmp_path, calibration_clips=2)
    trainer.train(batches_from)
    assert calibrated == [6]
    assert datasets == [0, 0]


class Refusing(Loss):
    """A loss that raises the kind of error that corrupt records raise."""

    name, weight = "refusing", 1.0

    def __call__(self, clip: LossInputs):
        with tf.control_dependencies([tf.debugging.assert_less(clip.num_objects, 1)]):
            return tf.constant(0.0)


def test_an_error_in_a_loss_is_raised_unchanged_and_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        corrupt_records, "check_file", lambda _: pytest.fail("looked for corrupt records")
    )
    gin.parse_config("training_dataset.records = 'nowhere/train-*'")
    _, trainer = make_trainer(tmp_path, losses=[Refusing()])
    with pytest.raises(tf.errors.InvalidArgumentError, match="refusing|assert|did not hold"):
        trainer.train(tiny_batches(1))


def test_an_error_in_the_input_pipeline_is_reported_in_one_sentence(tmp_path):
    def failing(batch):
        sentence = f"{corrupt_records.ERROR_MARK}train-1: record 2 is corrupt"
        check = tf.debugging.Assert(tf.constant(False), [sentence])
        with tf.control_dependencies([check]):
            return {key: tf.identity(value) for key, value in batch.items()}

    _, trainer = make_trainer(tmp_path)
    with pytest.raises(InputError, match="^train-1: record 2 is corrupt$"):
        trainer.train(lambda step, share: tiny_batches(1)(step, share).map(failing))


def test_settings_that_only_other_programs_use_are_kept(tmp_path):
    gin.parse_config("Predictor.max_reference_pixels = 512\nevaluation/Feelvos.window_radius = 9")
    _, trainer = make_trainer(tmp_path)
    trainer.train(tiny_batches(1))
    gin.clear_config()
    gin_settings.parse_model_dir(tmp_path, [])
    with gin_settings.evaluation_scope():
        model = small_model.create()
        assert model.window_radius == 9
        assert Predictor(model).max_reference_pixels == 512


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        ("set_random_seed.seed = -1", "int of 0 to 4294967295 | None"),
        ("LearningRate.decay_step = 0", "int of 1 or more"),
        ("LearningRate.base = -0.1", "float of 0.0 or more"),
        ("BootstrappedCrossEntropy.top_k_percent_pixels = 15.0", "float of 0.0 to 1.0"),
        ("MomentumOptimizer.momentum = 1.0", "float of 0.0 to 0.999999"),
        ("AdamOptimizer.beta_2 = 1.0", "float of 0.0 to 0.999999"),
        ("Trainer.average_decay = 1.0", "float of 0.0 to 0.999999"),
        ("Trainer.gradient_accumulation_steps = 0", "int of 1 or more"),
        ("Objective.summed_clips = 0", "int of 1 or more | None"),
        ("Intervals.save_every_steps = -1", "int of 0 or more"),
        ("Checkpoints.max_to_keep = 0", "int of 1 or more"),
        ("InitialWeights.last_layers = 'False'", "bool"),
    ],
)
def test_values_out_of_range_are_refused_with_the_name_of_the_setting(binding, expected):
    name, value = binding.split(" = ")
    part = name.split(".")[0]
    given = {"Trainer": (None, {}, "", None), "Checkpoints": (None,) * 4}
    given.update(dict.fromkeys(("MomentumOptimizer", "AdamOptimizer"), ({},)))
    gin.parse_config(binding)
    with pytest.raises(InputError) as caught:
        gin.get_configurable(part)(*given.get(part, ()))
    assert str(caught.value).startswith(f"{name}: expected {expected}, found {value}")

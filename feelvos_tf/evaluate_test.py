"""Scores of a run's checkpoints as they appear, and of the model during training."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf import configurables, evaluate  # noqa: F401
from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.evaluation import protocols, score_predictions
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.models.weights import checkpoint_of, load_weights
from feelvos_tf.testing import drawn_videos, in_this_process
from feelvos_tf.training.trainer import Trainer
from feelvos_tf.training.validation import Validation, copy_weights, evaluation_of

pytestmark = pytest.mark.usefixtures("eagerly")
TINY = """
output_stride = 16
atrous_rates = ()
MobileNetV2.depth_multiplier = 0.1
MobileNetV2.output_stride = %output_stride
Feelvos.backbone = @MobileNetV2()
Feelvos.atrous_rates = %atrous_rates
Feelvos.embedding_dimension = 8
"""


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


@pytest.fixture(scope="module")
def dataset_root(tmp_path_factory):
    return drawn_videos.write_davis(tmp_path_factory.mktemp("davis") / "root", {"bear": [1, 3]}, 4)


def tiny_model(seed: int = 0):
    """Returns an untrained network in which signals neither vanish nor explode."""
    tf.keras.utils.set_random_seed(seed)
    model = Feelvos()
    model.create_variables()
    for variable in release_names(model).values():
        if variable.shape.rank == 4:
            height, width, inputs, outputs = variable.shape
            fan_in = height * width * (1 if outputs == 1 else inputs)
            variable.assign(tf.random.normal(variable.shape) * np.sqrt(2 / fan_in))
    return model


def save(model, model_dir, step: int) -> str:
    """Writes a checkpoint like the trainer's."""
    checkpoint = checkpoint_of(release_names(model), step=tf.Variable(step, dtype=tf.int64))
    manager = tf.train.CheckpointManager(checkpoint, str(model_dir), 2, checkpoint_name="ckpt")
    path = manager.save(checkpoint_number=step)
    gin_settings.save_operative(model_dir)
    return path


def parse_with_evaluation_scope(dataset_root) -> None:
    """Parses settings with which the evaluated model differs from the trained one."""
    bindings = [
        f"Validation.dataset_root = '{dataset_root}'",
        "evaluation/MobileNetV2.output_stride = 8",
        "evaluation/Predictor.scales = (1.0, 0.5)",
    ]
    gin_settings.parse([], TINY.strip().splitlines() + bindings)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Returns a run's folder with one checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    gin_settings.parse([], TINY.strip().splitlines())
    save(tiny_model(), folder, 10)
    gin.clear_config()
    return folder


def scalars(folder):
    paths = sorted(folder.glob("events.*"))
    events = [e for path in paths for e in tf.compat.v1.train.summary_iterator(str(path))]
    return {
        (e.step, v.tag): float(tf.make_ndarray(v.tensor)) for e in events for v in e.summary.value
    }


def test_scores_of_a_predictor_are_those_of_its_masks(dataset_root, tmp_path):
    gin_settings.parse([], TINY.strip().splitlines())
    scores = Validation(dataset_root).score(Predictor(tiny_model()), tmp_path / "masks")
    assert sorted(path.name for path in (tmp_path / "masks/bear").glob("*.png")) == [
        f"{frame:05d}.png" for frame in range(4)
    ]
    targets = protocols.dataset_ground_truths(dataset_root)
    summary = score_predictions.score_folder(targets, tmp_path / "masks").summary
    assert scores == {"J": summary.j.mean, "F": summary.f.mean, "J&F": summary.j_and_f}


def evaluate_here(*arguments):
    return in_this_process.run(evaluate, *arguments)


def evaluate_there(*arguments):
    command = [sys.executable, "-m", "feelvos_tf.evaluate", *arguments]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.mark.parametrize(
    ("run", "end"),
    [
        (evaluate_here, "--once"),
        (evaluate_here, "--timeout=0.05"),
        pytest.param(evaluate_there, "--once", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_is_printed_in_a_line_and_written_as_scalars_at_its_step(
    run, end, run_dir, dataset_root, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    arguments = [f"--model_dir={folder}", f"--dataset_root={dataset_root}", "--year=2017"]
    arguments += ["--gin_file=gin_configs/evaluation.gin", "--gin_param=atrous_rates = ()"]
    done = run(*arguments, "--split=val", end)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    values = re.fullmatch(r"ckpt-10: J (0\.\d+), F (0\.\d+), J&F (0\.\d+)", line).groups()
    written = scalars(folder / "eval")
    assert set(written) == {(10, "eval/J"), (10, "eval/F"), (10, "eval/J&F")}
    for name, value in zip(("J", "F", "J&F"), values):
        assert written[10, f"eval/{name}"] == pytest.approx(float(value), abs=6e-5)
    assert len(list((folder / "eval/masks/bear").glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--split=val"], {"split": "val", "sequences": None}),
        (["--year=2016"], {"dataset": "davis_2016", "sequences": None}),
        (["--split=val", "--sequences=a,b"], {"split": "val", "sequences": ["a", "b"]}),
        (["--dataset_root=D"], {"dataset_root": "D"}),
    ],
)
def test_another_split_is_scored_in_full_whichever_sequences_the_training_run_selected(
    given, expected
):
    try:
        evaluate._FLAGS(["evaluate", "--model_dir=run", *given])
        assert evaluate._validation_settings() == expected
    finally:
        evaluate._FLAGS.unparse_flags()


def test_each_new_checkpoint_is_scored_with_its_own_weights(run_dir, dataset_root, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    gin_settings.parse_model_dir(folder, [])
    evaluation = evaluate.evaluation_of(str(folder), Validation(dataset_root))
    seen = []
    for prefix in tf.train.checkpoints_iterator(str(folder), timeout=0.0):
        line = evaluation(prefix)
        reference = tiny_model()
        load_weights(reference, prefix)
        expected = Validation(dataset_root).score(Predictor(reference), tmp_path / "expected")
        assert line == f"{os.path.basename(prefix)}: " + ", ".join(
            f"{name} {value:.4f}" for name, value in expected.items()
        )
        seen.append(os.path.basename(prefix))
        if len(seen) == 1:
            save(tiny_model(seed=5), folder, 20)
    assert seen == ["ckpt-10", "ckpt-20"]
    assert {step for step, _ in scalars(folder / "eval")} == {10, 20}


def test_a_model_in_training_is_scored_without_being_changed(dataset_root, tmp_path):
    bindings = [f"Validation.dataset_root = '{dataset_root}'", "Validation.sequences = ['bear']"]
    gin_settings.parse([], TINY.strip().splitlines() + bindings)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        trained = tiny_model(seed=1)
    before = [v.numpy() for v in release_names(trained).values()]
    evaluate_step = evaluation_of(trained, tmp_path / "run")
    with strategy.scope():
        scores = evaluate_step(100)
    for old, new in zip(before, release_names(trained).values()):
        np.testing.assert_array_equal(old, new)
    other = tiny_model()
    copy_weights(trained, other)
    assert scores == Validation().score(Predictor(other), tmp_path / "again")
    assert len(list((tmp_path / "run/eval/masks/bear").glob("*.png"))) == 4


@pytest.mark.parametrize(
    "binding, sentence",
    [
        ("Feelvos.atrous_rates = (12,)", "aspp1_.*, found nothing of that name"),
        ("Feelvos.embedding_dimension = 9", "embedding/.*, found shape"),
    ],
)
def test_a_network_with_other_weights_cannot_score_the_one_in_training(
    dataset_root, tmp_path, binding, sentence
):
    parse_with_evaluation_scope(dataset_root)
    trained = tiny_model()
    gin.parse_config(f"evaluation/{binding}")
    with pytest.raises(InputError, match=f"evaluation/...: expected settings .* {sentence}"):
        evaluation_of(trained, tmp_path)


def test_the_evaluated_model_can_have_settings_of_its_own(dataset_root, tmp_path, monkeypatch):
    scored = []
    monkeypatch.setattr(Validation, "score", lambda _, predictor, __: scored.append(predictor))
    parse_with_evaluation_scope(dataset_root)
    trained = tiny_model(seed=1)
    evaluation_of(trained, tmp_path)(100)
    assert scored[0].scales == (1.0, 0.5)
    gin_settings.parse([], [*TINY.strip().splitlines(), "output_stride = 8"])
    at_stride_8 = tiny_model()
    copy_weights(trained, at_stride_8)
    image, mask = (tf.constant(array) for array in drawn_videos.draw(0, [1, 3]))
    found, expected, stride_16 = (
        predictor.start(image, mask)["previous_embeddings"]
        for predictor in (scored[0], Predictor(at_stride_8), Predictor(trained))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - stride_16).max() > 1e-4


def test_masks_of_an_earlier_model_are_not_scored(tmp_path, monkeypatch):
    gin_settings.parse([], TINY.strip().splitlines())
    root = drawn_videos.write_davis(tmp_path / "root", {"bear": [1], "cows": [2]}, 3)
    given = Validation(root), Predictor(tiny_model()), tmp_path / "masks"
    given[0].score(*given[1:])
    step = VideoPredictor.step
    results = iter([step, step])

    def fail(self, image):
        real = next(results, None)
        if real is None:
            raise InputError("no space left")
        return real(self, image)

    monkeypatch.setattr(VideoPredictor, "step", fail)
    with pytest.raises(InputError, match="cows could not be scored: .*no space left"):
        given[0].score(*given[1:])


def test_two_evaluations_of_one_run_do_not_mix_their_masks(dataset_root, tmp_path, monkeypatch):
    gin_settings.parse([], TINY.strip().splitlines())
    given = Predictor(tiny_model()), tmp_path / "masks"
    step, refused = VideoPredictor.step, []

    def evaluated_meanwhile(self, *args):
        if not refused:
            refused.append(True)
            with pytest.raises(InputError, match="masks: another process is scoring"):
                Validation(dataset_root).score(*given)
        return step(self, *args)

    monkeypatch.setattr(VideoPredictor, "step", evaluated_meanwhile)
    Validation(dataset_root).score(*given)
    assert refused


def test_a_checkpoint_scores_the_same_during_training_and_afterwards(
    dataset_root, tmp_path, monkeypatch
):
    parse_with_evaluation_scope(dataset_root)
    trained = tiny_model(seed=1)
    in_training = evaluation_of(trained, tmp_path)(100)
    prefix = save(trained, tmp_path, 100)
    gin_settings.parse_model_dir(tmp_path, [])
    line = evaluate.evaluation_of(str(tmp_path), Validation())(prefix)
    assert line == "ckpt-100: " + ", ".join(f"{n} {v:.4f}" for n, v in in_training.items())
    scored = []
    monkeypatch.setattr(Validation, "score", lambda _, model, __: scored.append(model) or {})
    evaluate.evaluation_of(str(tmp_path), Validation())(prefix)
    gin_settings.parse_model_dir(tmp_path, ["Predictor.scales = (1.0,)"])
    evaluate.evaluation_of(str(tmp_path), Validation())(prefix)
    assert [model.scales for model in scored] == [(1.0, 0.5), (1.0,)]


def test_a_missing_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}/none"):
        Validation(dataset_root=f"{tmp_path}/none")
    with pytest.raises(InputError, match="Validation.dataset_root: .* give --dataset_root"):
        Validation()


def test_training_without_a_validation_split_is_not_evaluated(tmp_path):
    gin_settings.parse([], [])
    assert evaluation_of(None, tmp_path) is None
    with pytest.raises(InputError, match="expected Validation.dataset_root to be bound"):
        strategy = tf.distribute.get_strategy()
        gin.parse_config("Intervals.evaluate_every_steps = 5")
        Trainer(None, {}, tmp_path, strategy, evaluate=None)
    with pytest.raises(InputError, match="Validation.dataset_root: expected the folder of a"):
        Validation()


def test_wrong_folders_are_reported_in_one_sentence(tmp_path):
    for arguments, sentence in {
        (): "expected --model_dir",
        (f"--model_dir={tmp_path}/none",): "expected the folder of a training run, found",
        (f"--model_dir={tmp_path}", "--once"): "expected a checkpoint of the trainer",
        (f"--model_dir={tmp_path}", "--timeout=0.05"): "expected a checkpoint of the trainer",
    }.items():
        done = in_this_process.run(evaluate, *arguments)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ") and sentence in done.stderr
    with pytest.raises(InputError, match="nowhere: expected a data set, found no such folder"):
        Validation(tmp_path / "nowhere")

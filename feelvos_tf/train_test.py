import inspect
import re
import shutil
import signal

import gin
import numpy as np
import pytest

from feelvos_tf import configurables, train  # noqa: F401
from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets, input_pipeline, record_shards
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing import checkpoint_state
from feelvos_tf.training import trainer, validation
from feelvos_tf.training.losses import BootstrappedCrossEntropy
from feelvos_tf.training.optimizers import LearningRate, MomentumOptimizer
from feelvos_tf.training.train_step import Objective, TrainStep
from feelvos_tf.training.trainer import InitialWeights, Trainer

SETTINGS = sorted((gin_settings.PROJECT_ROOT / "gin_configs/train").glob("*.gin"))


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


@pytest.mark.parametrize("path", SETTINGS, ids=lambda p: p.stem)
def test_every_training_file_is_parsed_and_opens_with_a_description(path):
    text = path.read_text()
    is_stage = path.stem.startswith("small_model_")
    # Macros that the user must set, as the file's own command does; stages share theirs.
    names = re.findall(r"--gin_param=.(\w+_records) ?=", text)
    names = ["stills_records", "davis_2016_records"] if is_stage else names
    gin_settings.parse([str(path)], [f"{name} = 'file'" for name in names])
    assert gin.query_parameter("training_dataset.batch_size") > 0
    words = () if is_stage else ("Paper: section 3", "reports")
    for word in ("python -m feelvos_tf.train", *words):
        assert word in text
    assert "Deviations" in text or "What differs" in text


@pytest.mark.parametrize(
    "part",
    [
        BootstrappedCrossEntropy,
        Feelvos,
        InitialWeights,
        LearningRate,
        MomentumOptimizer,
        Objective,
        Trainer,
    ],
)
def test_the_python_defaults_are_the_values_of_the_release(part):
    gin_settings.parse(["gin_configs/train/davis_2017_as_released.gin"], [])
    written = gin.get_bindings(part, resolve_references=False)
    # Output stride, rates and summed clips are not train.py's: see gin_configs/README.md.
    others = ("backbone", "atrous_rates", "summed_clips")
    settings = {k: v for k, v in written.items() if k not in others}
    defaults = {k: p.default for k, p in inspect.signature(part.__init__).parameters.items()}
    assert settings
    assert settings == {name: defaults[name] for name in settings}


@pytest.mark.parametrize(
    ("gin_files", "gin_params", "expected"),
    [
        ([], [], "--gin_file: expected at least one"),
        (["nowhere.gin"], [], "nowhere.gin: expected a gin file"),
        ([], ["Trainer.nonsense = 1"], "nonsense"),
        (["gin_configs/train/davis_2017_as_released.gin"], [], "'records'"),
        (
            ["gin_configs/train/davis_2017_as_released.gin"],
            ["training_dataset.records = 'nowhere/train-*'"],
            "no training records match nowhere/train-*",
        ),
    ],
)
def test_bad_settings_end_in_one_sentence_and_leave_no_folder(
    tmp_path, gin_files, gin_params, expected
):
    model_dir = tmp_path / "run"
    train._FLAGS.unparse_flags()
    train._FLAGS(
        [
            "train",
            f"--model_dir={model_dir}",
            *(f"--gin_file={name}" for name in gin_files),
            *(f"--gin_param={binding}" for binding in gin_params),
        ]
    )
    with pytest.raises(InputError) as caught:
        train.main()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not model_dir.exists()


def test_the_exit_code_shows_which_signal_stopped_training(monkeypatch, capsys):
    monkeypatch.setattr(train, "train", lambda *_: signal.SIGTERM)
    train._FLAGS.unparse_flags()
    train._FLAGS(["train", "--model_dir=run", "--gin_file=gin_configs/quickstart.gin"])
    with pytest.raises(SystemExit) as caught:
        train.main()
    assert caught.value.code == 143
    assert "stopped by SIGTERM; the same command resumes" in capsys.readouterr().err


def test_runs_with_the_same_seed_start_with_the_same_weights(monkeypatch, tmp_path, few_blocks):
    weights = []

    class RecordingTrainer:
        def __init__(self, model, *_, **__):
            weights.append(np.concatenate([np.ravel(v) for v in release_names(model).values()]))

        def train(self, batches_from):
            batches_from(0, input_pipeline.WHOLE)
            return 0

    datasets_built = []
    monkeypatch.setattr(input_pipeline, "training_dataset", lambda **_: datasets_built.append(True))
    monkeypatch.setattr(validation, "evaluation_of", lambda *_: None)
    monkeypatch.setattr(trainer, "Trainer", RecordingTrainer)
    for seed in (3, 3, 4, None):
        gin_settings.parse(["gin_configs/quickstart.gin"], [f"set_random_seed.seed = {seed}"])
        assert train.train(tmp_path / "run") == 0
    # The data set built to check settings and records is the one trained on.
    assert len(datasets_built) == 4
    np.testing.assert_array_equal(weights[0], weights[1])
    for other in weights[2:]:
        assert (weights[0] != other).mean() > 0.5


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path, testdata, eagerly, few_blocks, capsys, monkeypatch
):
    """To the last bit, including clips, dropout, sampled pixels and calibration."""
    videos = datasets.list_sequences(testdata, split="train")
    record_shards.write_shards(videos, tmp_path / "records", "train", 2)
    settings = [
        f"training_dataset.records = '{tmp_path}/records/train-*'",
        "ClipSettings.crop_size = (49, 49)",
        "MobileNetV2.depth_multiplier = 0.1",
        "Feelvos.embedding_dimension = 8",
        "Feelvos.train_max_neighbors_per_object = 16",
        "TripletLoss.max_pixels_per_object = 8",
        "InitialWeights.calibration_clips = 2",
        "Trainer.num_steps = 2",
        "Intervals.save_every_steps = 1",
    ]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    gin_settings.parse(["gin_configs/quickstart.gin"], settings)
    assert train.train(whole) == 0
    resumed.mkdir()
    for path in whole.glob("ckpt-1.*"):
        shutil.copy(path, resumed)
    assert train.train(resumed) == 0
    expected, found, before = (
        checkpoint_state.read(whole, 2),
        checkpoint_state.read(resumed, 2),
        checkpoint_state.read(whole, 1),
    )
    assert len(expected) > 100 and found.keys() == expected.keys()
    different = [name for name in expected if not np.array_equal(found[name], expected[name])]
    assert not different, f"{len(different)} of {len(expected)}"
    assert sum((before[name] != expected[name]).any() for name in expected) > 100

    left = {(path.name, path.stat().st_mtime_ns) for path in whole.iterdir()}
    capsys.readouterr()
    monkeypatch.setattr(TrainStep, "build_graph", lambda *_: None)  # It runs eagerly.
    assert train.train(whole, is_dry_run=True) == 0
    printed = capsys.readouterr().out
    for words in ("data: 6 videos in 2 files", "batch: 2 clips = 1 part x 1 device x 2 clips"):
        assert words in printed
    assert {(path.name, path.stat().st_mtime_ns) for path in whole.iterdir()} == left

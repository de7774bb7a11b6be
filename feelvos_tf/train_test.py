import inspect

import gin
import numpy as np
import pytest

from feelvos_tf import train
from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.training.learning_rate import LearningRate
from feelvos_tf.training.losses import BootstrappedCrossEntropy
from feelvos_tf.training.optimizers import MomentumOptimizer
from feelvos_tf.training.trainer import Trainer

SETTINGS = sorted((gin_settings.PROJECT_ROOT / "gin_configs/train").glob("*.gin"))


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


@pytest.mark.parametrize("path", SETTINGS, ids=lambda p: p.stem)
def test_every_training_file_is_read_and_opens_with_what_it_stands_for(path):
    gin_settings.parse([str(path)], [])
    assert gin.query_parameter("training_dataset.batch_size") > 0
    text = path.read_text()
    for word in ("Paper: section 3", "python -m feelvos_tf.train", "Deviations", "reports"):
        assert word in text


@pytest.mark.parametrize(
    "part", [BootstrappedCrossEntropy, Feelvos, LearningRate, MomentumOptimizer, Trainer]
)
def test_the_python_defaults_are_the_values_of_the_release(part):
    gin_settings.parse(["gin_configs/train/davis_2017_as_released.gin"], [])
    written = gin.get_bindings(part, resolve_references=False)
    settings = {k: v for k, v in written.items() if k not in ("backbone", "atrous_rates")}
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
        train.main(["train"])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not model_dir.exists()


def test_runs_of_one_seed_begin_with_the_same_weights(monkeypatch):
    weights = []

    class TrainerThatLooks:
        def __init__(self, model, *_):
            weights.append(np.concatenate([np.ravel(v) for v in model.trainable_variables]))

        def train(self, _):
            return True

    monkeypatch.setattr(train, "training_dataset", lambda: None)
    monkeypatch.setattr(train, "evaluation_of", lambda *_: None)
    monkeypatch.setattr(train, "Trainer", TrainerThatLooks)
    for seed in (3, 3, 4, None):
        gin_settings.parse(["gin_configs/quickstart.gin"], [f"set_random_seed.seed = {seed}"])
        assert train.train("nowhere")
    np.testing.assert_array_equal(weights[0], weights[1])
    for other in weights[2:]:
        assert (weights[0] != other).mean() > 0.5

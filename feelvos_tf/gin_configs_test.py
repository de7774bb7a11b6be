"""Every shipped gin file can be parsed, documents itself and builds what it describes."""

from __future__ import annotations

import ast
import pathlib
import re

import gin
import pytest

from feelvos_tf import configurables  # noqa: F401
from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets, paper_clips, record_shards
from feelvos_tf.data.input_pipeline import ClipSource, training_dataset
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.training.losses import BootstrappedCrossEntropy
from feelvos_tf.training.optimizers import LearningRate, MomentumOptimizer, Optimizer
from feelvos_tf.training.triplet_loss import TripletLoss

FOLDER = gin_settings.PROJECT_ROOT / "gin_configs"
FILES = sorted(FOLDER.rglob("*.gin"))
PAPER = ("paper", "paper_as_written")
MODEL = "gin_configs/models/mobilenet_v2.gin"


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


def name_of(path):
    return str(path.relative_to(FOLDER))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Returns the pattern of the bundled videos' records."""
    folder = tmp_path_factory.mktemp("records")
    videos = datasets.list_sequences(gin_settings.PROJECT_ROOT / "testdata", split="train")
    record_shards.write_shards(videos[:1], folder, "train", 1)
    return str(folder / "train-*")


# One for each way of making clips; the others differ in sizes and shares.
WITH_CLIPS = ("train/small_model_2_rollout.gin", "train/paper.gin", "datasets/first_frames.gin")
ALL_WITH_CLIPS = [pytest.param(path, True, marks=pytest.mark.slow) for path in FILES]


@pytest.mark.parametrize(
    ("path", "with_clips"),
    [*((path, name_of(path) in WITH_CLIPS) for path in FILES), *ALL_WITH_CLIPS],
    ids=lambda value: name_of(value) if isinstance(value, pathlib.Path) else None,
)
def test_every_file_is_parsed_and_builds_what_it_describes(path, with_clips, records, monkeypatch):
    if not with_clips:
        monkeypatch.setattr(ClipSource, "clip", lambda self, _: paper_clips.blank_clip(self._clips))
    is_part = "datasets" in path.parts or path.name == "evaluation.gin"
    places = ["training_dataset.records"]
    if "youtube_vos_" in path.stem or path.stem in ("davis_2017_and_youtube_vos", *PAPER):
        places = ["davis_2017_records", "youtube_vos_records"]
    elif path.stem.startswith("small_model_"):
        places = ["stills_records", "davis_2016_records"]
    bindings = [f"{place} = '{records}'" for place in places]
    gin_settings.parse([MODEL, str(path)] if is_part else [str(path)], bindings)
    # No variables are created: Xception's would take long.
    model = Feelvos()
    assert model.backbone.name in ("xception_65", "MobilenetV2", "resnet_v1_50")
    for part in (BootstrappedCrossEntropy, LearningRate, TripletLoss):
        part()
    optimizer = gin.get_bindings("Trainer").get("optimizer", MomentumOptimizer)
    assert issubclass(optimizer, Optimizer)
    optimizer({})
    if path.name != "evaluation.gin" and "models" not in path.parts:
        size = () if is_part else (gin.query_parameter("training_dataset.batch_size"),)
        shape = training_dataset(*size or (2,)).element_spec["images"].shape
        assert shape[2:4] == gin.query_parameter("ClipSettings.crop_size")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_an_unknown_name_in_a_file_is_refused(path, tmp_path):
    copy = tmp_path / path.name
    for line in ("NoSuchPart.size = 3\n", "Feelvos.no_such_setting = 3\n"):
        copy.write_text(path.read_text() + line)
        with pytest.raises(InputError, match="NoSuchPart|no_such_setting"):
            gin_settings.parse([str(copy)], [])


def test_settings_of_the_paper_open_with_section_command_deviations_and_score():
    comment = (FOLDER / "evaluation.gin").read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    for word in ("Paper: section 4", "python -m feelvos_tf.", "Deviations", "The paper reports"):
        assert word in comment


def test_evaluation_keeps_what_the_recipe_feeds_back():
    recipe = "gin_configs/train/paper_as_written.gin"
    records = [f"{name}_records = 'unused'" for name in ("davis_2017", "youtube_vos")]
    gin_settings.parse([recipe, "gin_configs/evaluation.gin"], records)
    assert gin.query_parameter("Predictor.feedback") == "probabilities"


@pytest.mark.parametrize(
    ("backbone", "last_rate"),
    [
        ("xception_65", lambda backbone: backbone.blocks[-1].depthwise[0].atrous_rate),
        ("mobilenet_v2", lambda backbone: backbone.blocks[-1].atrous_rate),
        ("resnet_50", lambda backbone: backbone.blocks[-1].atrous_rate),
    ],
)
def test_evaluation_halves_the_stride_and_doubles_the_rates(backbone, last_rate):
    model = f"gin_configs/models/{backbone}.gin"
    rates, dilations = [], []
    for files in ([model], [model, "gin_configs/evaluation.gin"]):
        gin_settings.parse(files, [])
        network = Feelvos()
        rates.append([layer.depthwise.atrous_rate for layer in network.aspp.branches[1:]])
        dilations.append(last_rate(network.backbone))
    assert rates == [[6, 12, 18], [12, 24, 36]]
    assert dilations == [2, 4]


RECIPES = {
    "davis_2017_as_released": (6, 3, (465, 465)),
    "davis_2017_and_youtube_vos_as_released": (6, 3, (465, 465)),
    "davis_2017_train_sh": (1, 3, (300, 300)),
    "paper": (48, 3, (465, 465)),
    "paper_as_written": (48, 3, (465, 465)),
    "pml_baseline": (6, 1, (465, 465)),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_have_the_numbers_that_paper_and_train_sh_state(name):
    path = FOLDER / "train" / f"{name}.gin"
    records = ["training_dataset.records = 'none'"]
    if "youtube" in name or name in PAPER:
        records = ["davis_2017_records = 'none'", "youtube_vos_records = 'none'"]
    gin_settings.parse([str(path)], records)
    found = [
        gin.query_parameter(setting)
        for setting in (
            "training_dataset.batch_size",
            "Objective.summed_clips",
            "ClipSettings.crop_size",
        )
    ]
    assert tuple(found) == RECIPES[name]
    assert gin.query_parameter("Trainer.num_steps") == 200_000
    assert gin.query_parameter("LearningRate.base") == 0.0007
    header = path.read_text().split("\n\n")[0]
    for word in ("Paper: section", "Where the numbers come from:", "Deviations", "init.ckpt'"):
        assert word in header


def test_paper_as_written_uses_the_paper_s_values_that_the_readme_lists():
    """The rows in the table of models/README.md that name a setting with the paper's value."""
    records = ["davis_2017_records = 'none'", "youtube_vos_records = 'none'"]
    gin_settings.parse(["gin_configs/train/paper_as_written.gin"], records)
    table = (FOLDER.parent / "feelvos_tf/models/README.md").read_text()
    table = table.split("## Where paper and release disagree")[1].split("\n## ")[0]
    named = re.findall(r"`([A-Z]\w+\.\w+) = ([^`]+)`", table)
    assert len(named) >= 8
    for name, value in named:
        assert gin.query_parameter(name) == ast.literal_eval(value), name
    assert float(LearningRate()(199_999, 200_000)) == pytest.approx(0.0007)

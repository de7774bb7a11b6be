import importlib.util
import shutil
import subprocess
import sys

import gin
import pytest
from PIL import Image

from feelvos_tf import configurables  # noqa: F401
from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.models.feelvos import Feelvos

ROOT = gin_settings.PROJECT_ROOT
PROGRAM = ROOT / "tools/table6.py"
MODEL = "gin_configs/models/mobilenet_v2.gin"


@pytest.fixture(scope="module")
def table6():
    spec = importlib.util.spec_from_file_location("table6", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(line, seed, score):
    return dict(
        zip(("line", "seed", "steps", "J", "F", "J&F"), (line, seed, "5", "0.5", "0.7", score))
    )


def test_the_table_shows_means_seeds_and_differences_to_line_1(table6):
    scores = [row("1", "1", "0.60"), row("1", "2", "0.62"), row("4", "1", "0.55")]
    lines = table6.table(scores).splitlines()[2:]
    assert lines == [
        "| 1 | FF-GM + PF-LM + PFP | 50.0 | 70.0 | 61.0 | 60.0, 62.0 | 0.0 "
        "| 65.9 | 72.3 | 69.1 | 0.0 |",
        "| 4 | FF-GM | 50.0 | 70.0 | 55.0 | 55.0 | 6.0 | 47.3 | 57.9 | 52.6 | 16.5 |",
    ]


def test_the_lines_differ_only_in_the_three_cues(table6):
    expected = {
        "1": (True, "local", True),
        "2": (True, "global", True),
        "3": (True, "none", True),
        "4": (True, "none", False),
        "5": (True, "local", False),
        "6": (False, "local", True),
    }
    assert list(table6.LINES) == list(expected)
    for number, cues in expected.items():
        gin.clear_config()
        bindings = table6.LINES[number].bindings()
        assert len(bindings) == 3
        gin_settings.parse([MODEL], bindings)
        model = Feelvos()
        assert cues == (
            model.first_frame_matching,
            model.previous_frame_matching,
            model.previous_frame_predictions,
        )
    gin.clear_config()


@pytest.fixture
def calls(table6, monkeypatch):
    """Returns the calls of train and evaluate, which do nothing."""
    made = []

    def run(program, *arguments):
        made.append((program, arguments))
        return "ckpt-5: J 0.5000, F 0.7000, J&F 0.6000\n"

    monkeypatch.setattr(table6, "_run", run)
    return made


def five_steps(output_dir):
    return [
        f"--output_dir={output_dir}",
        "--gin_file=gin_configs/models/mobilenet_v2.gin",
        "--gin_param=TripletLoss.weight = 1.0",
        f"--dataset_root={ROOT / 'testdata'}",
        "--steps=5",
        "--lines=1,2",
        "--inference_size=96",
    ]


def test_every_line_and_seed_is_trained_once(table6, tmp_path, calls, capsys):
    arguments = five_steps(tmp_path)
    for seeds, trainings in (("1", 2), ("1,2", 2)):
        calls.clear()
        command_line(table6, [*arguments, f"--seeds={seeds}"])
        table6.main()
        assert len(calls) == 2 * trainings
    (program, train), (_, evaluate) = calls[-2:]
    assert program == "train"
    assert f"--model_dir={tmp_path / 'runs/line2_seed2'}" in train
    assert {
        "--gin_file=gin_configs/models/mobilenet_v2.gin",
        "--gin_param=TripletLoss.weight = 1.0",
        "--gin_param=Feelvos.previous_frame_matching = 'global'",
        "--gin_param=Trainer.num_steps = 5",
        "--gin_param=training_dataset.seed = 2",
    } <= set(train)
    assert {"--once", f"--dataset_root={ROOT / 'testdata'}", "--inference_size=96"} <= set(evaluate)
    assert "--gin_file=gin_configs/evaluation.gin" in evaluate
    assert (
        "| 2 | FF-GM + PF-GM + PFP | 50.0 | 70.0 | 60.0 | 60.0, 60.0 |" in capsys.readouterr().out
    )
    with Image.open(tmp_path / "table6.png") as picture:
        assert picture.size[0] > 500
    other = [f"--output_dir={tmp_path / 'other'}", "--lines=2,3", "--evaluation_gin_file="]
    command_line(table6, [*arguments, *other])
    table6.main()
    evaluations = [arguments for program, arguments in calls[-4:] if program == "evaluate"]
    assert not any(argument.startswith("--gin_file") for argument in evaluations[0])
    feedback = "--gin_param=Predictor.feedback = 'probabilities'"
    assert [feedback in arguments for arguments in evaluations] == [False, True]


def test_results_of_another_experiment_are_refused_with_the_setting_that_differs(
    table6, tmp_path, calls
):
    folder, recipe = tmp_path / "table6", tmp_path / "recipe.gin"
    recipe.write_text("LearningRate.base = 0.5\n")
    arguments = five_steps(folder)
    command_line(table6, arguments)
    table6.main()
    calls.clear()
    before = (folder / "scores.csv").read_bytes()
    for other, difference in (
        ("--steps=6", "--steps = 6, found 5"),
        ("--gin_param=TripletLoss.weight = 2.0", "TripletLoss.weight in training = 2.0, found 1.0"),
        (f"--gin_file={recipe}", "LearningRate.base in training = 0.5, found None"),
        (f"--evaluation_gin_file={recipe}", "atrous_rates in scoring = .*, found .12, 24, 36"),
        (f"--dataset_root={shutil.copytree(ROOT / 'testdata', tmp_path / 'b')}", "--dataset_root"),
        ("--split=train", "--split = train, found val"),
        ("--sequences=koi-pond", r"--sequences = \['koi-pond'\], found None"),
        ("--inference_size=128", "--inference_size = 128, found 96"),
    ):
        command_line(table6, [*arguments, other, "--seeds=2"])
        sentence = f"settings.json: expected results of {difference}.*; use another --output_dir"
        with pytest.raises(InputError, match=sentence):
            table6.main()
    assert not calls and (folder / "scores.csv").read_bytes() == before
    (folder / "settings.json").unlink()
    command_line(table6, arguments)
    with pytest.raises(InputError, match="settings.json: expected the settings of the results"):
        table6.main()


def test_a_command_that_never_trained_may_be_corrected(table6, tmp_path, calls, monkeypatch):
    def fail(*_):
        raise InputError("no training records match x")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="no training records"):
        patch.setattr(table6, "_run", fail)
        command_line(table6, five_steps(tmp_path))
        table6.main()
    command_line(table6, [*five_steps(tmp_path), "--steps=6"])
    table6.main()
    assert len(calls) == 4
    (tmp_path / "scores.csv").unlink()
    (tmp_path / "runs/line1_seed1").mkdir(parents=True)
    (tmp_path / "runs/line1_seed1/ckpt-3.index").write_text("")
    command_line(table6, five_steps(tmp_path))
    with pytest.raises(InputError, match="--steps = 5, found 6"):
        table6.main()


def test_a_deleted_table_is_written_again(table6, tmp_path, calls, capsys):
    command_line(table6, five_steps(tmp_path))
    table6.main()
    printed = capsys.readouterr().out
    for name in ("table6.md", "table6.png"):
        (tmp_path / name).unlink()
    table6.main()
    assert len(calls) == 4
    assert (tmp_path / "table6.md").read_text() in printed
    assert (tmp_path / "table6.png").exists()


def test_scoring_another_network_is_refused_before_the_first_training(table6, tmp_path):
    small = ["--gin_file=gin_configs/train/small_model_1_frozen.gin"]
    small += ["--gin_param=stills_records = ''", "--gin_param=davis_2016_records = ''"]
    for recipe in (small, [f"--gin_file={MODEL}", "--gin_param=atrous_rates = ()"]):
        command_line(table6, [f"--output_dir={tmp_path}", *recipe])
        with pytest.raises(InputError, match="of 0 dilated branches, as it is .* found .* for 3"):
            table6.main()


def command_line(table6, arguments):
    """Parses the flags of the imported module, which are not global."""
    for name in table6._FLAGS:
        table6._FLAGS[name].unparse()
    table6._FLAGS(["table6", *arguments])


def test_missing_and_unknown_flags_are_named(tmp_path):
    folder = f"--output_dir={tmp_path}"
    for arguments, sentence in (
        ((), "expected --output_dir"),
        ((folder,), "--gin_file: expected the recipe to train with"),
        ((folder, "--lines=1,7"), "--lines: expected some of 1, 2, 3, 4, 5, 6, found '7'"),
        ((folder, "--seeds=1,a"), "--seeds: expected whole numbers, found 'a'"),
        ((folder, "--lines="), "--lines and --seeds: expected at least one each"),
    ):
        done = subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {sentence}")

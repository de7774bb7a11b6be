"""The program on the folder of a training run of a small network."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pack_pretrained
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import model_loading
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.models.weights import checkpoint_of
from feelvos_tf.testing import in_this_process, small_model

SETTINGS = """
atrous_rates = ()
output_stride = 16
Feelvos.atrous_rates = %atrous_rates
Feelvos.backbone = @MobileNetV2()
Feelvos.embedding_dimension = 8
MobileNetV2.depth_multiplier = 0.1
MobileNetV2.output_stride = %output_stride
evaluation/MobileNetV2.output_stride = 8
Predictor.max_reference_pixels = 17
"""
CSV = "Sequence,J-Mean,F-Mean\nblackswan_1,0.9,0.8\ncows_1,0.5,0.6\ncows_2,0.1,0.4\n"
LOGITS = "logits/semantic/weights"


@pytest.fixture
def run_folder(tmp_path):
    """Returns the folder of a run whose averages are twice its weights."""
    names = release_names(small_model.create(backbone=MobileNetV2))
    averages = {name: tf.Variable(2 * variable) for name, variable in names.items()}
    average = tf.train.Checkpoint(averages=averages)
    checkpoint = checkpoint_of(names, average=average)
    folder = tmp_path / "stage_7"
    tf.train.CheckpointManager(checkpoint, folder, 1, checkpoint_name="ckpt").save(4200)
    (folder / "operative_config.gin").write_text(SETTINGS)
    return folder


@pytest.fixture
def box(tmp_path):
    """Returns a folder for the bundled model that holds only a card."""
    (tmp_path / "box").mkdir()
    shutil.copy(model_loading.BUNDLED / pack_pretrained.CARD, tmp_path / "box")
    return tmp_path / "box"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return in_this_process.run(pack_pretrained, *arguments)


def test_a_run_becomes_the_bundled_model_with_its_averaged_weights(run_folder, box):
    result = run(
        f"--model_dir={run_folder}", f"--output_dir={box}", "--hours=2.5", "--inference_size=320"
    )
    assert result.returncode == 0, result.stderr
    names = {model_loading.WEIGHTS, model_loading.SETTINGS, pack_pretrained.CARD}
    assert {path.name for path in box.iterdir()} == names
    trained = release_names(small_model.create(backbone=MobileNetV2))[LOGITS].numpy()
    packed = np.load(box / model_loading.WEIGHTS)[LOGITS]
    np.testing.assert_array_equal(packed, (2 * trained).astype(np.float16))
    settings = (box / model_loading.SETTINGS).read_text()
    assert "MobileNetV2.output_stride = 8\n" in settings
    assert "Feelvos.atrous_rates = ()\n" in settings
    assert "%" not in settings and "evaluation" not in settings
    assert model_loading.bundled_inference_size(box) == 320
    assert model_loading.build_bundled(box).max_reference_pixels == 17

    card = (box / pack_pretrained.CARD).read_text()
    assert "stage_7, ckpt-4200: " in card and "trained for 2.5 hours" in card
    assert "have not been scored yet" in card
    (box / "scores.csv").write_text(CSV)
    result = run(f"--scores={box / 'scores.csv'}", f"--output_dir={box}")
    assert result.returncode == 0, result.stderr
    card = (box / pack_pretrained.CARD).read_text()
    assert " of the 20 sequences of DAVIS 2016 validation:\n\n| sequence |" in card
    assert "| **mean** | 55.0 | 50.0 | 60.0 |\n| blackswan | 85.0 | 90.0 | 80.0 |\n" in card
    assert "have not been scored yet" not in card and "ckpt-4200" in card


def test_objects_of_one_sequence_are_listed_separately(tmp_path):
    (tmp_path / "scores.csv").write_text(CSV)
    table = pack_pretrained.scores_table(str(tmp_path / "scores.csv"))
    assert [line.split(" | ")[0] for line in table.splitlines()[5:]] == [
        "| blackswan",
        "| cows, object 1",
        "| cows, object 2",
    ]


def test_unusable_input_gives_one_sentence_and_writes_nothing(tmp_path, box):
    before = (box / pack_pretrained.CARD).read_bytes()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    for arguments, sentence in {
        (): "expected either --model_dir",
        (f"--model_dir={tmp_path / 'empty'}",): "expected a checkpoint of the trainer, found none",
        (f"--scores={tmp_path / 'bad.csv'}",): "expected scores of tools/eval_davis.py",
        (f"--scores={tmp_path / 'no.csv'}",): "no.csv: expected scores of tools/eval_davis.py",
    }.items():
        result = run(*arguments, f"--output_dir={box}")
        assert result.returncode == 1 and sentence in result.stderr, result.stderr
        assert "Traceback" not in result.stderr
    assert [path.name for path in box.iterdir()] == [pack_pretrained.CARD]
    assert (box / pack_pretrained.CARD).read_bytes() == before


def test_nothing_is_packed_beside_a_card_without_sections(run_folder, box):
    card = box / pack_pretrained.CARD
    card.write_text(card.read_text().replace("begin scores", "scores"))
    result = run(f"--model_dir={run_folder}", f"--output_dir={box}")
    assert result.returncode == 1 and "begin scores" in result.stderr
    assert [path.name for path in box.iterdir()] == [pack_pretrained.CARD]


def test_a_card_without_the_section_is_not_changed(tmp_path):
    (tmp_path / "card.md").write_text("# Mine\n")
    with pytest.raises(InputError, match="expected a card with the line '<!-- begin scores -->'"):
        pack_pretrained.fill_in(tmp_path / "card.md", "scores", "x")
    assert (tmp_path / "card.md").read_text() == "# Mine\n"

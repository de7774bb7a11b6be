import io
import re
import subprocess
import tarfile
from pathlib import Path

import convert_checkpoint
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.models.weights import load_weights
from feelvos_tf.testing import in_this_process
from feelvos_tf.training.checkpoints import Checkpoints
from feelvos_tf.training.devices import Workers
from feelvos_tf.training.optimizers import MomentumOptimizer
from feelvos_tf.training.train_step import TrainState

TOOL = Path(__file__).with_name("convert_checkpoint.py")
SETTINGS = """
MobileNetV2.depth_multiplier = 0.1
Feelvos.backbone = @MobileNetV2()
Feelvos.embedding_dimension = 8
"""
LOGITS = "logits/semantic/weights"


@pytest.fixture(scope="module")
def variables(golden_names):
    """Returns values by the release's names: a small model's shapes, the release's 347 names."""
    model = small_model()
    shapes = {name: v.shape for name, v in release_names(model).items()}
    assert set(shapes) == golden_names
    rng = np.random.default_rng(0)
    # A negative variance would make the network return NaN.
    return {n: np.abs(rng.standard_normal(shape)).astype(np.float32) for n, shape in shapes.items()}


@pytest.fixture(scope="module")
def golden_names():
    arrays = np.load(TOOL.parents[1] / "testdata/golden/variables.npz")
    return set(arrays["mobilenet_v2/names"].astype(str))


def small_model() -> Feelvos:
    model = Feelvos(MobileNetV2(depth_multiplier=0.1), embedding_dimension=8)
    model.create_variables()
    return model


def write_tf1_checkpoint(prefix: Path, values: dict, step: int) -> str:
    """Writes variables, their momentum and the step with the saver of TensorFlow 1."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for name, value in values.items():
            for full_name, initial in ((name, value), (f"{name}/Momentum", 0 * value)):
                v1.get_variable(full_name, initializer=initial, use_resource=False)
        v1.get_variable("global_step", initializer=np.int64(step), use_resource=False)
        session.run(v1.global_variables_initializer())
        return v1.train.Saver().save(session, str(prefix), write_meta_graph=False)


def run(tmp_path: Path, prefix: str, *arguments: str) -> subprocess.CompletedProcess:
    (tmp_path / "small.gin").write_text(SETTINGS)
    flags = [f"--tf1_checkpoint={prefix}", f"--gin_file={tmp_path}/small.gin"]
    flags.append(f"--model_dir={tmp_path}/converted")
    return in_this_process.run(convert_checkpoint, *flags, *arguments)


def test_a_release_checkpoint_becomes_one_of_ours(tmp_path, variables):
    left_over = {"logits/other/weights": np.ones(3, np.float32)}
    prefix = write_tf1_checkpoint(tmp_path / "model.ckpt", {**variables, **left_over}, step=200004)
    result = run(tmp_path, prefix)
    assert result.returncode == 0, result.stderr
    assert "matched: 347 of the model's 347 variables" in result.stdout
    assert "unused in the checkpoint: 1\n  logits/other/weights" in result.stdout
    assert "step, not converted: 349" in result.stdout
    converted = tmp_path / "converted"
    assert tf.train.latest_checkpoint(str(converted)) == str(converted / "ckpt-200004")
    assert "depth_multiplier = 0.1" in (converted / "operative_config.gin").read_text()

    model = small_model()
    load_weights(model, str(converted / "ckpt-200004"))
    for name, variable in release_names(model).items():
        np.testing.assert_array_equal(variable, variables[name], name)


def archive_of(path: Path, files: dict[str, bytes]) -> Path:
    """Writes a .tar.gz with these files, under any names, even bad ones; returns `path`."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def release_files(tmp_path, variables):
    """Returns the files of the release's archive by name."""
    write_tf1_checkpoint(tmp_path / "model.ckpt", variables, step=200004)
    found = {f"trained/{p.name}": p.read_bytes() for p in tmp_path.glob("model.ckpt*")}
    assert len(found) == 2
    return found


def test_the_downloaded_archive_becomes_a_saved_model(tmp_path, release_files, monkeypatch):
    """Without writing it, which takes long: release_checkpoint_test.py does that."""
    exported = []
    monkeypatch.setattr(convert_checkpoint.export, "export", lambda *given: exported.append(given))
    path = archive_of(tmp_path / "trained.tar.gz", {**release_files, "trained/README": b"hello"})
    (tmp_path / "small.gin").write_text(SETTINGS)
    (tmp_path / "paper.gin").write_text("Predictor.max_reference_pixels = 7\n")
    arguments = [f"--tf1_checkpoint={path}", f"--export_dir={tmp_path}/saved_model"]
    arguments += [f"--gin_file={tmp_path}/small.gin", f"--export_gin_file={tmp_path}/paper.gin"]
    before = set(tmp_path.iterdir())
    result = in_this_process.run(convert_checkpoint, *arguments)
    assert result.returncode == 0, result.stderr
    assert "matched: 347 of the model's 347 variables" in result.stdout
    assert set(tmp_path.iterdir()) == before
    [(model, folder)] = exported
    assert folder == f"{tmp_path}/saved_model"
    mask = np.zeros([33, 49], np.uint8)
    mask[5:20, 5:25] = 3
    state = model.start(np.zeros([33, 49, 3], np.uint8), mask)
    assert state["object_ids"].numpy().tolist() == [0, 3]
    assert state["reference_embeddings"].shape[0] <= 2 * 7

    (tmp_path / "saved_model").mkdir()
    again = in_this_process.run(convert_checkpoint, *arguments)
    assert again.returncode == 1
    assert "expected a folder that does not exist yet" in again.stderr


def test_an_unusable_archive_gives_one_sentence(tmp_path, release_files):
    whole = archive_of(tmp_path / "whole.tar.gz", release_files).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tar.gz").write_bytes(b"no archive")
    archive_of(tmp_path / "up.tar.gz", {**release_files, "../up": b"x"})
    archive_of(tmp_path / "root.tar.gz", {**release_files, "/tmp/root": b"x"})
    archive_of(tmp_path / "none.tar.gz", {"trained/README": b"x"})
    archive_of(tmp_path / "two.tar.gz", {**release_files, "other.index": b"x"})
    for name, sentence in {
        "cut": "expected a whole .tar.gz of the release",
        "text": "expected a whole .tar.gz of the release",
        "up": "found '../up'",
        "root": "found '/tmp/root'",
        "none": "expected an archive with one checkpoint",
        "two": "found 2",
    }.items():
        opened = convert_checkpoint.unpacked(str(tmp_path / f"{name}.tar.gz"))
        with pytest.raises(InputError, match=re.escape(sentence)), opened:
            pytest.fail(f"{name}.tar.gz was unpacked")
    assert not (tmp_path.parent / "up").exists()


def test_an_output_folder_is_required(tmp_path):
    (tmp_path / "small.gin").write_text(SETTINGS)
    flags = ["--tf1_checkpoint=x", f"--gin_file={tmp_path}/small.gin"]
    result = in_this_process.run(convert_checkpoint, *flags)
    assert result.returncode == 1
    assert "expected --export_dir (a SavedModel) or --model_dir" in result.stderr


def test_training_resumes_from_a_converted_checkpoint(tmp_path, variables):
    run(tmp_path, write_tf1_checkpoint(tmp_path / "model.ckpt", variables, step=17))
    model = small_model()
    step = tf.Variable(0, dtype=tf.int64)
    names = release_names(model)
    state = TrainState(step, MomentumOptimizer(names))
    workers = Workers(tf.distribute.get_strategy())
    checkpoints = Checkpoints(tmp_path / "converted", model, names, state, workers)
    assert checkpoints.resume()
    assert int(step) == 17
    np.testing.assert_array_equal(release_names(model)[LOGITS], variables[LOGITS])


def test_a_missing_variable_is_an_error_unless_allowed(tmp_path, variables):
    without = {name: value for name, value in variables.items() if name != LOGITS}
    prefix = write_tf1_checkpoint(tmp_path / "model.ckpt", without, step=0)
    result = run(tmp_path, prefix)
    assert result.returncode == 1
    assert f"found 346; missing: {LOGITS}; in the checkpoint only: none" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "converted").exists()

    result = run(tmp_path, prefix, "--allow_missing")
    assert result.returncode == 0, result.stderr
    assert f"missing, initialized at random: 1\n  {LOGITS}" in result.stdout
    assert (tmp_path / "converted/ckpt-0.index").exists()

    result = run(tmp_path, prefix, "--allow_missing")
    assert result.returncode == 1
    assert "expected a folder without checkpoints" in result.stderr

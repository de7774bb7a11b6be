import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.models.weights import load_weights
from feelvos_tf.training.checkpoints import RunCheckpoints
from feelvos_tf.training.optimizers import MomentumOptimizer

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
    return {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}


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
    command = [sys.executable, str(TOOL), *flags, f"--model_dir={tmp_path}/converted", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_release_checkpoint_becomes_one_of_ours(tmp_path, variables):
    left_over = {"logits/other/weights": np.ones(3, np.float32)}
    prefix = write_tf1_checkpoint(tmp_path / "model.ckpt", {**variables, **left_over}, step=200004)
    result = run(tmp_path, prefix)
    assert result.returncode == 0, result.stderr
    assert "matched: 347 of the model's 347 variables" in result.stdout
    assert "left over in the checkpoint: 1\n  logits/other/weights" in result.stdout
    assert "step left behind: 349" in result.stdout
    converted = tmp_path / "converted"
    assert tf.train.latest_checkpoint(str(converted)) == str(converted / "ckpt-200004")
    assert "depth_multiplier = 0.1" in (converted / "operative_config.gin").read_text()

    model = small_model()
    load_weights(model, str(converted / "ckpt-200004"))
    for name, variable in release_names(model).items():
        np.testing.assert_array_equal(variable, variables[name], name)


def test_training_goes_on_from_a_converted_checkpoint(tmp_path, variables):
    run(tmp_path, write_tf1_checkpoint(tmp_path / "model.ckpt", variables, step=17))
    model = small_model()
    step = tf.Variable(0, dtype=tf.int64)
    names = release_names(model)
    optimizer = MomentumOptimizer(names)
    checkpoints = RunCheckpoints(tmp_path / "converted", model, names, optimizer, step, 2)
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
    assert f"missing, left at random: 1\n  {LOGITS}" in result.stdout
    assert (tmp_path / "converted/ckpt-0.index").exists()

    result = run(tmp_path, prefix, "--allow_missing")
    assert result.returncode == 1
    assert "expected a folder without checkpoints" in result.stderr

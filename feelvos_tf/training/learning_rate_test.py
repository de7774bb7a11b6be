import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.training.learning_rate import LearningRate

NUM_STEPS = 200_000


@pytest.fixture(scope="module")
def release(golden):
    return dict(np.load(golden / "loss.npz"))


@pytest.mark.parametrize("policy", ["poly", "step"])
@pytest.mark.parametrize("slow_start_step", [0, 1000])
def test_the_learning_rate_equals_the_release_s(release, policy, slow_start_step):
    rate = LearningRate(policy, slow_start_step=slow_start_step)
    values = [rate(tf.constant(step, tf.int64), NUM_STEPS) for step in release["lr_steps"]]
    # The release's step policy ends in float32 denormals, which processors round to 0 or not.
    expected = release[f"lr_{policy}_slow{slow_start_step}"]
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-30)


def test_the_default_is_poly_without_slow_start(release):
    np.testing.assert_allclose(
        [LearningRate()(tf.constant(s, tf.int64), NUM_STEPS) for s in release["lr_steps"]],
        release["lr_poly_slow0"],
        rtol=1e-5,
    )


def test_an_unknown_policy_is_refused():
    with pytest.raises(InputError, match="expected 'poly' or 'step', found 'cosine'"):
        LearningRate("cosine")

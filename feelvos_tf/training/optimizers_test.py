import gin
import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.resnet_test import Tiny
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.training.optimizers import (
    AdamOptimizer,
    LearningRate,
    MomentumOptimizer,
    is_head,
)

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def variables():
    return {
        "logits/semantic/weights": tf.Variable([3.0, 4.0]),
        "embedding/biases": tf.Variable([1.0]),
        "aspp0/BatchNorm/gamma": tf.Variable([10.0, 0.0]),
    }


def apply(optimizer, gradients, learning_rate):
    strategy = tf.distribute.get_strategy()

    @tf.function
    def step(learning_rate):
        tensors = {name: tf.constant(g, tf.float32) for name, g in gradients.items()}
        strategy.run(optimizer.apply, args=(tensors, learning_rate))

    step(tf.constant(learning_rate, tf.float32))


def test_momentum_keeps_the_learning_rate_out_of_the_accumulator(variables):
    optimizer = MomentumOptimizer(variables)
    weights, accumulator = np.array([3.0, 4.0]), np.zeros(2)
    for learning_rate, gradient in [(0.1, [1.0, -1.0]), (0.01, [0.5, 0.0]), (0.5, [0.0, 2.0])]:
        apply(optimizer, {"logits/semantic/weights": gradient}, learning_rate)
        accumulator = 0.9 * accumulator + np.array(gradient)
        weights -= learning_rate * accumulator
    np.testing.assert_allclose(variables["logits/semantic/weights"], weights, rtol=1e-6)


def test_each_gradient_is_multiplied_first_and_then_clipped_by_its_own_norm(variables):
    optimizer = MomentumOptimizer(variables, clip_gradient_norm=5.0)
    gradients = {
        "logits/semantic/weights": [6.0, 8.0],
        "embedding/biases": [4.0],
        "aspp0/BatchNorm/gamma": [3.0, 4.0],
    }
    apply(optimizer, gradients, 1.0)
    np.testing.assert_allclose(variables["logits/semantic/weights"], [0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(variables["embedding/biases"], [-4.0], rtol=1e-6)
    np.testing.assert_allclose(variables["aspp0/BatchNorm/gamma"], [7.0, -4.0], rtol=1e-6)


def test_settings_turn_momentum_into_the_paper_s_plain_form(variables):
    optimizer = MomentumOptimizer(variables, clip_gradient_norm=0, bias_gradient_multiplier=1.0)
    apply(optimizer, {"embedding/biases": [7.0]}, 1.0)
    np.testing.assert_allclose(variables["embedding/biases"], [-6.0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("xception_65/entry_flow/conv1_1/weights", 1.0),
        ("embedding/split_separable_conv2d_pointwise/biases", 2.0),
        ("logits/semantic/weights", 10.0),
        ("logits/semantic/biases", 20.0),
        ("aspp1_depthwise/BatchNorm/beta", 10.0),
        ("decoder/feature_projection0/weights", 10.0),
    ],
)
def test_the_last_layers_can_learn_faster_and_biases_twice_as_fast(name, expected):
    optimizer = MomentumOptimizer(
        {name: tf.Variable([1.0])}, clip_gradient_norm=0, last_layer_gradient_multiplier=10.0
    )
    assert optimizer.transform(name, tf.constant([1.0])) == [expected]


def test_the_accumulators_survive_a_checkpoint_by_name(variables, tmp_path):
    optimizer = MomentumOptimizer(variables)
    apply(optimizer, {"embedding/biases": [1.0]}, 0.1)
    path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "ckpt"))
    fresh = MomentumOptimizer(dict(reversed(list(variables.items()))))
    status = tf.train.Checkpoint(optimizer=fresh).restore(path)
    status.assert_existing_objects_matched()
    np.testing.assert_allclose(fresh.accumulators["embedding/biases"], [2.0])


def test_every_variable_belongs_to_the_head_or_the_backbone_by_its_name():
    """So `backbone_rate_multiplier` needs no list of backbones."""
    for backbone in (MobileNetV2(0.1, output_stride=16), Xception(41, 16), Tiny(16)):
        model = Feelvos(backbone)
        model.create_variables()
        for name in release_names(model):
            assert is_head(name) != name.startswith(f"{backbone.name}/"), name


def test_adam_follows_its_definition(variables):
    variables["MobilenetV2/Conv/weights"] = tf.Variable([1.0, 2.0])
    optimizer = AdamOptimizer(variables, epsilon=1e-3, backbone_rate_multiplier=0.1)
    gradients = [(0.1, [1.0, -1.0]), (0.01, [0.5, 0.0]), (0.5, [0.0, 2.0])]
    head, backbone = np.array([3.0, 4.0]), np.array([1.0, 2.0])
    m, v = np.zeros(2), np.zeros(2)
    for t, (learning_rate, gradient) in enumerate(gradients, start=1):
        names = ("logits/semantic/weights", "MobilenetV2/Conv/weights")
        apply(optimizer, dict.fromkeys(names, gradient), learning_rate)
        m = 0.9 * m + 0.1 * np.array(gradient)
        v = 0.999 * v + 0.001 * np.array(gradient) ** 2
        change = learning_rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-3)
        head, backbone = head - change, backbone - 0.1 * change
    np.testing.assert_allclose(variables["logits/semantic/weights"], head, rtol=1e-5)
    np.testing.assert_allclose(variables["MobilenetV2/Conv/weights"], backbone, rtol=1e-5)


def test_a_gradient_of_unusual_norm_is_clipped_to_the_limit(variables):
    limited = AdamOptimizer(variables, beta_2=0.9, adaptive_gradient_clipping=3.0)
    name, mean_square = "logits/semantic/weights", np.zeros(2)
    for _ in range(30):
        apply(limited, {name: [3.0, -4.0]}, 0.0)
        mean_square = 0.9 * mean_square + 0.1 * np.array([9.0, 16.0])
    np.testing.assert_allclose(limited.second_moments[name], mean_square, rtol=1e-5)
    apply(limited, {name: [0.0, 1000.0]}, 0.0)
    usual = np.sqrt(mean_square.sum() / (1 - 0.9**30))
    expected = 0.9 * mean_square + 0.1 * np.array([0.0, (3.0 * usual) ** 2])
    np.testing.assert_allclose(limited.second_moments[name], expected, rtol=1e-4)


def test_an_ordinary_gradient_is_not_clipped(variables):
    limited = AdamOptimizer(variables, adaptive_gradient_clipping=3.0)
    copies = {name: tf.Variable(variable) for name, variable in variables.items()}
    free = AdamOptimizer(copies)
    for step in range(40):
        gradient = {"logits/semantic/weights": [1.0 + 0.5 * np.sin(step), -1.0]}
        apply(limited, gradient, 0.01)
        apply(free, gradient, 0.01)
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable, copies[name])


def test_adam_gives_the_weights_of_keras_adam(variables):
    keras_variables = {name: tf.Variable(v) for name, v in variables.items()}
    ours = AdamOptimizer(variables)
    keras = tf.keras.optimizers.Adam(1.0, epsilon=1e-8)
    rng = np.random.default_rng(0)
    for step in range(20):
        learning_rate = 0.01 * (1 - step / 20)
        gradients = {
            name: rng.normal(size=v.shape).astype(np.float32) for name, v in variables.items()
        }
        apply(ours, gradients, learning_rate)
        keras.learning_rate = learning_rate
        pairs = [(tf.constant(gradients[name]), v) for name, v in keras_variables.items()]
        keras.apply_gradients(pairs)
    for name, variable in variables.items():
        np.testing.assert_allclose(variable, keras_variables[name], rtol=1e-6)


NUM_STEPS = 200_000


@pytest.fixture(scope="module")
def release(golden):
    return dict(np.load(golden / "loss.npz"))


@pytest.mark.parametrize("policy", ["poly", "step"])
@pytest.mark.parametrize("slow_start_step", [0, 1000])
def test_the_learning_rate_equals_the_release_s(release, policy, slow_start_step):
    learning_rate = LearningRate(policy, slow_start_step=slow_start_step)
    values = [learning_rate(tf.constant(step, tf.int64), NUM_STEPS) for step in release["lr_steps"]]
    # The release's step policy ends in float32 denormals, which some processors round to 0.
    expected = release[f"lr_{policy}_slow{slow_start_step}"]
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-30)


def test_the_default_is_poly_without_slow_start(release):
    np.testing.assert_allclose(
        [LearningRate()(tf.constant(s, tf.int64), NUM_STEPS) for s in release["lr_steps"]],
        release["lr_poly_slow0"],
        rtol=1e-5,
    )


def test_an_unknown_policy_is_refused():
    with pytest.raises(
        InputError, match="LearningRate.policy: expected 'poly' or 'step', found 'cosine'"
    ):
        LearningRate("cosine")


@pytest.mark.parametrize("only_logits", [False, True])
def test_the_last_layers_of_the_multiplier_are_the_release_s(variables, only_logits):
    optimizer = MomentumOptimizer(
        variables,
        clip_gradient_norm=0.0,
        last_layer_gradient_multiplier=10.0,
        last_layers_contain_logits_only=only_logits,
    )
    apply(optimizer, {name: np.ones(v.shape) for name, v in variables.items()}, 1.0)
    found = {name: float(a[0]) for name, a in optimizer.accumulators.items()}
    assert found == {
        "logits/semantic/weights": 10.0,
        "embedding/biases": 2.0,
        "aspp0/BatchNorm/gamma": 1.0 if only_logits else 10.0,
    }


def test_keras_schedules_are_bound_by_name_and_follow_a_slow_start():
    gin.parse_config("""
        LearningRate.schedule = @CosineDecay()
        LearningRate.slow_start_step = 10
        CosineDecay.initial_learning_rate = 0.5
        CosineDecay.decay_steps = 40
    """)
    try:
        rate = LearningRate()
    finally:
        gin.clear_config()
    rates = [float(rate(tf.constant(s, tf.int64), 50)) for s in (0, 9, 10, 30, 50, 60)]
    cosine = [0.25 * (1 + np.cos(np.pi * done)) for done in (0, 0.5, 1, 1)]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, *cosine], atol=1e-7)


def test_a_custom_schedule_is_accepted_and_anything_else_refused():
    class Halving(tf.keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5 ** tf.cast(step, tf.float32)

    rate = LearningRate(schedule=Halving())
    assert float(rate(tf.constant(3, tf.int64), 100)) == 0.125
    for other in (Halving, 0.1, lambda step: 0.1):
        with pytest.raises(InputError, match=r"LearningRate.schedule: expected .* found"):
            LearningRate(schedule=other)

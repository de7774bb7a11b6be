import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.training.weight_averaging import WeightAverage


@pytest.fixture(params=["one device", "mirrored"])
def strategy(request):
    if request.param == "mirrored":
        return tf.distribute.MirroredStrategy(["CPU:0"])
    return tf.distribute.get_strategy()


def test_the_average_equals_a_numpy_loop(strategy):
    with strategy.scope():
        weight = tf.Variable([1.0, -2.0])
        average = WeightAverage({"w": weight}, decay=0.9)
    average.restart()
    step = tf.function(lambda: strategy.run(average.update))
    expected = np.array([1.0, -2.0])
    for n in range(120):
        weight.assign(weight * 1.01 + 0.1)
        step()
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight.numpy()
        np.testing.assert_allclose(average.averages["w"], expected, rtol=1e-5)


def test_the_averages_replace_the_weights_inside_the_block_only():
    weight = tf.Variable(1.0)
    average = WeightAverage({"w": weight}, decay=0.9)
    average.averages["w"].assign(5.0)
    with pytest.raises(ZeroDivisionError), average.in_place():
        assert float(weight) == 5.0
        raise ZeroDivisionError
    assert float(weight) == 1.0
    assert float(average.averages["w"]) == 5.0

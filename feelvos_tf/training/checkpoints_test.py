import numpy as np
import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.training.checkpoints import restore_weights
from feelvos_tf.training.weight_averaging import WeightAverage


def tiny_feelvos():
    model = Feelvos(MobileNetV2(depth_multiplier=0.1), atrous_rates=(), embedding_dimension=4)
    model.create_variables()
    return model


def test_averaged_weights_are_preferred_where_a_checkpoint_has_some(tmp_path):
    model = tiny_feelvos()
    trainable = {id(variable) for variable in model.trainable_variables}
    learned = {n: v for n, v in release_names(model).items() if id(v) in trainable}
    plain = tf.train.Checkpoint(model=model).save(str(tmp_path / "plain"))
    average = WeightAverage(learned, 0.9)
    average.restart()
    average.averages["logits/semantic/biases"].assign([7.0])
    both = tf.train.Checkpoint(model=model, average=average).save(str(tmp_path / "both"))
    other = tiny_feelvos()
    for path, bias in ((plain, 0.0), (both, 7.0)):
        restore_weights(other, path)
        names = release_names(other)
        np.testing.assert_array_equal(names["logits/semantic/biases"], [bias])
        for name, variable in release_names(model).items():
            if name != "logits/semantic/biases":
                np.testing.assert_array_equal(names[name], variable)

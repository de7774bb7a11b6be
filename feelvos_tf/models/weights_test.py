"""Checkpoints of every kind fill a model, or are refused with one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models import release_checkpoint
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.models.weights import checkpoint_of, load_weights


def mobilenet(**settings) -> Feelvos:
    settings = {"atrous_rates": (6,), **settings}
    model = Feelvos(MobileNetV2(0.35, output_stride=16), **settings)
    model.create_variables()
    return model


def write(prefix: str, tensors: dict[str, np.ndarray]) -> str:
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return prefix


def assert_holds(model: Feelvos, values: dict[str, np.ndarray]) -> None:
    for name, variable in release_names(model).items():
        np.testing.assert_array_equal(variable, values[name], err_msg=name)


def test_training_and_converted_checkpoints_are_read(tmp_path):
    source, model = mobilenet(), mobilenet()
    prefix = checkpoint_of(release_names(source)).write(str(tmp_path / "ckpt"))
    load_weights(model, prefix)
    assert_holds(model, {name: v.numpy() for name, v in release_names(source).items()})


def test_checkpoints_of_the_release_are_read(tmp_path):
    source, model = mobilenet(), mobilenet()
    release_checkpoint.write(source, str(tmp_path / "model.ckpt"))
    load_weights(model, str(tmp_path / "model.ckpt"))
    assert_holds(model, {name: v.numpy() for name, v in release_names(source).items()})


def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(tmp_path):
    model = mobilenet()
    before = {name: v.numpy() for name, v in release_names(model).items()}
    other = mobilenet(embedding_dimension=9)
    release_checkpoint.write(other, str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"other: .* embedding/.* 100\], found shape .* 9\]"):
        load_weights(model, str(tmp_path / "other"))
    write(str(tmp_path / "little"), {"MobilenetV2/Conv/weights": np.zeros([3, 3, 3, 11], "f")})
    with pytest.raises(InputError, match="little: .* found nothing of that name"):
        load_weights(model, str(tmp_path / "little"))
    assert_holds(model, before)


def test_a_model_that_weights_cannot_be_loaded_into_is_refused(tmp_path):
    release_checkpoint.write(mobilenet(), str(tmp_path / "model.ckpt"))
    with pytest.raises(InputError, match="expected a model of layers .* found none in Sequential"):
        load_weights(tf.keras.Sequential(), str(tmp_path / "model.ckpt"))


def test_a_damaged_checkpoint_is_refused_and_changes_nothing(tmp_path):
    model = mobilenet()
    before = {name: v.numpy() for name, v in release_names(model).items()}
    prefix = tmp_path / "ckpt-5"
    release_checkpoint.write(mobilenet(), str(prefix))
    data = tmp_path / "ckpt-5.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1000])
    with pytest.raises(InputError, match="ckpt-5: expected a complete .* unreadable"):
        load_weights(model, str(prefix))
    prefix.with_suffix(".index").write_bytes(b"nothing")
    with pytest.raises(InputError, match="ckpt-5: expected the prefix of a TensorFlow checkpoint"):
        load_weights(model, str(prefix))
    assert_holds(model, before)


def test_a_moving_average_of_the_weights_is_preferred(tmp_path):
    model = mobilenet(atrous_rates=())
    names = release_names(model)
    averages = {"logits/semantic/biases": tf.Variable([7.0])}
    holder = tf.Module()
    holder.averages = averages
    prefix = checkpoint_of(names, average=holder).write(str(tmp_path / "ckpt"))
    other = mobilenet(atrous_rates=())
    load_weights(other, prefix)
    for name, variable in release_names(other).items():
        expected = averages.get(name, names[name])
        np.testing.assert_array_equal(variable, expected)

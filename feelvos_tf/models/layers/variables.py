"""Adds weights to Keras layers and hands out their plain `tf.Variable`s."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

IS_KERAS_3 = hasattr(tf.keras, "ops")
# Weights stay float32 in mixed precision and are cast explicitly where they are used.
_NO_AUTOCAST = {"autocast": False} if IS_KERAS_3 else {"experimental_autocast": False}
# Key: whether a variable is an average.
_AGGREGATION = {
    False: "none" if IS_KERAS_3 else tf.VariableAggregation.NONE,
    True: "mean" if IS_KERAS_3 else tf.VariableAggregation.MEAN,
}


def add_variable(
    layer: tf.keras.layers.Layer,
    name: str,
    shape: Sequence[int],
    initializer: str | tf.keras.initializers.Initializer,
    is_average: bool = False,
) -> tf.Variable:
    """Adds a weight to `layer` and returns the `tf.Variable` that holds it.

    Args:
      layer: the owner of the weight.
      name: of the weight within the layer.
      shape: of the weight.
      initializer: a Keras initializer or its name.
      is_average: not trained but assigned by every replica of a distribution strategy; each gets
        the mean of the assigned values.
    """
    weight = layer.add_weight(
        name=name,
        shape=tuple(shape),
        initializer=initializer,
        trainable=not is_average,
        aggregation=_AGGREGATION[is_average],
        dtype="float32",
        **_NO_AUTOCAST,
    )
    # A Keras 3 variable wraps TensorFlow's.
    return weight.value if IS_KERAS_3 else weight


def maps(channels: int) -> tf.TensorShape:
    """Returns the shape of feature maps of any size, which is all that a layer needs to build."""
    return tf.TensorShape([None, None, None, channels])

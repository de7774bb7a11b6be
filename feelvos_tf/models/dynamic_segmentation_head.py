"""The dynamic segmentation head: the same layers, run once for every object."""

from __future__ import annotations

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.models.layers import Convolution, SeparableConv, build_in_turn, truncated_normal

# Objects are processed this many at a time, fewer if their grids have more points in all: four of a
# 480x854 frame, whose activations take 100 MB per layer.
_OBJECTS_AT_ONCE, _POINTS_AT_ONCE = 4, 4 * 120 * 214


@settings.configurable
class SegmentationHead(tf.keras.layers.Layer):
    """Four separable 7x7 convolutions and a 1x1 convolution to one logit per object and pixel.

    All objects share the features and differ only in the few cues. The first depthwise convolution
    and its ReLU act per channel, and the first pointwise convolution is linear before its ReLU, so
    the features' part of the first layer is computed once and added to each object's.

    Reproduction traps: biases and no batch norm; a ReLU after both convolutions of every layer.
    Source: paper section 3; 2019 release, embedding_utils.create_embedding_segmentation_features
    and deeplab/model.get_branch_logits.

    Args:
      num_cues: number of maps that differ between the objects.
      layers: number of separable convolutions.
      kernel_size: of their depthwise convolutions, odd.
      channels: of their outputs.
      atrous_rates: of the depthwise convolutions, one per layer; () for 1.

    Raises:
      InputError: a setting is out of range.
    """

    def __init__(
        self,
        num_cues: settings.PositiveInt,
        layers: settings.PositiveInt = 4,
        kernel_size: settings.PositiveInt = 7,
        channels: settings.PositiveInt = 256,
        atrous_rates: tuple[settings.PositiveInt, ...] = (),
    ):
        if kernel_size % 2 == 0:
            raise InputError(
                f"SegmentationHead.kernel_size: expected an odd number, found {kernel_size}"
            )
        if atrous_rates and len(atrous_rates) != layers:
            raise InputError(
                f"SegmentationHead.atrous_rates: expected one for each of {layers} layers, or (), "
                f"found {atrous_rates}"
            )
        super().__init__(name="embedding_seg")
        self.num_cues = num_cues
        self.convolutions = [
            SeparableConv(f"embedding_seg/split_separable_conv2d_{i}", channels, kernel_size, rate)
            for i, rate in enumerate(atrous_rates or (1,) * layers)
        ]
        self.logits = Convolution("logits/semantic", 1, initializer=truncated_normal(0.01))

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_turn([*self.convolutions, self.logits], input_shape[-1] + self.num_cues)
        self.built = True

    def call(self, features: tf.Tensor, cues: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns logits `[objects, h, w, 1]`, float32.

        Args:
          features: `[1, h, w, channels]` decoder features.
          cues: `[objects, h, w, cues]` global map, previous mask, local map, in this order.
          training: whether gradients are needed. If not, objects are processed a few at a time to
            save memory.
        """
        shared = self.convolutions[0].share(features)
        cues = tf.cast(cues, features.dtype)
        if training:
            return self._logits(shared, cues)
        return self._logits_in_turns(shared, cues)

    def _logits_in_turns(self, shared: tf.Tensor, cues: tf.Tensor) -> tf.Tensor:
        """Returns the logits, computed for a few objects at a time."""
        count, points = tf.shape(cues)[0], tf.reduce_prod(tf.shape(cues)[1:3])
        at_once = tf.clip_by_value(_POINTS_AT_ONCE // tf.maximum(points, 1), 1, _OBJECTS_AT_ONCE)
        groups = (count + at_once - 1) // at_once
        shape = [None, None, None, 1]

        def add(group: tf.Tensor, logits: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            first = group * at_once
            own = self._logits(shared, cues[first : first + at_once])
            return group + 1, logits.write(group, own)

        _, logits = tf.while_loop(
            lambda group, _: group < groups,
            add,
            (0, tf.TensorArray(tf.float32, groups, infer_shape=False, element_shape=shape)),
            parallel_iterations=1,  # Others would compute several groups at once.
        )
        return logits.concat()

    def _logits(self, shared: tf.Tensor, cues: tf.Tensor) -> tf.Tensor:
        x = self.convolutions[0].finish(shared, cues)
        for convolution in self.convolutions[1:]:
            x = convolution(x)
        return tf.cast(self.logits(x), tf.float32)

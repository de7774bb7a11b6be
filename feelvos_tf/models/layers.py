"""Keras layers: convolutions, each with batch norm or bias and an activation, and their weights.

A layer's `scope` is its name in the 2019 release, where its variables are named `<scope>/weights`,
`<scope>/BatchNorm/gamma`, `<scope>/biases`, ... (see release_checkpoint.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

IS_KERAS_3 = hasattr(tf.keras, "ops")
Activation = Callable[[tf.Tensor], tf.Tensor]
_BACKBONE_STDDEV = 0.09
_SEPARABLE_DEPTHWISE_STDDEV = 0.33
_SEPARABLE_POINTWISE_STDDEV = 0.06
# From this kernel size on, our gradient of a depthwise kernel beats TensorFlow's on CPUs.
_LARGE_KERNEL = 5


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
    aggregation = tf.VariableAggregation.MEAN if is_average else tf.VariableAggregation.NONE
    # Weights stay float32 in mixed precision and are cast explicitly where they are used.
    options = {"experimental_autocast": False, "aggregation": aggregation}
    if IS_KERAS_3:
        options = {"autocast": False, "aggregation": aggregation.name.lower()}
    weight = layer.add_weight(
        name=name,
        shape=tuple(shape),
        initializer=initializer,
        trainable=not is_average,
        dtype="float32",
        **options,
    )
    # A Keras 3 variable wraps TensorFlow's.
    return weight.value if IS_KERAS_3 else weight


def maps(channels: int) -> tf.TensorShape:
    """Returns the shape of feature maps of any size, which is all that a layer needs to build."""
    return tf.TensorShape([None, None, None, channels])


def build_in_turn(layers: Sequence[tf.keras.layers.Layer], channels: int) -> None:
    """Builds layers, each for the output of the one before it, whose `filters` are its channels."""
    for layer in layers:
        layer.build(maps(channels))
        channels = layer.filters


class BatchNorm(tf.keras.layers.Layer):
    """Batch normalization as a scale and an offset per channel.

    With frozen statistics (the release's default) normalization is affine, so the convolution
    before it folds it into its kernel, which saves a pass over the activations and a copy of them
    for the gradient (but see `is_folded`). `gamma` and `beta` are still trained: the release
    freezes only the moving statistics.

    Args:
      epsilon: added to the variance.
      decay: share of their old value that the running averages keep at each update.

    Attributes:
      is_frozen: keep the running averages even if batch statistics are requested.
      is_folded: whether frozen statistics are folded into the convolution. If not, they are an
        operation after it, in the release's order of arithmetic.

    Source: 2019 release, slim batch_norm with is_training = fine_tune_batch_norm.
    """

    def __init__(self, epsilon: float, decay: float, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.decay = decay
        self.is_frozen = False
        self.is_folded = True

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = [input_shape[-1]]
        self.gamma = add_variable(self, "gamma", shape, "ones")
        self.beta = add_variable(self, "beta", shape, "zeros")
        self.moving_mean = add_variable(self, "moving_mean", shape, "zeros", is_average=True)
        self.moving_variance = add_variable(self, "moving_variance", shape, "ones", is_average=True)
        self.built = True

    def frozen_scale_and_offset(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the scale and offset `[channels]` that are equivalent to the normalization."""
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def with_frozen_statistics(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `x` normalized by the running averages, in the release's order of arithmetic."""
        averages = self.moving_mean, self.moving_variance
        return tf.compat.v1.nn.fused_batch_norm(
            x, self.gamma, self.beta, *averages, self.epsilon, is_training=False
        )[0]

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `x` normalized by its own statistics, and updates the running averages."""
        dtype, x = x.dtype, tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign_sub((1.0 - self.decay) * (average - tf.stop_gradient(value)))
        y = tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)
        return tf.cast(y, dtype)


def truncated_normal(stddev: float) -> tf.keras.initializers.Initializer:
    """Returns the initializer that the 2019 release uses for most kernels."""
    return tf.keras.initializers.TruncatedNormal(stddev=stddev)


def bias_add(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `x + bias` in the dtype of `x`."""
    return tf.nn.bias_add(x, tf.cast(bias, x.dtype))


def layer_name(scope: str) -> str:
    """Returns the release's scope as a name that Keras accepts."""
    return scope.replace("/", "_")


def depthwise_with_fast_gradient(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the depthwise convolution of `x`, stride 1, padding SAME, odd square kernel.

    Its gradient is TensorFlow's, but several times faster on CPUs: the kernel's gradient is itself
    a convolution of the padded input, with the output's gradient as the kernel.
    """

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            dx = _depthwise(dy, tf.reverse(kernel, [0, 1]))
            size, channels = kernel.shape[0], kernel.shape[2]
            r = size // 2
            # The images of a batch, stacked with blank rows between them, act as one image.
            stacked_x = tf.pad(x, [[0, 0], [r, r], [r, r], [0, 0]])
            stacked_x = tf.reshape(stacked_x, [1, -1, tf.shape(x)[2] + 2 * r, channels])
            stacked_dy = tf.pad(dy, [[0, 0], [0, 2 * r], [0, 0], [0, 0]])
            stacked_dy = tf.reshape(stacked_dy, [-1, tf.shape(x)[2], channels, 1])
            dkernel = tf.nn.depthwise_conv2d(stacked_x, stacked_dy[: -2 * r], [1] * 4, "VALID")
            return dx, tf.reshape(dkernel, kernel.shape)

        return _depthwise(x, kernel), gradient

    return convolve(x, kernel)


def _depthwise(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.depthwise_conv2d(x, kernel, [1] * 4, "SAME")


@tf.custom_gradient
def relu6(x: tf.Tensor) -> tf.Tensor:
    """Returns `x` between 0 and 6, with the values and the gradient of `tf.nn.relu6`.

    With TensorFlow 2.21 (not 2.15) and oneDNN, on processors with AVX2 alone, a convolution of few
    channels takes 3 to 10 times as long if `tf.nn.relu6` follows it; `tf.nn.relu` costs nothing.
    """
    y = tf.minimum(tf.nn.relu(x), tf.constant(6.0, x.dtype))

    # The gradient of `tf.minimum` would keep an extra map per layer.
    def gradient(dy: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Relu6Grad(gradients=dy, features=y)

    return y, gradient


class SpaceToBatch:
    """Splits images into smaller ones of every n-th pixel, n being the atrous rate.

    In these, an atrous convolution is an ordinary one. TensorFlow splits and joins around every
    atrous layer; for consecutive layers of the same atrous rate, once is enough, since 1x1
    convolutions, activations and sums act on each pixel alone. Values stay the same to the last
    bit.

    If the atrous rate does not divide the size, pixels beyond the border fill up some images. They
    must be zero whenever a kernel reads them, which `blank` ensures. Nothing that averages over an
    image may run between `split` and `join`.

    Args:
      x: float32 `[n, h, w, channels]`, with the size of all images to split.
      atrous_rate: more than 1.
    """

    def __init__(self, x: tf.Tensor, atrous_rate: int):
        height, width = tf.shape(x)[1], tf.shape(x)[2]
        self._block_shape = [atrous_rate, atrous_rate]
        self._missing = [[0, -height % atrous_rate], [0, -width % atrous_rate]]
        self._inside = self.split(tf.ones_like(x[..., :1]))

    def split(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[r * r * n, ceil(h / r), ceil(w / r), channels]` for the atrous rate r."""
        return tf.space_to_batch(x, self._block_shape, self._missing)

    def blank(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what `split` returned, with zeros beyond the border."""
        return x * self._inside

    def join(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[n, h, w, channels]` from what `split` returned."""
        return tf.batch_to_space(x, self._block_shape, self._missing)


class ConvNormActivation(tf.keras.layers.Layer):
    """Kernel, then batch norm or bias, then activation."""

    def __init__(
        self,
        scope: str,
        kernel_size: int,
        stride: int = 1,
        atrous_rate: int = 1,
        norm: BatchNorm | None = None,
        activation: Activation | None = None,
        initializer: tf.keras.initializers.Initializer | None = None,
        fixed_padding: bool = False,
    ):
        super().__init__(name=layer_name(scope))
        self.scope = scope
        self.kernel_size = kernel_size
        self.stride = stride
        self.atrous_rate = atrous_rate
        self.norm = norm
        self.activation = activation
        self.initializer = initializer or truncated_normal(_BACKBONE_STDDEV)
        self.fixed_padding = fixed_padding

    def release_variables(self) -> dict[str, tf.Variable]:
        """Returns the layer's variables under their names in the 2019 release."""
        variables = {f"{self.scope}/{self.kernel_leaf}": self.kernel}
        if self.norm is None:
            variables[f"{self.scope}/biases"] = self.bias
            return variables
        for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
            variables[f"{self.scope}/BatchNorm/{leaf}"] = getattr(self.norm, leaf)
        return variables

    def fuse_batch_norm(self) -> None:
        """Fuses the batch norm into kernel and bias, irreversibly; for inference only."""
        if self.norm is None:
            return
        scale, offset = self.norm.frozen_scale_and_offset()
        self.kernel.assign(self._scaled(scale))
        self.bias = tf.Variable(offset, name="biases")
        self.norm = None

    def _create_variables(self, shape: list[int], channels: int) -> None:
        """Creates the kernel of this shape, and bias or batch norm of the output's channels."""
        self.kernel = add_variable(self, self.kernel_leaf, shape, self.initializer)
        if self.norm is None:
            self.bias = add_variable(self, "biases", [channels], "zeros")
        else:
            self.norm.build([channels])
        self.built = True

    def call(
        self,
        x: tf.Tensor,
        batch_statistics: bool = False,
        space_to_batch: SpaceToBatch | None = None,
    ) -> tf.Tensor:
        """Returns the convolved `x`.

        Args:
          x: float32 `[batch, height, width, channels]`; float16 or bfloat16 in mixed precision.
          batch_statistics: normalize by the statistics of the output itself.
          space_to_batch: what has split `x` by the layer's atrous rate, if anything.
        """
        atrous_rate = self.atrous_rate
        if space_to_batch is not None:
            x, atrous_rate = space_to_batch.blank(x), 1
        x, padding = self._pad(x)
        convolve = functools.partial(self.convolve, x, atrous_rate=atrous_rate, padding=padding)
        if self.norm is None:
            y = bias_add(convolve(self.kernel), self.bias)
        elif batch_statistics and not self.norm.is_frozen:
            y = self.norm(convolve(self.kernel))
        elif self.norm.is_folded:
            scale, offset = self.norm.frozen_scale_and_offset()
            y = bias_add(convolve(self._scaled(scale)), offset)
        else:
            y = self.norm.with_frozen_statistics(convolve(self.kernel))
        return y if self.activation is None else self.activation(y)

    def _pad(self, x: tf.Tensor) -> tuple[tf.Tensor, str]:
        """Reproduction trap: with a stride, Xception pads evenly instead of TensorFlow's SAME.

        TensorFlow's SAME pads an even-sized input at the bottom and right only. Source: 2019
        release, slim fixed_padding.
        """
        if not self.fixed_padding or self.stride == 1:
            return x, "SAME"
        total = (self.kernel_size - 1) * self.atrous_rate
        before, after = total // 2, total - total // 2
        return tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]]), "VALID"


class Convolution(ConvNormActivation):
    """Full convolution `[batch, height, width, channels]` -> `[..., filters]`."""

    kernel_leaf = "weights"

    def __init__(self, scope: str, filters: int, kernel_size: int = 1, **kwargs):
        super().__init__(scope, kernel_size, **kwargs)
        self.filters = filters

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = [self.kernel_size, self.kernel_size, input_shape[-1], self.filters]
        self._create_variables(shape, self.filters)

    def _scaled(self, scale: tf.Tensor) -> tf.Tensor:
        return self.kernel * scale

    def convolve(
        self, x: tf.Tensor, kernel: tf.Tensor, atrous_rate: int, padding: str = "SAME"
    ) -> tf.Tensor:
        kernel = tf.cast(kernel, x.dtype)
        return tf.nn.conv2d(x, kernel, self.stride, padding, dilations=atrous_rate)


class DepthwiseConvolution(ConvNormActivation):
    """One filter per channel, `[batch, height, width, channels]` -> same channels."""

    kernel_leaf = "depthwise_weights"

    def build(self, input_shape: tf.TensorShape) -> None:
        self.filters = input_shape[-1]
        shape = [self.kernel_size, self.kernel_size, self.filters, 1]
        self._create_variables(shape, self.filters)

    def _scaled(self, scale: tf.Tensor) -> tf.Tensor:
        return self.kernel * scale[:, tf.newaxis]

    def convolve(
        self, x: tf.Tensor, kernel: tf.Tensor, atrous_rate: int, padding: str = "SAME"
    ) -> tf.Tensor:
        kernel = tf.cast(kernel, x.dtype)
        # On CPUs, there is a faster way to compute the gradient of such a kernel.
        is_slow = self.stride == atrous_rate == 1 and self.kernel_size >= _LARGE_KERNEL
        if is_slow and not tf.config.list_physical_devices("GPU"):
            return depthwise_with_fast_gradient(x, kernel)
        strides = [1, self.stride, self.stride, 1]
        return tf.nn.depthwise_conv2d(
            x, kernel, strides, padding, dilations=[atrous_rate, atrous_rate]
        )


class SeparableConv(tf.keras.layers.Layer):
    """Depthwise then pointwise convolution, a ReLU after each.

    Source: 2019 release, deeplab split_separable_conv2d (ASPP and decoder, with batch norm) and
    split_separable_conv2d_with_identity_initializer (embedding and head, with biases).
    """

    def __init__(
        self,
        scope: str,
        filters: int,
        kernel_size: int,
        atrous_rate: int = 1,
        norm: Callable[[], BatchNorm | None] = lambda: None,
        initializer: tf.keras.initializers.Initializer | None = None,
    ):
        super().__init__(name=layer_name(scope))
        self.scope, self.filters = scope, filters
        self.depthwise = DepthwiseConvolution(
            f"{scope}_depthwise",
            kernel_size,
            atrous_rate=atrous_rate,
            norm=norm(),
            activation=tf.nn.relu,
            initializer=initializer or truncated_normal(_SEPARABLE_DEPTHWISE_STDDEV),
        )
        self.pointwise = Convolution(
            f"{scope}_pointwise",
            filters,
            norm=norm(),
            activation=tf.nn.relu,
            initializer=initializer or truncated_normal(_SEPARABLE_POINTWISE_STDDEV),
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_turn([self.depthwise, self.pointwise], input_shape[-1])
        self.built = True

    def call(self, x: tf.Tensor, batch_statistics: bool = False) -> tf.Tensor:
        x = self.depthwise(x, batch_statistics=batch_statistics)
        return self.pointwise(x, batch_statistics=batch_statistics)

    def share(self, shared: tf.Tensor) -> tf.Tensor:
        """Returns what the first channels of the input contribute, `[batch, h, w, filters]`.

        The depthwise convolution and its activation act per channel, and the pointwise convolution
        is linear: both can be split by input channel, and what all entries of a batch share is
        computed once. For layers with biases, not batch norm.

        Args:
          shared: `[1 or batch, h, w, channels]`, the first channels of the input.
        """
        return self._part(shared, slice(None, shared.shape[-1]))

    def finish(self, contribution: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
        """Returns `self(concat([shared, own]))`.

        Args:
          contribution: what `share` returned for `shared`.
          own: `[batch, h, w, channels]`, the last channels of the input.
        """
        total = contribution + self._part(own, slice(-own.shape[-1], None))
        return self.pointwise.activation(bias_add(total, self.pointwise.bias))

    def _part(self, x: tf.Tensor, channels: slice) -> tf.Tensor:
        kernel, bias = self.depthwise.kernel[:, :, channels], self.depthwise.bias[channels]
        x = self.depthwise.convolve(x, kernel, self.depthwise.atrous_rate)
        x = self.depthwise.activation(bias_add(x, bias))
        return self.pointwise.convolve(x, self.pointwise.kernel[:, :, channels], atrous_rate=1)


def convolutions_of(layer: tf.keras.layers.Layer) -> Iterator[ConvNormActivation]:
    """Yields every layer below `layer` that owns variables, in the order of the attributes."""
    if isinstance(layer, ConvNormActivation):
        yield layer
        return
    for name, value in vars(layer).items():
        parts = value if isinstance(value, list) else [value]
        for part in () if name.startswith("_") else parts:
            if isinstance(part, tf.keras.layers.Layer):
                yield from convolutions_of(part)

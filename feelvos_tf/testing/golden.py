"""The networks that the golden numbers were computed with, and comparisons with them."""

from __future__ import annotations

import contextlib
import functools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from unittest import mock

import numpy as np
import tensorflow as tf

from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names

NUM_OBJECTS = 3
"""Of the golden clip, background included."""

# TensorFlow's own kernels and the release's order of arithmetic: see release_rounding_test.py.
ROUNDS_LIKE_RELEASE = os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0"
_LAST_THREE_OF_HEAD = "embedding_seg/split_separable_conv2d_0"


def _kernel_gain(name: str) -> float:
    """Returns the factor of the weight rule that keeps activations in a useful range."""
    if "xception_module/separable_conv" in name and "exit_flow/block2" not in name:
        return 1.0
    if name.endswith("shortcut/weights"):
        return 1.0
    for part, gain in (("MobilenetV2", 1.55), ("embedding/", 0.36), ("logits/", 5.0)):
        if part in name:
            return gain
    return np.sqrt(2.0)


def rule_weight(name: str, shape: tuple) -> np.ndarray:
    """Returns the golden value of a variable, a function of its release name and shape only."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rsplit("/", 1)[-1]
    if leaf in ("beta", "moving_mean", "biases"):
        value = 0.1 * rng.standard_normal(shape)
    elif leaf == "moving_variance":
        value = rng.uniform(0.6, 1.5, shape)
    elif leaf == "gamma":
        damped = "middle_flow" in name and "separable_conv3_pointwise" in name
        value = rng.uniform(0.7, 1.3, shape) * (0.35 if damped else 1.0)
    elif leaf == "depthwise_weights":
        value = rng.standard_normal(shape) * np.sqrt(2.0 / (shape[0] * shape[1]))
        if name.startswith(_LAST_THREE_OF_HEAD):
            value[:, :, -3:] = np.abs(value[:, :, -3:])
    else:
        value = rng.standard_normal(shape)
        if shape[2] > 8:
            value -= value.mean(axis=2, keepdims=True)
        value *= _kernel_gain(name) / np.sqrt(np.prod(shape[:3]))
        if name.startswith(_LAST_THREE_OF_HEAD):
            value[:, :, -3:] *= 2.0
    return value.astype(np.float32)


def build_rule_model(variant: str, output_stride: int) -> Feelvos:
    """Returns a Feelvos whose weights follow the rule."""
    if variant == "mobilenet_v2":
        backbone = MobileNetV2(output_stride=output_stride)
    else:
        backbone = Xception(65, output_stride)
    atrous_rates = (6, 12, 18) if output_stride == 16 else (12, 24, 36)
    model = Feelvos(backbone, atrous_rates, fold_batch_norm=not ROUNDS_LIKE_RELEASE)
    model.create_variables()
    for name, variable in release_names(model).items():
        variable.assign(rule_weight(name, tuple(variable.shape)))
    return model


# For tests that do not change its weights.
rule_model = functools.cache(build_rule_model)


@contextlib.contextmanager
def recorded_outputs(layers: Iterable[tf.keras.layers.Layer]) -> Iterator[dict[str, tf.Tensor]]:
    """Yields layer name -> output, filled in as layers are called; the first of several outputs."""
    outputs = {}

    def recording(layer: tf.keras.layers.Layer, call: Callable, *args, **kwargs) -> object:
        output = call(*args, **kwargs)
        outputs[layer.scope] = output[0] if isinstance(output, tuple) else output
        return output

    with contextlib.ExitStack() as stack:
        for layer in layers:
            call = functools.partial(recording, layer, layer.call)
            stack.enter_context(mock.patch.object(layer, "call", call))
        yield outputs


def assert_close_to_golden(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4):
    """Checks that the largest difference is at most `tolerance` of the largest golden value."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert difference <= tolerance, f"differs by {difference:.1e} of the largest value"

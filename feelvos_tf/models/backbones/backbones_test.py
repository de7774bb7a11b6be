import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core import cli
from feelvos_tf.models.backbones.common import normalize_image
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.layers import convolutions_of
from feelvos_tf.testing.golden import recorded_outputs, rule_model, rule_weight


def convolutions(backbone):
    return list(convolutions_of(backbone))


def with_rule_weights(backbone, size=(33, 33)):
    backbone(tf.zeros([1, *size, 3]))
    for layer in convolutions(backbone):
        for name, variable in layer.release_variables().items():
            variable.assign(rule_weight(name, tuple(variable.shape)))
    return backbone


def test_both_backbones_see_colors_from_minus_one_to_one(golden):
    arrays = np.load(golden / "preprocess.npz")
    for variant in ("xception_65", "mobilenet_v2"):
        np.testing.assert_allclose(
            normalize_image(arrays["image"]), arrays[f"normalised_{variant}"], atol=1e-6
        )


def layer_of_end_point(name: str) -> str:
    """Returns our layer's name for the release's end point."""
    if name == "layer_1":
        return "MobilenetV2/Conv"
    if name.startswith("layer_"):
        layer, _, part = name.partition("/")
        number = int(layer[6:]) - 2
        block = "MobilenetV2/expanded_conv" + (f"_{number}" if number else "")
        leaf = {"expansion_output": "/expand", "depthwise_output": "/depthwise"}
        return block + leaf.get(part, "")
    return name


def as_one_image(x: tf.Tensor, shape: np.ndarray) -> tf.Tensor:
    """Returns `x` in that shape, also if space-to-batch has split it."""
    parts = int(np.sqrt(x.shape[0]))
    beyond = parts * np.array(x.shape[1:3]) - shape[1:3]
    return tf.batch_to_space(x, [parts, parts], [[0, beyond[0]], [0, beyond[1]]])


@pytest.mark.parametrize("variant", ["mobilenet_v2", "xception_65"])
def test_statistics_of_every_end_point_equal_the_release_s(variant, golden):
    release = np.load(golden / f"forward_{variant}.npz")
    image = np.load(golden / "forward_clip.npz")["images"][:1]
    backbone = rule_model(variant, 8).backbone
    with recorded_outputs([*backbone.blocks, *convolutions(backbone)]) as ours:
        backbone(image)
    compared = 0
    for i, name in enumerate(release["endpoint_names"].astype(str)):
        if layer_of_end_point(name) not in ours:
            assert name.rsplit("/", 1)[-1].startswith("block"), f"{name} was not recorded"
            continue
        compared += 1
        found = as_one_image(ours[layer_of_end_point(name)], release["endpoint_shape"][i])
        found = found.numpy().astype(np.float64)
        mean, spread = release["endpoint_mean"][i], release["endpoint_std"][i]
        assert found.shape == tuple(release["endpoint_shape"][i]), name
        np.testing.assert_allclose(found.mean(), mean, atol=1e-5 * spread, err_msg=name)
        np.testing.assert_allclose(found.std(), spread, rtol=1e-5, err_msg=name)
        largest = release["endpoint_absmax"][i]
        np.testing.assert_allclose(np.abs(found).max(), largest, rtol=1e-4, err_msg=name)
    assert compared == {"mobilenet_v2": 68, "xception_65": 153}[variant]


@pytest.mark.parametrize("make", [MobileNetV2, lambda **kwargs: Xception(41, **kwargs)])
def test_output_stride_8_agrees_with_16_at_every_second_point(make):
    """Dilation replaces stride: the denser features contain the coarser ones."""
    image = tf.random.stateless_normal([1, 65, 97, 3], [1, 2])
    (low_8, deep_8), (low_16, deep_16) = (
        with_rule_weights(make(output_stride=stride))(image) for stride in (8, 16)
    )
    assert deep_8.shape[1:3] == [9, 13]
    assert deep_16.shape[1:3] == [5, 7]
    np.testing.assert_allclose(low_8, low_16, rtol=1e-5, atol=1e-5)
    scale = np.abs(deep_16).max()
    np.testing.assert_allclose(deep_8[:, ::2, ::2] / scale, deep_16 / scale, atol=1e-4)


@pytest.mark.parametrize("size", [(33, 33), (34, 47), (40, 64), (31, 50)])
def test_any_image_size_gives_stride_4_and_8_features(size):
    backbone = MobileNetV2(depth_multiplier=0.1, output_stride=8)
    low_level, deep = backbone(tf.zeros([2, *size, 3]))
    assert low_level.shape[1:3] == [-(-size[0] // 4), -(-size[1] // 4)]
    assert deep.shape[1:3] == [-(-size[0] // 8), -(-size[1] // 8)]


_CHILD = "import sys; from {} import *; np.save(sys.argv[1], graph_features())"


def graph_features():
    tf.keras.utils.set_random_seed(0)
    backbone = MobileNetV2(depth_multiplier=0.1, output_stride=8)
    image = tf.random.stateless_uniform([1, 33, 49, 3], [1, 2])
    backbone(image)
    return tf.function(backbone)(image)[1]


def test_processors_without_onednn_give_the_same_features(tmp_path):
    """TensorFlow disables oneDNN on processors without AVX512-VNNI."""
    other = "1" if os.environ.get(cli.ONEDNN) == "0" else "0"
    subprocess.run(
        [sys.executable, "-c", _CHILD.format(__name__), tmp_path / "other.npy"],
        env={**os.environ, cli.ONEDNN: other},
        check=True,
    )
    features = graph_features()
    scale = np.abs(features).max()
    assert scale > 0
    np.testing.assert_allclose(np.load(tmp_path / "other.npy") / scale, features / scale, atol=1e-5)


def test_xception_pads_even_sizes_on_both_sides():
    """TensorFlow's own SAME padding would not pad an even-sized image at the top left."""
    backbone = Xception(41, 16)
    root = backbone.root[0]
    root(tf.zeros([1, 4, 4, 3]))
    root.kernel.assign(tf.ones_like(root.kernel))
    sums = root(tf.ones([1, 4, 4, 3]))[0, :, :, 0]
    np.testing.assert_allclose(sums, [[12.0, 18.0], [18.0, 27.0]], rtol=1e-3)


def optimized_operations(folder, function, *args):
    """Yields the names of the operations that TensorFlow actually runs for a function."""
    with tf.summary.create_file_writer(str(folder)).as_default():
        tf.summary.trace_on(graph=True, profiler=False)
        function(*args)
        tf.summary.trace_export("graphs", step=0)
    [path] = folder.glob("events.*")
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            metadata = tf.compat.v1.RunMetadata.FromString(value.tensor.string_val[0])
            graphs = [part.post_optimization_graph for part in metadata.function_graphs]
            yield from (node.op for graph in graphs for node in graph.node)


def test_activations_are_fused_into_the_convolutions(tmp_path):
    """A single node that TensorFlow's remapper cannot handle would leave all of them unfused."""
    backbone = Xception(41, 8)
    backbone(tf.zeros([1, 33, 33, 3]))
    function = tf.function(backbone).get_concrete_function(tf.TensorSpec([1, 33, 33, 3]))
    operations = list(optimized_operations(tmp_path, function, tf.zeros([1, 33, 33, 3])))
    assert operations.count("_FusedConv2D") > 40
    # Four do not follow a full convolution: the last shortcut's and the last block's own.
    assert operations.count("Relu") <= 4

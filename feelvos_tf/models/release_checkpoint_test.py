from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.models import release_checkpoint
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.backbones.xception import Xception
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.testing.golden import rule_model


def small_model(depth_multiplier: float = 0.1, **settings) -> Feelvos:
    settings = {"atrous_rates": (), "embedding_dimension": 8, **settings}
    model = Feelvos(MobileNetV2(depth_multiplier), **settings)
    model.create_variables()
    return model


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.parametrize("variant", ["mobilenet_v2", "xception_41", "xception_65", "xception_71"])
def test_names_and_shapes_are_the_release_s(variant, golden):
    arrays = np.load(golden / "variables.npz")
    expected = {
        name: [size for size in shape if size]
        for name, shape in zip(
            arrays[f"{variant}/names"].astype(str), arrays[f"{variant}/shapes"].tolist()
        )
    }
    if variant in ("mobilenet_v2", "xception_65"):
        model = rule_model(variant, 8)
    else:
        model = Feelvos(Xception(int(variant[-2:])))
        model.create_variables()
    names = release_checkpoint.release_names(model)
    assert {name: v.shape.as_list() for name, v in names.items()} == expected
    assert model.count_params() == sum(v.shape.num_elements() for v in names.values())


def test_weights_survive_a_round_trip_through_the_release_s_format(model, tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    release_checkpoint.write(model, prefix, global_step=12)
    other = small_model()
    restored = release_checkpoint.restore(other, prefix)
    assert (restored.missing, restored.unused) == ([], [])
    assert restored.ignored == ["global_step"]
    assert release_checkpoint.read_global_step(prefix) == 12
    names = release_checkpoint.release_names(model)
    assert set(restored.matched) == set(names)
    for name, variable in release_checkpoint.release_names(other).items():
        np.testing.assert_array_equal(variable, names[name])


def test_the_session_of_tensorflow_1_reads_what_we_write(model, tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    release_checkpoint.write(model, prefix)
    name = "embedding/split_separable_conv2d_pointwise/weights"
    expected = release_checkpoint.release_names(model)[name].numpy()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable(name, expected.shape, use_resource=False)
        tf.compat.v1.train.Saver([variable]).restore(session, prefix)
        np.testing.assert_array_equal(session.run(variable), expected)


def test_another_shape_is_refused_with_both_shapes(model, tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    release_checkpoint.write(small_model(embedding_dimension=9), prefix)
    with pytest.raises(InputError, match=r"of shape \[1, 1, 256, 8\], found .* \[1, 1, 256, 9\]"):
        release_checkpoint.restore(model, prefix)


def test_a_path_that_is_no_checkpoint_is_refused(model, tmp_path):
    (tmp_path / "broken.index").write_text("nothing")
    for name in ("none", "broken"):
        with pytest.raises(InputError, match=f"{name}: expected the prefix of a TensorFlow"):
            release_checkpoint.restore(model, str(tmp_path / name))
    release_checkpoint.write(model, str(tmp_path / "half"))
    next(tmp_path.glob("half.data*")).unlink()
    with pytest.raises(InputError, match="half"):
        release_checkpoint.restore(model, str(tmp_path / "half"))


def test_deeplab_initialization_leaves_out_what_the_release_leaves_out(golden, tmp_path):
    """The release's list was made with xception_65; it names no backbone variable."""
    model, prefix = rule_model("mobilenet_v2", 8), str(tmp_path / "model.ckpt")
    release_checkpoint.write(model, prefix)
    not_restored = set(np.load(golden / "train_step.npz")["not_restored"].astype(str))
    restored = release_checkpoint.initialize_from_deeplab(model, prefix)
    assert set(restored.missing) == not_restored
    assert set(restored.unused) == not_restored
    restored = release_checkpoint.initialize_from_deeplab(model, prefix, initialize_last_layer=True)
    assert set(restored.missing) == {"logits/semantic/weights", "logits/semantic/biases"}


def test_deeplab_initialization_sets_the_backbone_and_nothing_else(tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    source, model = small_model(), small_model()
    release_checkpoint.write(source, prefix)
    before = {n: v.numpy() for n, v in release_checkpoint.release_names(model).items()}
    restored = release_checkpoint.initialize_from_deeplab(model, prefix)
    for name, variable in release_checkpoint.release_names(model).items():
        own = release_checkpoint.release_names(source)[name] if name in restored.matched else None
        np.testing.assert_array_equal(variable, before[name] if own is None else own)
    assert any(name.startswith("MobilenetV2/Conv") for name in restored.matched)
    assert not any(name.startswith("aspp") for name in restored.matched)


@pytest.mark.parametrize("last_layers", [False, True])
def test_a_checkpoint_of_another_backbone_is_refused(tmp_path, last_layers):
    """ASPP and decoder fit any backbone, and must not hide that the backbone does not."""
    prefix = str(tmp_path / "model.ckpt")
    source = release_checkpoint.release_names(small_model())
    others = {n.replace("MobilenetV2", "resnet_v1_50"): tf.identity(v) for n, v in source.items()}
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(others),
        shape_and_slices=[""] * len(others),
        tensors=list(others.values()),
    )
    with pytest.raises(
        InputError, match="expected all [0-9]+ variables of a MobilenetV2 backbone, found 0 of them"
    ):
        release_checkpoint.initialize_from_deeplab(small_model(), prefix, last_layers)


@pytest.mark.parametrize("last_layers", [False, True])
def test_a_backbone_of_another_width_is_refused(tmp_path, last_layers):
    prefix = str(tmp_path / "model.ckpt")
    release_checkpoint.write(small_model(), prefix)
    with pytest.raises(InputError, match=r"with MobilenetV2/Conv/weights of shape .* 32\]"):
        release_checkpoint.initialize_from_deeplab(small_model(1.0), prefix, last_layers)


def test_real_deeplab_weights_fill_the_whole_backbone(real_data: Path):
    prefix = real_data / "weights" / "deeplab_mnv2_dm1.0_pascal" / "model.ckpt"
    if not prefix.with_suffix(".ckpt.index").exists():
        pytest.skip("set FEELVOS_TEST_DATA=... to a folder that holds weights/deeplab_mnv2_dm1.0*")
    model = small_model(1.0)
    restored = release_checkpoint.initialize_from_deeplab(model, str(prefix))
    assert not [name for name in restored.missing if name.startswith("MobilenetV2")]
    root = release_checkpoint.release_names(model)["MobilenetV2/Conv/weights"].numpy()
    assert np.isfinite(root).all()
    assert 0.01 < np.abs(root).mean() < 10


def test_real_half_width_weights_fit_the_backbone(real_data):
    prefix = real_data / "weights/deeplab_mnv2_dm0.5_pascal/model.ckpt"
    if not prefix.with_name("model.ckpt.index").exists():
        pytest.skip("set FEELVOS_TEST_DATA=... to a folder that holds weights/deeplab_mnv2_dm0.5*")
    model = Feelvos(MobileNetV2(depth_multiplier=0.5))
    model.create_variables()
    restored = release_checkpoint.initialize_from_deeplab(model, str(prefix))
    backbone = [n for n in release_checkpoint.release_names(model) if n.startswith("MobilenetV2")]
    assert sorted(restored.matched) == sorted(backbone)

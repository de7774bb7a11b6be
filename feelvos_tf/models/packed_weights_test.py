from __future__ import annotations

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.models import packed_weights
from feelvos_tf.models.backbones.mobilenet_v2 import MobileNetV2
from feelvos_tf.models.feelvos import Feelvos
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing import small_model


@pytest.fixture(scope="module")
def model():
    return small_model.create(backbone=MobileNetV2)


def packed(model, path, **changes) -> dict:
    """Writes the model's file with some arrays replaced (None: left out); returns the arrays."""
    packed_weights.write(model, path)
    arrays = dict(np.load(path))
    arrays.update(changes)
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return arrays


def values(model) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in release_names(model).items()}


def test_kernels_come_back_rounded_to_float16_and_vectors_exactly(model, tmp_path):
    rounding = packed_weights.write(model, tmp_path / "weights.npz")
    other = small_model.create(seed=4, backbone=MobileNetV2)
    packed_weights.load(other, tmp_path / "weights.npz")
    exact, found = values(model), values(other)
    assert any(value.ndim == 1 for value in exact.values())
    differences = {}
    for name, value in exact.items():
        expected = value if value.ndim == 1 else value.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found[name], expected, name)
        differences[name] = np.abs(expected - value).max() / max(np.abs(value).max(), 1e-30)
    assert rounding.difference == pytest.approx(max(differences.values()))
    assert rounding.difference == pytest.approx(differences[rounding.variable])
    assert 0 < rounding.difference < 2**-11
    assert rounding.parameters == sum(value.size for value in exact.values())
    assert (tmp_path / "weights.npz").stat().st_size < 4 * rounding.parameters


def test_a_weight_that_float16_cannot_hold_is_named_and_nothing_written(tmp_path):
    model = small_model.create()
    name, variable = next((n, v) for n, v in release_names(model).items() if v.shape.rank == 4)
    variable.assign(variable + 1e6)
    with pytest.raises(InputError, match=f"expected finite weights, found .* in {name}"):
        packed_weights.write(model, tmp_path / "weights.npz")
    assert not list(tmp_path.iterdir())


def test_unusable_files_are_refused_in_one_sentence_and_change_nothing(model, tmp_path):
    path = tmp_path / "weights.npz"
    exact = values(model)
    name = next(name for name, value in exact.items() if value.ndim == 4)
    nan = exact[name].copy()
    nan.flat[0] = np.nan

    def refused(sentence: str) -> None:
        before = values(model)
        with pytest.raises(InputError, match=sentence) as caught:
            packed_weights.load(model, path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        for key, value in values(model).items():
            np.testing.assert_array_equal(value, before[key])

    refused("expected a complete weights file, found no such file")
    packed(model, path, **{name: nan})
    refused(f"expected finite weights, found .* in {name}")
    packed(model, path, **{name: None})
    refused(f"with {name} of shape .* found nothing of that name")
    packed(model, path, **{name: exact[name][..., :1]})
    refused(f"with {name} of shape .* found shape")
    packed(model, path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-10], b"no archive", b""):
        path.write_bytes(damaged)
        refused("expected a complete weights file")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(flipped)
    refused("expected a complete weights file")


def test_weights_of_another_network_are_refused(model, tmp_path):
    packed_weights.write(model, tmp_path / "weights.npz")
    other = Feelvos(MobileNetV2(depth_multiplier=0.2), atrous_rates=(), embedding_dimension=8)
    other.create_variables()
    with pytest.raises(InputError, match="the settings next to it, with .* found shape"):
        packed_weights.load(other, tmp_path / "weights.npz")

"""The cache of traced graphs gives the same masks and nothing stale or broken."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core import cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import graph_cache, model_loading
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.testing import drawn_videos, small_model

SIZE = (48, 80)


@pytest.fixture(scope="module")
def network():
    """Returns a predictor of a small random network, with a memory and a gate."""
    return Predictor(small_model.create(), max_reference_pixels=40, memory_every=2, gate_radius=3)


@pytest.fixture(scope="module")
def clip():
    """Returns six frames and their masks."""
    images, masks = zip(*(drawn_videos.draw(frame, [3, 7], SIZE) for frame in range(6)))
    return np.stack(images), np.stack(masks)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Returns the folder of a cache for one test."""
    monkeypatch.setenv(graph_cache.FOLDER, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def traced(network):
    """Returns the network's graphs, which take seconds to make."""
    return graph_cache._graphs(network)


@pytest.fixture
def cheap(network, cache, traced, monkeypatch):
    """Returns a counting `build` function for the network, with its graphs already traced."""
    monkeypatch.setattr(graph_cache, "_graphs", lambda _: traced)

    def build():
        build.calls += 1
        return network

    build.calls = 0
    return build


def never(**_):
    raise AssertionError("built although it is in the cache")


def run(model, clip):
    """Returns all results of a video with added objects and other edits."""
    images, masks = clip
    predictor = VideoPredictor(model, window=0.5)
    predictor.start(images[0], np.where(masks[0] == 3, masks[0], 0))
    results = [predictor.step(images[1])]
    predictor.add_objects(np.where(masks[1] == 7, masks[1], 0))
    results += [predictor.step(images[2]), predictor.probabilities()]
    predictor.correct(masks[2], background=True)
    results += [predictor.step(images[3])]
    predictor.restore(predictor.state())
    predictor.remove(7)
    results += [predictor.step(images[4]), predictor.step(images[5]), predictor.probabilities()]
    state = predictor.state()
    results += [state[name] for name in sorted(state)]
    return [*results, predictor.prompt(images[0], [[9, 9]], [1])]


def test_cached_graphs_give_the_networks_masks_in_first_and_later_processes(network, clip, cheap):
    first = graph_cache.load("a", cheap)
    assert isinstance(first, graph_cache.CachedPredictor)
    first = run(first, clip)
    cached = graph_cache.load("a", cheap)
    assert cheap.calls == 1
    for found, same, expected in zip(run(cached, clip), first, run(network, clip)):
        np.testing.assert_array_equal(found, same)
        if found.dtype == np.float32:  # Optimized graphs may round differently.
            np.testing.assert_allclose(found, expected, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, expected)
    specs = network.step.input_signature[1]
    found = cached.step.input_signature[1]
    assert {n: (s.dtype, s.shape.as_list()) for n, s in specs.items()} == {
        n: (s.dtype, s.shape.as_list()) for n, s in found.items()
    }
    assert cached.memory_every == 2


def test_graphs_are_already_optimized_and_bound_to_no_device(traced):
    for name in ("start", "step", "features"):
        graph = tf.compat.v1.GraphDef.FromString(traced[name].tobytes())
        kinds = [node.op for node in graph.node]
        assert kinds.count("_FusedConv2D") > 10
        assert not any(node.device for node in graph.node)


def test_videos_and_clicks_need_no_network_and_still_reject_invalid_input(cheap, clip):
    graph_cache.load("a", cheap)
    cached = graph_cache.load("a", never)
    state = cached.start(clip[0][0], clip[1][0])
    assert cached.step(clip[0][1], state)[0].shape == SIZE
    assert VideoPredictor(cached).prompt(clip[0][0], [[9, 9]], [1]).shape == SIZE
    for call, sentence in (
        (lambda: cached.start(clip[0][0], 0 * clip[1][0]), "the mask holds no object"),
        (lambda: cached.step(clip[0][0][4:], state), "expected the size of the previous frame"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
            call()


def test_another_model_version_or_code_uses_another_file(network, cache, tmp_path, monkeypatch):
    paths = {graph_cache._path("a"), graph_cache._path("b")}
    monkeypatch.setattr(graph_cache, "_PACKAGE", tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/layer.py").write_text("a = 1")
    paths.add(graph_cache._path("a"))
    (tmp_path / "models/layer_test.py").write_text("a = 1")
    paths.add(graph_cache._path("a"))
    (tmp_path / "models/layer.py").write_text("a = 2")
    paths.add(graph_cache._path("a"))
    assert len(paths) == 4
    paths.add(graph_cache._path("a"))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "another")
    paths.add(graph_cache._path("a"))
    monkeypatch.setattr(cli, "processor_flags", lambda: ["another"])
    paths.add(graph_cache._path("a"))
    monkeypatch.setattr(tf, "__version__", "0")
    paths.add(graph_cache._path("a"))
    assert len(paths) == 7
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert graph_cache._path("a") is None


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:-99]])
def test_a_damaged_file_is_written_again(cheap, cache, damage):
    graph_cache.load("a", cheap)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    path.write_bytes(damage(content))
    graph_cache.load("a", cheap)
    assert cheap.calls == 2
    graph_cache.load("a", never)


@pytest.mark.parametrize(
    "changed",
    [
        {"start": np.frombuffer(b"no graph", np.uint8)},
        {"step_outputs": np.array([("ids", "nothing:0")])},
        {"start_inputs": np.array(["another", "mask"])},
    ],
)
def test_a_file_with_invalid_graphs_is_written_again(cheap, cache, traced, changed):
    path = graph_cache._path("a")
    cache.mkdir()
    np.savez(path, **{**traced, **changed})
    graph_cache.load("a", cheap)
    assert cheap.calls == 1
    graph_cache.load("a", never)


def test_a_tensorflow_without_the_private_functions_has_no_cache(cheap, network, monkeypatch):
    def missing(_):
        raise ImportError("no such module")

    monkeypatch.setattr(graph_cache, "_graphs", missing)
    assert graph_cache.load("a", cheap) is network


def test_old_files_are_removed_and_a_missing_cache_is_no_error(
    cheap, network, cache, tmp_path, monkeypatch
):
    for number in range(8):
        graph_cache._write(graph_cache._path(str(number)), {"start": np.zeros(1)})
    assert len(list(cache.iterdir())) == 6
    monkeypatch.setenv(graph_cache.FOLDER, "")
    assert graph_cache.load("a", cheap) is network
    (tmp_path / "file").touch()
    monkeypatch.setenv(graph_cache.FOLDER, str(tmp_path / "file/below"))
    for calls in (2, 3):
        graph_cache.load("a", cheap)
        assert cheap.calls == calls
    monkeypatch.delenv(graph_cache.FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert graph_cache._path("a").parent == tmp_path / "feelvos_tf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert graph_cache._path("a").parent == tmp_path.home() / ".cache/feelvos_tf"


def test_a_cache_that_cannot_be_written_is_no_error(cheap, monkeypatch):
    def refused(path):
        raise InputError(f"{path}: cannot be written, no space is left on the disk")

    monkeypatch.setattr(graph_cache.atomic_files, "replacing", refused)
    assert isinstance(graph_cache.load("a", cheap), graph_cache.CachedPredictor)


def test_the_bundled_model_comes_from_the_cache(cache, monkeypatch):
    choice = model_loading.choose(inference_size=64)
    choice.load()
    with pytest.raises(InputError, match="Predictr"):
        model_loading.choose(gin_params=["Predictr.a = 1"]).load()
    assert len(os.listdir(cache)) == 1
    monkeypatch.setattr(model_loading, "build_bundled", never)
    assert isinstance(choice.load()._model, graph_cache.CachedPredictor)

"""Distance maps as arrays and as pictures."""

from __future__ import annotations

import collections
import types

import numpy as np
import pytest
from absl import flags

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import command_line, distance_maps
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media import masks, pictures
from feelvos_tf.models.release_checkpoint import release_names
from feelvos_tf.testing import by_color, drawn_videos, small_model

RADIUS = 15


def nearest(query, pixels, labels, value, is_allowed):
    """Returns the naive distance of every query pixel to an object, float [pixels], 0..1."""
    distances = ((query[:, None] - pixels[None]) ** 2).sum(-1)
    distances = np.where(is_allowed & (labels == value)[None], distances, np.inf).min(1)
    return 1 - 2 / (1 + np.exp(distances))


def test_maps_are_the_distances_to_the_first_and_the_previous_frame(eagerly):
    frames = [drawn_videos.draw(position, [1, 7]) for position in range(3)]
    model = small_model.create()
    # With random weights all pixels have nearly the same embedding.
    weights = release_names(model)["embedding/split_separable_conv2d_pointwise/weights"]
    weights.assign(300.0 * weights)
    predictor = VideoPredictor(Predictor(model))
    predictor.start(*frames[0])
    with pytest.raises(InputError, match="expected a call to step"):
        predictor.distance_maps()
    first = predictor.state()
    predictor.step(frames[1][0])
    previous = predictor.state()
    predictor.step(frames[2][0])
    maps = predictor.distance_maps()
    assert [sorted(maps), sorted(maps["global"])] == [["global", "local"], [0, 1, 7]]

    query = predictor.embeddings
    rows, columns = np.indices(query.shape[:2]).reshape(2, -1)
    far = np.maximum(*(abs(x[:, None] - x[None]) for x in (rows, columns))) > RADIUS
    flat = query.reshape(-1, query.shape[-1])
    assert 0.1 < np.mean([*maps["global"].values(), *maps["local"].values()]) < 0.9
    for name, state, is_allowed in (("global", first, True), ("local", previous, ~far)):
        pixels = state["previous_embeddings"].reshape(flat.shape)
        labels = state["previous_indices"].ravel()
        for index, value in enumerate((0, 1, 7)):
            expected = nearest(flat, pixels, labels, index, is_allowed)
            np.testing.assert_allclose(maps[name][value].ravel(), expected, atol=2e-3)


def test_a_saved_model_has_no_maps():
    predictor = VideoPredictor(None)
    predictor._step_states = ({}, {})
    with pytest.raises(InputError, match="found a SavedModel"):
        predictor.distance_maps()


class WithMaps(by_color.ByColor):
    """Sees the frame's left half as far away."""

    def distance_maps(self):
        far = np.zeros((12, 20), np.float32)
        far[:, :10] = 1
        return {name: {int(value): far for value in self._ids} for name in ("global", "local")}


def test_frames_that_are_not_written_keep_no_maps():
    class Numbered:
        def __init__(self):
            self.count = 0

        def distance_maps(self):
            self.count += 1
            return {"global": {1: np.full((2, 2), self.count / 10)}}

    waiting = collections.deque()
    video, predictor = types.SimpleNamespace(is_asked={0, 2, 4}.__contains__), Numbered()
    for position in range(5):
        distance_maps.keep(waiting, video, position, predictor)
        predictor.count = position
    kept = [each["global"][1][0, 0] for each in waiting]
    assert kept == [0.2, 0.4]


def test_every_frame_but_the_first_gets_a_strip_and_a_picture_per_map(tmp_path, capsys):
    root = drawn_videos.write_davis(tmp_path / "davis", {"bear": [1, 5], "cows": [2]}, 3)
    flag_values = flags.FlagValues()
    program = command_line.CommandLine(flag_values)
    flag_values(["predict", f"--dataset_root={root}", f"--output_dir={tmp_path / 'out'}"])
    for _ in range(2):  # Complete masks are redone.
        program.run(WithMaps, {}, distance_maps_dir=str(tmp_path / "maps"))
        assert f"distance maps: {tmp_path / 'maps'}" in capsys.readouterr().out
        names = sorted(path.name for path in (tmp_path / "maps/bear").iterdir())
        assert names == sorted(
            name
            for frame in ("00001", "00002")
            for name in [f"{frame}.jpg"]
            + [f"{frame}_{kind}_{value}.png" for kind in ("global", "local") for value in (1, 5)]
        )
        assert len(list((tmp_path / "maps/cows").iterdir())) == 6
        gray = masks.read_annotation(tmp_path / "maps/bear/00001_local_5.png")
        assert gray.shape == (12, 20) and gray[0].tolist() == [255] * 10 + [0] * 10
        for path in (tmp_path / "maps/bear").iterdir():
            strip = pictures.read_image(path)
            if path.suffix == ".jpg":  # Six tiles in a row, a row per object.
                assert strip.shape[1] > 6 * 320 and strip.shape[0] > 2 * 192
                fourth = strip[100, 3 * 326 : 3 * 326 + 320].mean(-1)
                assert fourth[10] > 200 and fourth[310] < 50
            path.unlink()

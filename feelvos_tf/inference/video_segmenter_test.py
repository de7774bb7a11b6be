"""The SavedModel at work: sizes, ids, and what is no model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import video_segmenter
from feelvos_tf.testing import color_model, drawn_videos


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return color_model.save(tmp_path_factory.mktemp("models") / "model")


def test_ids_with_gaps_come_back_at_full_size(saved_model):
    image, mask = drawn_videos.draw(0, [7, 3])
    mask[0, :5] = 255
    track = video_segmenter.SavedModelVideoSegmenter(saved_model).start(image, mask)
    for frame in (1, 2):
        image, expected = drawn_videos.draw(frame, [7, 3])
        np.testing.assert_array_equal(track.step(image), expected)


@pytest.mark.parametrize("inference_size", [24, 100])
def test_at_another_inference_size_only_outlines_change(saved_model, inference_size):
    image, mask = drawn_videos.draw(0, [7, 3])
    track = video_segmenter.SavedModelVideoSegmenter(saved_model, inference_size).start(image, mask)
    image, expected = drawn_videos.draw(3, [7, 3])
    ids = track.step(image)
    assert ids.shape == expected.shape and ids.dtype == np.uint8
    assert set(np.unique(ids)) == {0, 3, 7}
    for value in (3, 7):
        both = ((ids == value) & (expected == value)).sum()
        either = ((ids == value) | (expected == value)).sum()
        assert both / either > 0.85


def test_two_tracks_of_one_model_do_not_disturb_each_other(saved_model):
    model = video_segmenter.SavedModelVideoSegmenter(saved_model)
    image, mask = drawn_videos.draw(0, [1, 2])
    first = model.start(image, mask)
    model.start(255 - image, 3 * mask)
    np.testing.assert_array_equal(first.step(image), mask)


def test_model_runs_at_the_inference_size_of_the_short_side():
    seen = []

    class Recorder:
        def start(self, image, mask):
            seen.append((image.shape, mask.shape))
            return {"object_ids": np.array([0, 1])}

        def step(self, image, state):
            seen.append(image.shape)
            return None, tf.zeros([*image.shape[:2], 2]), state

    model = video_segmenter.SavedModelVideoSegmenter.__new__(
        video_segmenter.SavedModelVideoSegmenter
    )
    model._model, model._inference_size = Recorder(), 240
    image = np.zeros((854, 480, 3), np.uint8)
    assert model.start(image, np.zeros((854, 480), np.uint8)).step(image).shape == (854, 480)
    assert seen == [((427, 240, 3), (427, 240)), (427, 240, 3)]


def test_reduced_mask_loses_no_object_and_invents_no_void():
    mask = np.zeros((480, 854), np.uint8)
    mask[100:300, 200:600] = 4
    mask[33, 57] = 9
    mask[7, 8] = 255
    reduced = video_segmenter.downsample_mask(mask, (60, 107))
    assert reduced.shape == (60, 107)
    assert set(np.unique(reduced)) == {0, 4, 9}
    assert reduced[33 * 60 // 480, 57 * 107 // 854] == 9
    assert video_segmenter.downsample_mask(mask, mask.shape) is mask


def test_enlarged_argmax_is_the_argmax_of_bilinear_probabilities():
    probabilities = np.random.default_rng(0).random((7, 9, 4), np.float32)
    enlarged = tf.image.resize(probabilities, (21, 40), method="bilinear").numpy()
    result = video_segmenter.enlarged_argmax(probabilities, (21, 40))
    best_two = np.sort(enlarged, axis=-1)[..., -2:]
    clear = best_two[..., 1] - best_two[..., 0] > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(result[clear], enlarged.argmax(-1)[clear])


def test_fingerprint_changes_with_weights_but_not_with_the_place(saved_model, tmp_path):
    other = color_model.save(tmp_path / "other", sharpness=0.02)
    assert video_segmenter.fingerprint(saved_model) != video_segmenter.fingerprint(other)
    moved = tmp_path / "moved"
    before = video_segmenter.fingerprint(other)
    other.rename(moved)
    assert video_segmenter.fingerprint(moved) == before


def test_what_is_no_model_is_told_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="missing: expected the folder of a SavedModel, found no"):
        video_segmenter.SavedModelVideoSegmenter(tmp_path / "missing")
    with pytest.raises(InputError, match="found a folder without saved_model.pb"):
        video_segmenter.SavedModelVideoSegmenter(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded as a SavedModel"):
        video_segmenter.SavedModelVideoSegmenter(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"))
    with pytest.raises(InputError, match="foreign: .*without its functions start and step"):
        video_segmenter.SavedModelVideoSegmenter(tmp_path / "foreign")

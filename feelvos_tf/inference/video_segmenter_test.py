"""A SavedModel at work: sizes, ids, objects that come later."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import model_choice
from feelvos_tf.inference.numpy_predictor import NumpyPredictor
from feelvos_tf.inference.video_segmenter import ModelVideoSegmenter
from feelvos_tf.testing import color_model, drawn_videos


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return color_model.save(tmp_path_factory.mktemp("models") / "model")


def segmenter_of(saved_model, inference_size=None) -> ModelVideoSegmenter:
    return ModelVideoSegmenter(model_choice.choose(saved_model, inference_size).load())


def test_ids_with_gaps_come_back_at_full_size(saved_model):
    image, mask = drawn_videos.draw(0, [7, 3])
    mask[0, :5] = 255
    state = segmenter_of(saved_model).start(image, mask)
    for frame in (1, 2):
        image, expected = drawn_videos.draw(frame, [7, 3])
        np.testing.assert_array_equal(state.step(image), expected)


@pytest.mark.parametrize("inference_size", [24, 100])
def test_at_another_inference_size_only_outlines_change(saved_model, inference_size):
    image, mask = drawn_videos.draw(0, [7, 3])
    state = segmenter_of(saved_model, inference_size).start(image, mask)
    image, expected = drawn_videos.draw(3, [7, 3])
    ids = state.step(image)
    assert ids.shape == expected.shape and ids.dtype == np.uint8
    assert set(np.unique(ids)) == {0, 3, 7}
    for value in (3, 7):
        both = ((ids == value) & (expected == value)).sum()
        either = ((ids == value) | (expected == value)).sum()
        assert both / either > 0.85


def test_two_videos_of_one_model_do_not_disturb_each_other(saved_model):
    model = segmenter_of(saved_model)
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

    model = ModelVideoSegmenter(NumpyPredictor(Recorder(), 240))
    image = np.zeros((854, 480, 3), np.uint8)
    assert model.start(image, np.ones((854, 480), np.uint8)).step(image).shape == (854, 480)
    assert seen == [((427, 240, 3), (427, 240)), (427, 240, 3)]


def test_objects_that_appear_later_join_at_full_size(saved_model):
    for inference_size in (None, 24):
        segmenter = segmenter_of(saved_model, inference_size)
        state = segmenter.start(*drawn_videos.draw(0, [7]))
        image, mask = drawn_videos.draw(1, [7, 3])
        state.step(image)
        state.add_objects(np.where(mask == 3, mask, 0))
        np.testing.assert_array_equal(state.object_ids, [0, 3, 7])
        image, expected = drawn_videos.draw(2, [7, 3])
        assert (state.step(image) == expected).mean() > 0.97


def test_masks_that_do_not_fit_are_told_in_one_sentence(saved_model):
    image, mask = drawn_videos.draw(0, [7])
    segmenter = segmenter_of(saved_model)
    state = segmenter.start(image, mask)
    for bad, sentence in (
        (np.zeros_like(mask), "at least one object, found none"),
        (np.full_like(mask, 255), "at least one object, found none"),
        (mask[1:], "of the frames' size"),
    ):
        with pytest.raises(InputError, match=sentence):
            segmenter.start(image, bad)
        with pytest.raises(InputError, match=sentence):
            state.add_objects(bad)


def test_a_model_exported_before_objects_could_be_added_says_so():
    class Old:
        def start(self, image, mask):
            return {"object_ids": np.array([0, 1])}

    image, mask = drawn_videos.draw(0, [1])
    state = ModelVideoSegmenter(NumpyPredictor(Old())).start(image, mask)
    with pytest.raises(InputError, match="has no function add_objects; write it again"):
        state.add_objects(mask)

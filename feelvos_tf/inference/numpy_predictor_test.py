from __future__ import annotations

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.numpy_predictor import NumpyPredictor
from feelvos_tf.inference.video_segmenter import ModelVideoSegmenter
from feelvos_tf.testing import color_model, drawn_videos

SIZE = (48, 80)


@pytest.fixture(scope="module")
def clip():
    """Returns six frames and their masks."""
    images, masks = zip(*(drawn_videos.draw(frame, [3, 7], SIZE) for frame in range(6)))
    return np.stack(images), np.stack(masks)


@pytest.mark.parametrize("size", [None, 24, 96])
def test_arrays_come_back_at_the_frames_size_at_any_inference_size(clip, size):
    images, masks = clip
    predictor = NumpyPredictor(color_model.ColorModel(), size)
    state = predictor.start(images[0], masks[0])
    for image, expected in zip(images[1:], masks[1:]):
        ids, probabilities, state = predictor.step(image, state)
        assert type(ids) is type(probabilities) is np.ndarray
        assert (ids.dtype, ids.shape) == (np.uint8, SIZE)
        assert (probabilities.dtype, probabilities.shape) == (np.float32, (*SIZE, 3))
        assert np.mean(ids != expected) < (0.05 if size == 24 else 0.01)
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(
            ids, np.asarray(state["object_ids"])[probabilities.argmax(-1)]
        )
    np.testing.assert_array_equal(predictor.segment_clip(images, masks[0])[-1], ids)


@pytest.mark.parametrize("size", [None, 24])
def test_it_gives_the_masks_of_the_programs(clip, size):
    images, masks = clip
    model = color_model.ColorModel()
    state = ModelVideoSegmenter(model, size).start(images[0], masks[0])
    clip_masks = NumpyPredictor(model, size).segment_clip(images, masks[0])
    np.testing.assert_array_equal(clip_masks[0], masks[0])
    np.testing.assert_array_equal(clip_masks[1:], [state.step(image) for image in images[1:]])


def test_objects_can_be_added_to_the_last_frame(clip):
    images, masks = clip
    predictor = NumpyPredictor(color_model.ColorModel(), 40)
    state = predictor.start(images[0], np.where(masks[0] == 7, 0, masks[0]))
    state = predictor.add_objects(np.where(masks[0] == 7, masks[0], 0), state)
    ids, _, state = predictor.step(images[1], state)
    assert np.asarray(state["object_ids"]).tolist() == [0, 3, 7]
    assert np.mean(ids != masks[1]) < 0.05


def test_arrays_of_other_types_and_shapes_are_refused_in_one_sentence(clip):
    (image, *_), (mask, *_) = clip
    predictor = NumpyPredictor(color_model.ColorModel(), 24)
    state = predictor.start(image, mask)
    for call, sentence in (
        (lambda: predictor.start(image / 255, mask), "uint8 .* found float64"),
        (lambda: predictor.start(image[..., 0], mask), r"found uint8 \[48, 80\]"),
        (lambda: predictor.start(image, mask.astype(int)), "a mask, uint8 .* found int64"),
        (lambda: predictor.start(image, mask[1:]), r"frames' size \[48, 80\], found \[47, 80\]"),
        (lambda: predictor.start(image, 0 * mask), "at least one object"),
        (lambda: predictor.step(image[1:], state), r"size \[48, 80\], found \[47, 80\]"),
        (lambda: predictor.add_objects(mask[1:], state), r"found \[47, 80\]"),
        (lambda: predictor.segment_clip(image[:0, None], mask), "at least one image"),
        (lambda: NumpyPredictor(None, 0), "inference_size: expected at least 1, found 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()

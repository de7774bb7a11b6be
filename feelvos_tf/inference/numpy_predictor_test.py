"""The predictor for NumPy arrays: sizes, ids, states, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.numpy_predictor import NumpyPredictor
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_segmenter import ModelVideoSegmenter
from feelvos_tf.testing import color_model, drawn_videos, small_model

SIZE = (48, 80)


@pytest.fixture(scope="module")
def clip():
    """Returns six frames and their masks."""
    images, masks = zip(*(drawn_videos.draw(frame, [3, 7], SIZE) for frame in range(6)))
    return np.stack(images), np.stack(masks)


@pytest.fixture(scope="module")
def network():
    """Returns the predictor of a small random network that keeps few reference pixels."""
    return Predictor(small_model.create(), max_reference_pixels=40)


def only(mask: np.ndarray, *ids: int) -> np.ndarray:
    """Returns the mask with the given ids alone."""
    return np.where(np.isin(mask, ids), mask, 0)


@pytest.mark.parametrize("size", [None, 24, 96])
def test_arrays_come_back_at_the_frames_size_at_any_inference_size(clip, size):
    images, masks = clip
    predictor = NumpyPredictor(color_model.ColorModel(), size)
    predictor.start(images[0], masks[0])
    for image, expected in zip(images[1:], masks[1:]):
        ids = predictor.step(image)
        assert type(ids) is np.ndarray and (ids.dtype, ids.shape) == (np.uint8, SIZE)
        assert np.mean(ids != expected) < (0.05 if size == 24 else 0.01)
        planes = np.stack([predictor.probability(i) for i in predictor.object_ids])
        assert (planes.dtype, planes.shape) == (np.float32, (3, *SIZE))
        np.testing.assert_allclose(planes.sum(0), 1, atol=1e-5)
        np.testing.assert_array_equal(ids, np.array([0, 3, 7])[planes.argmax(0)])
    np.testing.assert_array_equal(predictor.segment_clip(images, masks[0])[-1], ids)


def test_it_gives_the_masks_of_the_programs(clip):
    images, masks = clip
    model = color_model.ColorModel()
    state = ModelVideoSegmenter(NumpyPredictor(model, 24)).start(images[0], masks[0])
    clip_masks = NumpyPredictor(model, 24).segment_clip(images, masks[0])
    np.testing.assert_array_equal(clip_masks[0], masks[0])
    np.testing.assert_array_equal(clip_masks[1:], [state.step(image) for image in images[1:]])


def test_a_mask_in_the_middle_of_a_clip_goes_both_ways(clip, network):
    images, masks = clip
    predictor = NumpyPredictor(network)
    found = predictor.segment_clip(images, masks[2], position=2)
    np.testing.assert_array_equal(found[2:], predictor.segment_clip(images[2:], masks[2]))
    np.testing.assert_array_equal(found[2::-1], predictor.segment_clip(images[2::-1], masks[2]))


def test_ids_1_and_254_with_gaps_join_leave_and_come_back_as_given(clip):
    images, masks = clip
    mask = np.select([masks[0] == 3, masks[0] == 7], [254, 1], 0).astype(np.uint8)
    predictor = NumpyPredictor(color_model.ColorModel(), 40)
    predictor.start(images[0], only(mask, 254))
    assert predictor.object_ids == [0, 254]
    predictor.add_objects(only(mask, 1))
    assert predictor.object_ids == [0, 1, 254]
    ids = predictor.step(images[1])
    assert np.mean((ids == 254) != (masks[1] == 3)) < 0.05
    assert np.mean((ids == 1) != (masks[1] == 7)) < 0.05


def test_a_restored_state_goes_on_bit_by_bit(clip, network, tmp_path):
    """Also with random reference pixels, through a file, and in another predictor."""
    images, masks = clip
    predictor = NumpyPredictor(network, 40, identity="a")

    def go_on(predictor: NumpyPredictor) -> list[np.ndarray]:
        results = [predictor.step(images[2])]
        predictor.correct(only(masks[2], 3), background=True)
        predictor.add_objects(9 * (masks[2] == 7).astype(np.uint8))
        results += [predictor.step(images[3]), predictor.probability(9)]
        predictor.remove(9)
        return [*results, predictor.step(images[4]), predictor.probability(3)]

    predictor.start(images[0], only(masks[0], 3))
    predictor.step(images[1])
    kept = predictor.state()
    np.savez(tmp_path / "state.npz", **kept)
    expected = go_on(predictor)
    predictor.restore(kept)
    from_file = NumpyPredictor(network, 40, identity="a")
    from_file.restore(np.load(tmp_path / "state.npz"))
    for found in (go_on(predictor), go_on(from_file)):
        for each, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(each, other)


def test_a_state_is_a_copy(clip, network):
    images, masks = clip
    predictor = NumpyPredictor(network)
    predictor.start(images[0], masks[0])
    state = predictor.state()
    expected = predictor.step(images[1])
    predictor.restore(state)
    for array in state.values():
        array[...] = "" if array.dtype.kind == "U" else 0
    np.testing.assert_array_equal(predictor.step(images[1]), expected)


def test_two_predictors_of_one_model_never_touch(clip, network):
    images, masks = clip
    alone = NumpyPredictor(network)
    expected = alone.segment_clip(images, masks[0])
    first = NumpyPredictor(network)
    second = first.another()
    first.start(images[0], masks[0])
    second.start(255 - images[0], 5 * (masks[0] > 0).astype(np.uint8))
    for image, ids in zip(images[1:], expected[1:]):
        np.testing.assert_array_equal(first.step(image), ids)
        second.step(255 - image)
        second.correct(5 * (masks[0] > 0).astype(np.uint8))
    assert (first.object_ids, second.object_ids) == ([0, 3, 7], [0, 5])


def array_bytes(predictor: NumpyPredictor) -> dict[str, int]:
    return {name: array.nbytes for name, array in predictor.state().items()}


def test_the_state_grows_with_objects_and_references_alone(clip, network):
    """By the maps of an object and at most so many pixels of a reference, to a bound."""
    images, masks = clip
    predictor = NumpyPredictor(network, max_total_reference_pixels=100)
    predictor.start(images[0], only(masks[0], 3))
    before = array_bytes(predictor)
    for frame in range(40):
        predictor.step(images[frame % 5 + 1])
    assert array_bytes(predictor) == before
    predictor.add_objects(only(masks[5], 7))
    grown = array_bytes(predictor)
    pixel, plane = 8 * 4, 12 * 20 * 4
    assert grown["previous_masks"] - before["previous_masks"] == plane
    added = grown["reference_embeddings"] - before["reference_embeddings"]
    assert 0 < added <= 40 * pixel
    for _ in range(12):
        predictor.correct(masks[5], background=True)
    offsets = predictor.state()["reference_offsets"]
    assert np.diff(offsets).tolist() == [100, 100, 100]
    assert array_bytes(predictor)["previous_masks"] == grown["previous_masks"]


def test_nothing_is_traced_again_however_a_video_goes(clip):
    model = Predictor(small_model.create(), max_total_reference_pixels=70)
    images, masks = clip
    for scale, bound in ((1, None), (2, 50)):
        predictor = NumpyPredictor(model, scale * 24, bound)
        predictor.start(images[0], only(masks[0], 3))
        predictor.add_objects(only(masks[0], 7))
        for frame in (1, 2):
            predictor.step(images[frame])
            predictor.correct(masks[frame], background=frame == 2)
        predictor.remove(3)
        predictor.restore(predictor.state())
        predictor.step(images[3])
    for name in ("start", "step", "add_objects", "correct", "remove"):
        assert getattr(model, name).experimental_get_tracing_count() == 1, name


def test_arrays_of_other_types_and_shapes_are_refused_in_one_sentence(clip):
    (image, *_), (mask, *_) = clip
    predictor = NumpyPredictor(color_model.ColorModel(), 24)
    predictor.start(image, mask)
    for call, sentence in (
        (lambda: predictor.start(image / 255, mask), "uint8 .* found float64"),
        (lambda: predictor.start(image[..., 0], mask), r"found uint8 \[48, 80\]"),
        (lambda: predictor.start(image[:0], mask[:0]), r"found uint8 \[0, 80, 3\]"),
        (lambda: predictor.start(image, mask.astype(int)), "a mask, uint8 .* found int64"),
        (lambda: predictor.start(image, mask[1:]), r"frames' size \[48, 80\], found \[47, 80\]"),
        (lambda: predictor.start(image, 0 * mask), "at least one object"),
        (lambda: predictor.step(image[1:]), r"size \[48, 80\], found \[47, 80\]"),
        (lambda: predictor.step((image / 255).astype("f")), "uint8 .* found float32"),
        (lambda: predictor.add_objects(mask[1:]), r"found \[47, 80\]"),
        (lambda: predictor.segment_clip(image[:0, None], mask), "found 0 images"),
        (lambda: predictor.segment_clip([image], mask, 1), "position 1 .* found 1 images"),
        (lambda: NumpyPredictor(None, 0), "inference_size: expected at least 1, found 0"),
        (lambda: NumpyPredictor(None, None, -1), "max_total_reference_pixels: .* found -1"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()


def test_ids_that_do_not_fit_are_refused_in_one_sentence(clip, network):
    images, masks = clip
    predictor = NumpyPredictor(network)
    for call in (
        lambda: predictor.step(images[0]),
        lambda: predictor.correct(masks[0]),
        predictor.state,
        lambda: predictor.object_ids,
    ):
        with pytest.raises(InputError, match=r"a call of start\(image, mask\) first"):
            call()
    with pytest.raises(InputError, match=r"a call of step\(image\) before probability"):
        predictor.probability(3)
    predictor.start(images[0], masks[0])
    predictor.step(images[1])
    other = np.where(masks[1] == 7, np.uint8(9), masks[1])
    for call, sentence in (
        (lambda: predictor.add_objects(other), r"new ids, found 3, followed already: correct"),
        (lambda: predictor.add_objects(0 * other), "at least one object, found none"),
        (lambda: predictor.correct(other), r"0, 3, 7, found 9 \(add_objects\(mask\) takes new"),
        (lambda: predictor.correct(0 * other), "at least one object, found none"),
        (lambda: predictor.correct(0 * other + 255, background=True), "at least one object"),
        (lambda: predictor.correct(other[1:]), r"found \[47, 80\]"),
        (lambda: predictor.remove(9), "ids that are followed, 3, 7, found 9"),
        (lambda: predictor.remove(0), "ids that are followed, 3, 7, found 0"),
        (lambda: predictor.probability(9), "ids that are followed, 0, 3, 7, found 9"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            call()
        assert "\n" not in str(caught.value)
    predictor.remove(3)
    predictor.remove(7)
    assert predictor.object_ids == [0] and not predictor.step(images[2]).any()
    predictor.add_objects(masks[2])
    assert predictor.object_ids == [0, 3, 7]


def test_a_state_of_another_model_or_size_is_refused_in_one_sentence(clip, network):
    images, masks = clip
    predictor = NumpyPredictor(network, 24, identity="a")
    predictor.start(images[0], masks[0])
    state = predictor.state()
    other_frames = NumpyPredictor(network, 24, identity="a")
    other_frames.start(images[0][:40], masks[0][:40])
    offsets, indices = state["reference_offsets"], state["previous_indices"]
    wide = {**state, "previous_embeddings": state["previous_embeddings"][..., :5]}
    for receiver, given, sentence in (
        (NumpyPredictor(network, 24, identity="b"), state, r"this model \(b\).*another \(a\)"),
        (NumpyPredictor(network, 40, identity="a"), state, "inference size 40, found one at 24"),
        (NumpyPredictor(network, identity="a"), state, "size of the frames, found one at 24"),
        (other_frames, state, r"frames of the size \[40, 80\] .* found \[48, 80\]"),
        (predictor, {}, "expected what state"),
        (predictor, {**state, "more": state["model"]}, "found one with .*more"),
        (predictor, wide, r"previous_embeddings of float32 \(None, None, 8\), found float32"),
        (predictor, {**state, "object_ids": np.array([0.0])}, "object_ids of int32"),
        (predictor, {**state, "inference_size": np.array("24")}, "another inference_size: <U2"),
        (predictor, {**state, "object_ids": state["object_ids"][::-1]}, "another object_ids"),
        (predictor, {**state, "reference_offsets": 2 * offsets}, "another reference_offsets"),
        (predictor, {**state, "previous_indices": 9 + indices}, "another previous_indices"),
        (predictor, {**state, "previous_masks": state["previous_masks"][1:]}, "previous_masks"),
        (predictor, {**state, "previous_masks": state["previous_masks"] * np.nan}, "finite"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            receiver.restore(given)
        assert "\n" not in str(caught.value)
    predictor.restore(state)


def test_a_saved_model_restores_its_states_as_well(clip, tmp_path):
    images, masks = clip
    model = tf.saved_model.load(str(color_model.save(tmp_path / "model")))
    predictor = NumpyPredictor(model)
    predictor.start(images[0], masks[0])
    state = predictor.state()
    expected = predictor.step(images[1])
    predictor.restore(state)
    np.testing.assert_array_equal(predictor.step(images[1]), expected)
    with pytest.raises(InputError, match="too old: it has no function remove; write it again"):
        predictor.remove(3)

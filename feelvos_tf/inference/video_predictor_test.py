"""The predictor for NumPy arrays: sizes, ids, states, and invalid input."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import model_loading
from feelvos_tf.inference import window as windows
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.inference.window import Window, downsample_mask
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
    """Returns the mask with only the given ids."""
    return np.where(np.isin(mask, ids), mask, 0)


@pytest.mark.parametrize("size", [None, 24, 96])
def test_results_have_the_frame_size_at_any_inference_size(clip, size):
    images, masks = clip
    predictor = VideoPredictor(color_model.ColorModel(), size)
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


def test_step_propagate_and_segment_clip_give_the_same_masks(clip):
    images, masks = clip
    model = color_model.ColorModel()
    predictor = VideoPredictor(model, 24)
    predictor.start(images[0], masks[0])
    stepped = [masks[0], *(predictor.step(image) for image in images[1:])]
    calls = [
        predictor.segment_clip(images, masks[0]),
        predictor.segment_clip(iter(images), masks[0]),
        list(predictor.propagate(iter(images), masks[0])),
        [predictor.another().step(images[0], masks[0]), *stepped[1:]],
    ]
    for found in calls:
        np.testing.assert_array_equal(found, stepped)


def test_frames_and_masks_of_any_type_give_the_same_results(clip, tmp_path):
    images, masks = clip
    predictor = VideoPredictor(color_model.ColorModel(), 24)
    expected = predictor.segment_clip(images, masks[0])
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    Image.fromarray(masks[0]).save(tmp_path / "ids.png")
    (tmp_path / "ids.png").rename(tmp_path.parent / "ids.png")
    pil, per_object = list(map(Image.fromarray, images)), {i: masks[0] == i for i in (3, 7)}
    for frames, mask in (
        (tmp_path, per_object),
        (str(tmp_path), tmp_path.parent / "ids.png"),
        (images.tolist(), masks[0].tolist()),
        ((image / 255 for image in images), masks[0].astype(int)),
        (pil, Image.fromarray(masks[0])),
        (map(tf.constant, images), tf.constant(masks[0])),
    ):
        found = predictor.segment_clip(frames, mask)
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(list(predictor.propagate(tmp_path, per_object)), expected)
    other = predictor.another()
    np.testing.assert_array_equal(other.step(pil[0], {7: masks[0] == 7}), only(masks[0], 7))
    other.add_objects({3: masks[0] == 3})
    other.correct({3: masks[0] == 3})
    assert np.mean(other.step(pil[1]) != expected[1]) < 0.01


@pytest.mark.parametrize("window", [0.0, 0.5])
def test_probabilities_are_those_of_the_given_mask_and_later_of_the_network(clip, network, window):
    images, masks = clip
    predictor = VideoPredictor(network, 24, window=window)
    with pytest.raises(InputError, match="expected a call to start or step"):
        predictor.probabilities()
    given = masks[0].copy()
    given[:5] = 255
    predictor.start(images[0], given)
    planes = predictor.probabilities()
    assert (planes.dtype, planes.shape) == (np.float32, (3, *SIZE))
    np.testing.assert_allclose(planes[:, :5], 1 / 3, rtol=1e-6)
    np.testing.assert_array_equal(np.array([0, 3, 7])[planes.argmax(0)][5:], masks[0][5:])
    np.testing.assert_array_equal(planes[1], predictor.probability(3))
    predictor.step(images[1])
    planes = predictor.probabilities()
    np.testing.assert_allclose(planes.sum(0), 1, atol=1e-5)
    for plane, object_id in zip(planes, (0, 3, 7)):
        np.testing.assert_array_equal(plane, predictor.probability(object_id))
    predictor.remove(7)  # Probabilities are those before an edit.
    np.testing.assert_array_equal(predictor.probabilities(), planes)


def test_repr_shows_the_model_its_settings_and_the_current_frame(clip, network):
    images, masks = clip
    predictor = VideoPredictor(network, 24, identity="abc")
    assert repr(predictor) == "VideoPredictor(model='abc', inference_size=24, window=0)"
    predictor.start(images[0], masks[0])
    predictor.step(images[1])
    assert repr(predictor).endswith("window=0, object_ids=[0, 3, 7], frame=1)")
    predictor.restore(predictor.state())
    # A network without a memory does not count frames.
    assert repr(predictor).endswith("window=0, object_ids=[0, 3, 7])")


def test_a_mask_without_background_is_propagated_and_its_state_restored(clip, network):
    images, _ = clip
    for mask in (
        np.full(SIZE, 1, np.uint8),
        np.repeat(np.uint8([[3], [7]]), 24, 0) * np.ones(80, "u1"),
    ):
        predictor = VideoPredictor(network)
        found = predictor.segment_clip(images, mask, position=2)
        assert set(np.unique(found)) <= set(np.unique(mask))
        np.testing.assert_array_equal(found[2], mask)


def test_a_mask_of_a_later_frame_adds_new_objects_and_corrects_known_ones(clip):
    images, masks = clip
    predictor = VideoPredictor(color_model.ColorModel())
    predictor.step(images[0], only(masks[0], 7))
    ids = predictor.step(images[1], only(masks[1], 3))
    assert predictor.object_ids == [0, 3, 7]
    np.testing.assert_array_equal(ids == 3, masks[1] == 3)
    assert np.mean((ids == 7) == (masks[1] == 7)) > 0.98
    corrected = np.roll(only(masks[2], 7), 5, 0)
    np.testing.assert_array_equal(predictor.step(images[2], corrected) == 7, corrected == 7)
    with pytest.raises(InputError, match="expected a call to start"):
        predictor.another().step(images[0])
    with pytest.raises(InputError, match="at least one object"):
        predictor.step(images[3], 0 * corrected)


def test_a_mask_in_the_middle_of_a_clip_is_propagated_in_both_directions(clip, network):
    images, masks = clip
    predictor = VideoPredictor(network)
    found = predictor.segment_clip(images, masks[2], position=2)
    np.testing.assert_array_equal(found[2:], predictor.segment_clip(images[2:], masks[2]))
    np.testing.assert_array_equal(found[2::-1], predictor.segment_clip(images[2::-1], masks[2]))


@pytest.mark.parametrize("position", [0, 2])
def test_a_clip_is_segmented_by_a_predictor_that_takes_no_saved_states(clip, network, position):
    class Unrestorable(VideoPredictor):
        def restore(self, state):
            raise InputError("the weights of another run are gone")

    images, masks = clip
    found = Unrestorable(network).segment_clip(images, masks[position], position)
    expected = VideoPredictor(network).segment_clip(images, masks[position], position)
    np.testing.assert_array_equal(found, expected)


def test_the_ids_1_and_254_are_kept(clip):
    images, masks = clip
    mask = np.select([masks[0] == 3, masks[0] == 7], [254, 1], 0).astype(np.uint8)
    predictor = VideoPredictor(color_model.ColorModel(), 40)
    predictor.start(images[0], only(mask, 254))
    assert predictor.object_ids == [0, 254]
    predictor.add_objects(only(mask, 1))
    assert predictor.object_ids == [0, 1, 254]
    ids = predictor.step(images[1])
    assert np.mean((ids == 254) != (masks[1] == 3)) < 0.05
    assert np.mean((ids == 1) != (masks[1] == 7)) < 0.05


@pytest.mark.parametrize("window", [0.0, 0.3])
def test_a_restored_state_gives_bit_identical_results(clip, network, tmp_path, monkeypatch, window):
    """Also with random reference pixels, from a file, and in another predictor."""
    images, masks = clip
    monkeypatch.setattr(windows, "_MARGIN", 2)  # These frames are smaller than the usual margin.
    predictor = VideoPredictor(network, 40, identity="a", window=window)

    def go_on(predictor: VideoPredictor) -> list[np.ndarray]:
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
    from_file = VideoPredictor(network, 40, identity="a", window=window)
    from_file.restore(np.load(tmp_path / "state.npz"))
    for found in (go_on(predictor), go_on(from_file)):
        assert len(found) == len(expected)
        for each, other in zip(found, expected):
            np.testing.assert_array_equal(each, other)


def test_a_state_is_a_copy(clip, network):
    images, masks = clip
    predictor = VideoPredictor(network)
    predictor.start(images[0], masks[0])
    state = predictor.state()
    expected = predictor.step(images[1])
    predictor.restore(state)
    for array in state.values():
        array[...] = "" if array.dtype.kind == "U" else 0
    np.testing.assert_array_equal(predictor.step(images[1]), expected)


def test_predictors_that_share_a_model_are_independent(clip, network):
    images, masks = clip
    alone = VideoPredictor(network)
    expected = alone.segment_clip(images, masks[0])
    first = VideoPredictor(network)
    second = first.another()
    first.start(images[0], masks[0])
    second.start(255 - images[0], 5 * (masks[0] > 0).astype(np.uint8))
    for image, ids in zip(images[1:], expected[1:]):
        np.testing.assert_array_equal(first.step(image), ids)
        second.step(255 - image)
        second.correct(5 * (masks[0] > 0).astype(np.uint8))
    assert (first.object_ids, second.object_ids) == ([0, 3, 7], [0, 5])


def array_bytes(predictor: VideoPredictor) -> dict[str, int]:
    return {name: array.nbytes for name, array in predictor.state().items()}


def test_the_state_grows_only_with_objects_and_references(clip, network):
    """By an object's maps and a limited number of pixels per reference, up to a bound."""
    images, masks = clip
    predictor = VideoPredictor(network, max_total_reference_pixels=100)
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


def test_no_function_is_traced_twice(clip):
    settings = {"scales": (1.0, 0.75), "max_total_reference_pixels": 70}
    model = Predictor(small_model.create(), **settings)
    for size, width, bound in ((24, 80, None), (None, 64, 50)):
        images, masks = (array[:, :, :width] for array in clip)
        predictor = VideoPredictor(model, size, bound)
        predictor.start(images[0], only(masks[0], 3))
        predictor.step(images[0])
        predictor.add_objects(only(masks[0], 7))
        for frame in (1, 2):
            predictor.step(images[frame])
            predictor.correct(masks[frame], background=frame == 2)
        predictor.remove(3)
        predictor.restore(predictor.state())
        predictor.step(images[3])
    for name in ("start", "step", "add_objects", "correct", "remove"):
        assert getattr(model, name).experimental_get_tracing_count() == 1, name


def test_invalid_arrays_and_arguments_are_rejected_with_one_sentence(clip):
    (image, *_), (mask, *_) = clip
    predictor = VideoPredictor(color_model.ColorModel(), 24)
    predictor.start(image, mask)
    for call, sentence in (
        (lambda: predictor.start(image / 100, mask), "uint8 .* found float64"),
        (lambda: predictor.start(image[..., 0, 0], mask), r"found uint8 \[48\]"),
        (lambda: predictor.start(image[:0], mask[:0]), r"found uint8 \[0, 80, 3\]"),
        (lambda: predictor.start(image, mask / 2), "a mask, uint8 .* found fractions"),
        (lambda: predictor.start(image, mask[1:]), r"frames' size \[48, 80\], found \[47, 80\]"),
        (lambda: predictor.start(image, 0 * mask), "at least one object"),
        (lambda: predictor.step(image[1:]), r"size \[48, 80\], found \[47, 80\]"),
        (lambda: predictor.step((image / 100).astype("f")), "uint8 .* found float32"),
        (lambda: predictor.add_objects(mask[1:]), r"found \[47, 80\]"),
        (lambda: predictor.segment_clip(image[:0, None], mask), "found 0 images"),
        (lambda: predictor.segment_clip([image], mask, 1), "position 1 .* found 1 images"),
        (lambda: VideoPredictor(None, 0), "inference_size: expected at least 1, found 0"),
        (lambda: VideoPredictor(None, None, -1), "max_total_reference_pixels: .* found -1"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()


def test_invalid_ids_and_early_calls_are_rejected_with_one_sentence(clip, network):
    images, masks = clip
    predictor = VideoPredictor(network)
    for call in (
        lambda: predictor.step(images[0]),
        lambda: predictor.correct(masks[0]),
        predictor.state,
        lambda: predictor.object_ids,
    ):
        with pytest.raises(InputError, match=r"a call to start\(image, mask\) first"):
            call()
    with pytest.raises(InputError, match="expected a call to start or step before probab"):
        predictor.probability(3)
    predictor.start(images[0], masks[0])
    predictor.step(images[1])
    other = np.where(masks[1] == 7, np.uint8(9), masks[1])
    for call, sentence in (
        (lambda: predictor.add_objects(other), r"new ids, found 3, already followed: mark more"),
        (lambda: predictor.add_objects(0 * other), "at least one object, found none"),
        (lambda: predictor.correct(other), r"\(0, 3, 7\), found 9 \(use add_objects\(mask\)"),
        (lambda: predictor.correct(0 * other), "at least one object, found none"),
        (lambda: predictor.correct(0 * other + 255, background=True), "at least one object"),
        (lambda: predictor.correct(other[1:]), r"found \[47, 80\]"),
        (lambda: predictor.remove(9), r"followed \(3, 7\), found 9"),
        (lambda: predictor.remove(0), r"followed \(3, 7\), found 0"),
        (lambda: predictor.remove("3"), r"followed \(3, 7\), found '3'"),
        (lambda: predictor.remove([3]), r"followed \(3, 7\), found \[3\]"),
        (lambda: predictor.probability(9), r"followed \(0, 3, 7\), found 9"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            call()
        assert "\n" not in str(caught.value)
    predictor.remove(3)
    predictor.remove(7)
    assert predictor.object_ids == [0] and not predictor.step(images[2]).any()
    predictor.add_objects(masks[2])
    assert predictor.object_ids == [0, 3, 7]


def test_a_video_without_background_takes_no_mask_with_background(clip, network):
    images, masks = clip
    predictor = VideoPredictor(network, 24)
    predictor.step(images[0], np.ones_like(masks[0]))
    half = np.ones_like(masks[0])
    half[:20] = 0
    with pytest.raises(InputError, match="expected a mask without background"):
        predictor.step(images[1], half)
    assert predictor.step(images[1], np.ones_like(half)).all()


def test_a_state_of_another_model_or_size_is_rejected_with_one_sentence(clip, network):
    images, masks = clip
    predictor = VideoPredictor(network, 24, identity="a")
    predictor.start(images[0], masks[0])
    state = predictor.state()
    other_frames = VideoPredictor(network, 24, identity="a")
    other_frames.start(images[0][:40], masks[0][:40])
    offsets, indices = state["reference_offsets"], state["previous_indices"]
    wide = {**state, "previous_embeddings": state["previous_embeddings"][..., :5]}
    for receiver, given, sentence in (
        (VideoPredictor(network, 24, identity="b"), state, "with model b, found a"),
        (VideoPredictor(network, 40, identity="a"), state, "inference_size 40, found 24"),
        (VideoPredictor(network, identity="a"), state, "inference_size None, found 24"),
        (other_frames, state, r"frames of the size .* \(40, 80\), found \(48, 80\)"),
        (predictor, {}, "expected what state"),
        (predictor, {**state, "more": state["model"]}, "found a further more"),
        (predictor, wide, r"previous_embeddings of float32 \(None, None, 8\), found float32"),
        (predictor, {**state, "object_ids": np.array([0.0])}, "object_ids of int32"),
        (
            predictor,
            {**state, "inference_size": np.array("24")},
            r"inference_size of int32 \(\), found <U2 \(\)",
        ),
        (predictor, {**state, "object_ids": state["object_ids"][::-1]}, "mismatch in object_ids"),
        (predictor, {**state, "reference_offsets": 2 * offsets}, "mismatch in reference_offsets"),
        (predictor, {**state, "previous_indices": 9 + indices}, "mismatch in previous_indices"),
        (predictor, {**state, "previous_masks": state["previous_masks"][1:]}, "previous_masks"),
        (predictor, {**state, "previous_masks": state["previous_masks"] * np.nan}, "found NaN"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            receiver.restore(given)
        assert "\n" not in str(caught.value)
    predictor.restore(state)


def test_a_state_with_another_or_a_damaged_window_is_rejected(clip, network):
    images, masks = clip
    predictor = VideoPredictor(network, window=0.5)
    predictor.start(images[0], masks[0])
    predictor.step(images[1])
    state = predictor.state()
    whole = VideoPredictor(network)
    whole.start(images[0], masks[0])
    without = {name: array for name, array in state.items() if name != "seen_ids"}
    shorter = np.int32([0, 0, 0, 8, 0, 0])
    for receiver, given, sentence in (
        (whole, state, "window 0.0, found 0.5"),
        (predictor, whole.state(), "window 0.5, found 0.0"),
        (predictor, without, "seen_ids of uint8 .*, found none"),
        (predictor, {**state, "seen_image": state["seen_image"][:-1]}, "mismatch in seen_image"),
        (predictor, {**state, "seen_window": state["seen_window"] + shorter}, "seen_window"),
        (predictor, {**state, "seen_window": state["seen_window"] - shorter}, "seen_window"),
        (predictor, {**state, "seen_boxes": state["seen_boxes"][1:]}, "mismatch in seen_boxes"),
        (predictor, {**state, "seen_box_ids": state["seen_box_ids"] + 1}, "in seen_box_ids"),
    ):
        with pytest.raises(InputError, match=sentence):
            receiver.restore(given)
    predictor.restore(state)


def test_a_saved_model_restores_its_states(clip, tmp_path):
    images, masks = clip
    model = tf.saved_model.load(str(color_model.save(tmp_path / "model")))
    predictor = VideoPredictor(model)
    predictor.start(images[0], masks[0])
    state = predictor.state()
    expected = predictor.step(images[1])
    predictor.restore(state)
    np.testing.assert_array_equal(predictor.step(images[1]), expected)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return color_model.save(tmp_path_factory.mktemp("models") / "model")


def loaded(saved_model, inference_size=None) -> VideoPredictor:
    return model_loading.choose(saved_model, inference_size).load()


def test_ids_with_gaps_are_kept(saved_model):
    image, mask = drawn_videos.draw(0, [7, 3])
    mask[0, :5] = 255
    state = loaded(saved_model)
    state.start(image, mask)
    for frame in (1, 2):
        image, expected = drawn_videos.draw(frame, [7, 3])
        np.testing.assert_array_equal(state.step(image), expected)


@pytest.mark.parametrize("inference_size", [24, 100])
def test_another_inference_size_changes_only_outlines(saved_model, inference_size):
    image, mask = drawn_videos.draw(0, [7, 3])
    state = loaded(saved_model, inference_size)
    state.start(image, mask)
    image, expected = drawn_videos.draw(3, [7, 3])
    ids = state.step(image)
    assert ids.shape == expected.shape and ids.dtype == np.uint8
    assert set(np.unique(ids)) == {0, 3, 7}
    for value in (3, 7):
        both = ((ids == value) & (expected == value)).sum()
        either = ((ids == value) | (expected == value)).sum()
        assert both / either > 0.85


def test_two_videos_of_one_saved_model_are_independent(saved_model):
    first = loaded(saved_model)
    image, mask = drawn_videos.draw(0, [1, 2])
    first.start(image, mask)
    first.another().start(255 - image, 3 * mask)
    np.testing.assert_array_equal(first.step(image), mask)


def test_inference_size_is_that_of_the_short_side():
    seen = []

    class Recorder:
        def start(self, image, mask):
            seen.append((image.shape, mask.shape))
            return {"object_ids": np.array([0, 1])}

        def step(self, image, state):
            seen.append(image.shape)
            return None, tf.zeros([*image.shape[:2], 2]), state

    predictor = VideoPredictor(Recorder(), 240)
    image = np.zeros((854, 480, 3), np.uint8)
    predictor.start(image, np.ones((854, 480), np.uint8))
    assert predictor.step(image).shape == (854, 480)
    assert seen == [((427, 240, 3), (427, 240)), (427, 240, 3)]


def test_objects_can_be_added_at_any_inference_size(saved_model):
    for inference_size in (None, 24):
        state = loaded(saved_model, inference_size)
        state.start(*drawn_videos.draw(0, [7]))
        image, mask = drawn_videos.draw(1, [7, 3])
        state.step(image)
        state.add_objects(np.where(mask == 3, mask, 0))
        np.testing.assert_array_equal(state.object_ids, [0, 3, 7])
        image, expected = drawn_videos.draw(2, [7, 3])
        assert (state.step(image) == expected).mean() > 0.97


def test_invalid_masks_are_reported_in_one_sentence(saved_model):
    image, mask = drawn_videos.draw(0, [7])
    state = loaded(saved_model)
    state.start(image, mask)
    for bad, sentence in (
        (np.zeros_like(mask), "at least one object, found none"),
        (np.full_like(mask, 255), "at least one object, found none"),
        (mask[1:], "of the frames' size"),
    ):
        with pytest.raises(InputError, match=sentence):
            state.start(image, bad)
        with pytest.raises(InputError, match=sentence):
            state.add_objects(bad)


def test_downsampled_mask_loses_no_object_and_invents_no_void():
    mask = np.zeros((480, 854), np.uint8)
    mask[100:300, 200:600] = 4
    mask[33, 57] = 9
    mask[7, 8] = 255
    downsampled = downsample_mask(mask, (60, 107))
    assert downsampled.shape == (60, 107)
    assert set(np.unique(downsampled)) == {0, 4, 9}
    assert downsampled[33 * 60 // 480, 57 * 107 // 854] == 9
    assert downsample_mask(mask, mask.shape) is mask


def test_two_small_objects_in_one_cell_both_keep_a_pixel():
    mask = np.zeros((480, 854), np.uint8)
    mask[100:300, 200:600] = 4
    mask[33, 57], mask[33, 59], mask[35, 57] = 9, 11, 200
    downsampled = downsample_mask(mask, (60, 107))
    assert set(np.unique(downsampled)) == {0, 4, 9, 11, 200}


def test_no_object_takes_the_only_pixel_of_another():
    mask = np.zeros((64, 64), np.uint8)
    # Object 1 covers one grid point; object 2 is next to it and covers none.
    mask[4:8, 4:8] = 1
    mask[7, 7] = 2
    downsampled = downsample_mask(mask, (16, 16))
    assert set(np.unique(downsampled)) == {0, 1, 2}
    everywhere = np.random.default_rng(0).permutation(
        np.arange(255).repeat(2)[:484].astype(np.uint8)
    )
    downsampled = downsample_mask(everywhere.reshape(22, 22), (16, 16))
    assert set(np.unique(downsampled)) == set(np.unique(everywhere))


def test_upsampled_argmax_is_the_argmax_of_bilinear_probabilities():
    probabilities = np.random.default_rng(0).random((7, 9, 4), np.float32)
    enlarged = tf.image.resize(probabilities, (21, 40), method="bilinear").numpy()
    result = Window((21, 40), (7, 9), (0, 7, 0, 9)).upsampled_argmax(probabilities)
    best_two = np.sort(enlarged, axis=-1)[..., -2:]
    clear = best_two[..., 1] - best_two[..., 0] > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(result[clear], enlarged.argmax(-1)[clear])

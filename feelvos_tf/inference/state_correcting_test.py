"""Corrections of the last frame and removed objects, compared with plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.inference import state as video_state
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models import global_matching
from feelvos_tf.testing import small_model

SIZE = (65, 81)
IDS = (3, 7, 200)
SETTINGS = [{}, {"scales": (1.0, 0.5)}, {"feedback": "probabilities"}]
NO_BOUND = np.int32(0)


@pytest.fixture(scope="module")
def model():
    return small_model.create()


def draw(frame: int, ids=IDS):
    """Returns an image with moving boxes and a mask of those with the given ids."""
    image = np.random.default_rng(0).integers(0, 100, (*SIZE, 3)).astype(np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    for place, object_id in enumerate(IDS):
        top, left = 8 + 12 * place, 4 + 24 * place + 3 * frame
        box = np.s_[top : top + 18, left : left + 18]
        image[box] = (220 - 80 * place, 60 + 10 * place, 60 + 80 * place)
        if object_id in ids:
            mask[box] = object_id
    return image, mask


def state_after(predictor: Predictor, frames: int = 2):
    state = predictor.start(*draw(0))
    for frame in range(1, frames + 1):
        _, _, state = predictor.step(draw(frame)[0], state)
    return state


def pairs(first, second, num_scales: int):
    """Returns the parts of two states, scale by scale."""
    both = [list(parts(state, num_scales)) for state in (first, second)]
    assert len(both[0]) == len(both[1]) == num_scales
    return zip(*both)


def parts(state, num_scales: int):
    """Yields per scale: id -> pixels, previous embeddings, ids on the grid, id -> mask."""
    ids = np.asarray(state["object_ids"])
    for suffix in ["", "_scale_1"][:num_scales]:
        offsets = np.asarray(state[f"reference_offsets{suffix}"])
        pixels = np.split(np.asarray(state[f"reference_embeddings{suffix}"]), offsets[1:-1])
        indices = np.asarray(state[f"previous_indices{suffix}"])
        yield (
            dict(zip(ids.tolist(), pixels)),
            np.asarray(state[f"previous_embeddings{suffix}"]),
            np.where(indices < 0, 255, ids[np.maximum(indices, 0)]),
            dict(zip(ids.tolist(), np.asarray(state[f"previous_masks{suffix}"]))),
        )


def on_grid(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask at the points of a grid whose corners are the mask's."""
    rows, columns = (
        [int(i * (full - 1) / (small - 1) + 0.5) for i in range(small)]
        for full, small in zip(mask.shape, size)
    )
    return mask[np.ix_(rows, columns)]


def assert_same_pixels(found: np.ndarray, expected: np.ndarray):
    """In any order."""
    np.testing.assert_array_equal(*(each[np.lexsort(each.T)] for each in (found, expected)))


@pytest.mark.parametrize("settings", SETTINGS)
def test_marked_pixels_join_the_references_and_replace_the_last_labels(model, eagerly, settings):
    predictor = Predictor(model, **settings)
    state = state_after(predictor)
    mask = np.full(SIZE, 255, np.uint8)
    mask[:30], mask[4:28, 4:28], mask[8:24, 40:60] = 0, 3, 200
    corrected = predictor.correct(mask, state, NO_BOUND)
    np.testing.assert_array_equal(corrected["object_ids"], [0, *IDS])
    scales = len(predictor.scales)
    for before, after in pairs(state, corrected, scales):
        pixels, embeddings, labels, masks = before
        marked = on_grid(mask, labels.shape)
        assert {0, 3, 200, 255} == set(np.unique(marked))
        np.testing.assert_array_equal(after[1], embeddings)
        np.testing.assert_array_equal(after[2], np.where(marked == 255, labels, marked))
        for i in (0, *IDS):
            assert_same_pixels(after[0][i], np.concatenate([pixels[i], embeddings[marked == i]]))
            np.testing.assert_array_equal(
                after[3][i], np.where(marked == 255, masks[i], marked == i)
            )


def test_a_mark_between_the_points_of_the_grid_counts(model, eagerly):
    predictor = Predictor(model)
    state = state_after(predictor)
    labels = np.asarray(state["previous_indices"])
    mask = np.full(SIZE, 255, np.uint8)
    mask[58:60, 70:72], mask[21, 21:23] = 200, 0
    assert set(on_grid(mask, labels.shape).ravel()) == {255}
    after = predictor.correct(mask, state, NO_BOUND)
    changed = np.asarray(after["previous_indices"])
    assert (changed[15, 18], changed[5, 5]) == (3, 0)
    assert (changed != labels).sum() <= 2
    sizes = [np.diff(each["reference_offsets"]) for each in (state, after)]
    np.testing.assert_array_equal(sizes[1] - sizes[0], [1, 0, 0, 1])


@pytest.mark.parametrize("settings", SETTINGS)
def test_correcting_the_first_frame_equals_starting_with_the_corrected_mask(
    model, eagerly, settings
):
    predictor = Predictor(model, **settings)
    image, mask = draw(0)
    wrong = np.where(np.arange(SIZE[1]) < 20, 7, mask).astype(np.uint8)
    state = predictor.correct(mask, predictor.start(image, wrong), NO_BOUND)
    expected = predictor.start(image, mask)
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, name)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_removed_object_becomes_background(model, eagerly, settings):
    predictor = Predictor(model, **settings)
    state = state_after(predictor)
    removed = predictor.remove(np.int32(7), state)
    np.testing.assert_array_equal(removed["object_ids"], [0, 3, 200])
    scales = len(predictor.scales)
    for before, after in pairs(state, removed, scales):
        pixels, embeddings, labels, masks = before
        assert (labels == 7).any()
        np.testing.assert_array_equal(after[1], embeddings)
        np.testing.assert_array_equal(after[2], np.where(labels == 7, 0, labels))
        assert_same_pixels(after[0][0], np.concatenate([pixels[0], pixels[7]]))
        np.testing.assert_array_equal(after[3][0], masks[0] + masks[7])
        for i in (3, 200):
            assert_same_pixels(after[0][i], pixels[i])
            np.testing.assert_array_equal(after[3][i], masks[i])
    _, probabilities, _ = predictor.step(draw(3)[0], removed)
    assert probabilities.shape == (*SIZE, 3)


def test_a_removed_object_is_as_if_it_had_never_been_marked(model, eagerly):
    predictor = Predictor(model)
    image, mask = draw(0)
    removed = predictor.remove(np.int32(7), predictor.start(image, mask))
    expected = predictor.start(image, draw(0, (3, 200))[1])
    _, found, _ = predictor.step(draw(1)[0], removed)
    _, wanted, _ = predictor.step(draw(1)[0], expected)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_without_a_background_the_pixels_of_a_removed_object_are_dropped(model, eagerly):
    predictor = Predictor(model)
    image, _ = draw(0)
    mask = np.full(SIZE, 7, np.uint8)
    mask[:, 40:] = 3
    state = predictor.start(image, mask)
    removed = predictor.remove(np.int32(7), state)
    ((pixels, _, labels, masks),) = parts(removed, 1)
    ((before, _, labels_before, _),) = parts(state, 1)
    assert list(pixels) == list(masks) == [3]
    assert_same_pixels(pixels[3], before[3])
    np.testing.assert_array_equal(labels, np.where(labels_before == 7, 255, labels_before))
    ids, _, _ = predictor.step(image, removed)
    assert set(np.unique(ids)) == {3}


def test_an_id_that_is_not_followed_cannot_be_removed(model, eagerly):
    predictor = Predictor(model)
    state = predictor.start(*draw(0))
    for object_id in (0, 9):
        with pytest.raises(tf.errors.InvalidArgumentError, match="no object with this id"):
            predictor.remove(np.int32(object_id), state)


@pytest.mark.parametrize("bound", [64, 65, 200])
def test_above_the_bound_all_reference_frames_are_thinned_equally(model, eagerly, bound):
    predictor = Predictor(model, max_total_reference_pixels=bound)
    state = state_after(predictor)
    _, mask = draw(2)
    ((before, embeddings, _, _),) = parts(state, 1)
    added = embeddings[on_grid(mask, embeddings.shape[:2]) == 0]
    state = predictor.correct(mask, state, np.int32(-1))
    ((pixels, *_),) = parts(state, 1)
    from_first, from_added = (
        len({each.tobytes() for each in pixels[0]} & {each.tobytes() for each in some})
        for some in (before[0], added)
    )
    assert len(pixels[0]) == bound <= from_first + from_added  # Some occur in both.
    assert abs(from_first / bound - len(before[0]) / (len(before[0]) + len(added))) < 0.1
    for _ in range(3):
        state = predictor.correct(mask, state, np.int32(-1))
    ((pixels, *_),) = parts(state, 1)
    assert len(pixels[0]) == bound and all(len(each) <= bound for each in pixels.values())


@pytest.mark.parametrize("kind", ["correct", "add", "remove"])
def test_global_distances_are_exact_after_edits(model, eagerly, kind):
    """With several blocks of references, compared with all distances in float64."""
    predictor = Predictor(model)
    state = predictor.start(*draw(0))
    for frame in (1, 2, 3):
        _, _, state = predictor.step(draw(frame)[0], state)
        mask = draw(frame)[1]
        if kind == "correct":
            state = predictor.correct(mask, state, NO_BOUND)
        elif kind == "add":
            new = np.where(mask == 7, np.uint8(50 + frame), np.uint8(0))
            state = predictor.add_objects(new, state)
        elif frame < 3:
            state = predictor.remove(np.int32(IDS[frame]), state)
    reference = video_state.from_flat(state, 1).scales[0].reference
    assert len(reference.embeddings) > 4 * global_matching.BLOCK
    query = state["previous_embeddings"] + 0.01
    found = global_matching.global_distances_inference(query, reference)
    ((pixels, *_),) = parts(state, 1)
    for i, own in enumerate(pixels.values()):
        differences = np.asarray(query, np.float64)[:, :, np.newaxis] - own
        expected = np.square(differences).sum(-1).min(-1)
        np.testing.assert_allclose(found[i], expected, atol=2e-4)

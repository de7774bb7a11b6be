"""Objects added later, compared with starting with them and with plain NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.inference import state as video_state
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.models.feelvos import Previous
from feelvos_tf.models.global_matching import (
    Reference,
    global_distances_inference,
    prepare_reference,
)
from feelvos_tf.testing import small_model

SIZE = (65, 81)
BOXES = {3: (8, (220, 60, 60)), 7: (36, (40, 90, 230)), 200: (20, (50, 200, 90))}
SETTINGS = [{}, {"scales": (1.0, 0.5)}, {"feedback": "probabilities"}]
KMEANS = {"max_reference_pixels": 10, "reference_reduction": "kmeans"}


@pytest.fixture(scope="module")
def model():
    return small_model.create()


def draw(frame: int, ids=tuple(BOXES), shown=tuple(BOXES)):
    """Returns an image with moving boxes and a mask of those with the given ids."""
    image = np.random.default_rng(0).integers(0, 100, (*SIZE, 3)).astype(np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    for place, object_id in enumerate(shown):
        top, color = BOXES[object_id]
        left = 4 + 24 * place + 3 * frame
        image[top : top + 18, left : left + 18] = color
        if object_id in ids:
            mask[top : top + 18, left : left + 18] = object_id
    return tf.constant(image), tf.constant(mask)


def assert_same_state(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)


@pytest.mark.parametrize("settings", [*SETTINGS, KMEANS])
def test_adding_an_object_in_the_first_frame_equals_starting_with_it(model, eagerly, settings):
    predictor = Predictor(model, **settings)
    image, mask = draw(0)
    expected = predictor.start(image, mask)
    # Half of the permutations: each object comes first once.
    for first, second, third in list(itertools.permutations(BOXES))[::2]:
        state = predictor.start(image, draw(0, [first])[1])
        state = predictor.add_objects(draw(0, [second])[1], state)
        state = predictor.add_objects(draw(0, [third])[1], state)
        assert_same_state(state, expected)
    ids, probabilities, _ = predictor.step(draw(1)[0], state)
    expected_ids, expected_probabilities, _ = predictor.step(draw(1)[0], expected)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(probabilities, expected_probabilities)


def numpy_state(before, mask, num_scales):
    """Returns the state with the objects of `mask`, computed with loops over pixels."""
    old_ids = before["object_ids"].numpy().tolist()
    ids = sorted({*old_ids, *np.unique(mask).tolist()} - {255})
    after = {"object_ids": np.array(ids), "previous_is_reference": False}
    for suffix in [""] + [f"_scale_{i}" for i in range(1, num_scales)]:
        old = {k: before[f"{k}{suffix}"].numpy() for k in STATE_NAMES}
        height, width = old["previous_indices"].shape
        labels = np.array([[old_ids[i] for i in row] for row in old["previous_indices"]])
        rows = [round_half_up(i * (SIZE[0] - 1) / (height - 1)) for i in range(height)]
        columns = [round_half_up(i * (SIZE[1] - 1) / (width - 1)) for i in range(width)]
        marked = mask[np.ix_(rows, columns)]
        labels = np.where(marked > 0, marked, labels)
        planes, pixels = [], []
        for value in ids:
            if value in old_ids:
                index = old_ids.index(value)
                plane = old["previous_masks"][index]
                start, end = old["reference_offsets"][index : index + 2]
                own = old["reference_embeddings"][start:end]
                if value == 0:  # Gives up what looks like a new object.
                    own = own[~looks_new(own, old["previous_embeddings"], labels, ids, old_ids)]
            else:
                plane = np.zeros((height, width), np.float32)
                own = old["previous_embeddings"][marked == value]
            planes.append(np.where(marked > 0, (marked == value).astype(np.float32), plane))
            pixels.append(own)
        after[f"reference_embeddings{suffix}"] = np.concatenate(pixels)
        after[f"reference_offsets{suffix}"] = np.cumsum([0] + [len(p) for p in pixels])
        after[f"previous_embeddings{suffix}"] = old["previous_embeddings"]
        after[f"previous_indices{suffix}"] = np.searchsorted(ids, labels)
        after[f"previous_masks{suffix}"] = np.stack(planes)
    return after


def looks_new(pixels, embeddings, labels, ids, old_ids):
    """Returns which of the pixels look far more like a new object in the frame than like others."""
    indices = np.searchsorted(ids, labels).astype(np.int32)
    frame = prepare_reference(embeddings, indices, tf.constant(len(ids)))
    # Not exact ones: those of an untrained network hardly differ.
    distances = global_distances_inference(tf.constant(pixels[np.newaxis]), frame)[:, 0].numpy()
    is_new = ~np.isin(ids, old_ids)
    return distances[is_new].min(0) < np.float32(0.6) * distances[~is_new].min(0)


STATE_NAMES = [f"reference_{name}" for name in Reference._fields]
STATE_NAMES += [f"previous_{name}" for name in Previous._fields]


def round_half_up(value: float) -> int:
    return int(value + 0.5)


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_object_added_later_gets_its_pixels_and_the_background_gives_up_those_like_it(
    model, eagerly, settings
):
    predictor = Predictor(model, **settings)
    state = predictor.start(*draw(0, [7], [7]))
    for frame in (1, 2):
        _, _, state = predictor.step(draw(frame)[0], state)
    _, mask = draw(2, [3, 200])
    found = predictor.add_objects(mask, state)
    assert_same_state(found, numpy_state(state, mask.numpy(), len(predictor.scales)))
    ids, probabilities, after = predictor.step(draw(3)[0], found)
    assert probabilities.shape == (*SIZE, 4)
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), 1.0, atol=1e-5)
    assert set(np.unique(ids)) <= {0, 3, 7, 200}
    np.testing.assert_array_equal(after["object_ids"], [0, 3, 7, 200])


def test_an_object_removed_and_added_again_is_no_longer_background():
    """It has its reference pixels back, and the background those of before the removal."""
    indices = np.zeros([4, 6], np.int32)
    indices[:2, :3] = 1
    noise = 0.1 * np.random.default_rng(0).random([4, 6, 2], np.float32)
    embeddings = tf.constant(np.eye(2, dtype=np.float32)[indices] + noise)
    given = prepare_reference(embeddings, indices, tf.constant(2))
    masks = tf.constant(np.float32([indices == 0, indices == 1]))
    scale = video_state.ScaleState(given, Previous(embeddings, tf.constant(indices), masks), given)
    state = video_state.PredictorState(
        tf.constant([0, 7]), tf.constant(False), (scale,), tf.constant(5)
    )
    removed = video_state.remove(state, tf.constant(7), tf.constant(0))

    def added(marks):
        mask = np.kron(7 * marks, np.ones([4, 4])).astype(np.uint8)
        found = video_state.add_objects(
            removed,
            tf.constant(mask),
            (1.0,),
            lambda pixels, of_pixels, ids: prepare_reference(pixels, of_pixels, tf.size(ids)),
            tf.constant(0),
        )
        return found.scales[0]

    reference, previous, memory = added(indices)
    for name, value in reference._asdict().items():
        np.testing.assert_array_equal(value, getattr(given, name), name)
    np.testing.assert_array_equal(previous.indices, indices)
    np.testing.assert_array_equal(memory.offsets, [0, 18, 18])
    np.testing.assert_array_equal(memory.embeddings, given.embeddings[:18])
    # An object that hides all background takes nothing from it.
    np.testing.assert_array_equal(added(np.ones_like(indices)).reference.offsets, [0, 24, 48])


def test_an_object_between_grid_points_keeps_one_pixel(model, eagerly):
    for scales in ((1.0,), (1.0, 0.5)):
        predictor = Predictor(model, scales=scales)
        _, _, state = predictor.step(draw(1)[0], predictor.start(*draw(0, [3, 7])))
        mask = np.zeros(SIZE, np.uint8)
        mask[50, 70], mask[50, 71] = 9, 12
        state = predictor.add_objects(mask, state)
        for suffix in ["", "_scale_1"][: len(scales)]:
            assert {3, 4} <= set(np.unique(state[f"previous_indices{suffix}"]))
            sizes = np.diff(state[f"reference_offsets{suffix}"])
            assert sizes[3] == sizes[4] == 1


def test_the_network_runs_once_per_frame_and_never_for_an_edit(model, eagerly, monkeypatch):
    passes = []
    extract = model.extract
    monkeypatch.setattr(model, "extract", lambda *x: passes.append(1) or extract(*x))
    predictor = Predictor(model)
    state = predictor.start(*draw(0, [3]))
    for frame, object_id in ((1, 7), (2, 200)):
        _, _, state = predictor.step(draw(frame)[0], state)
        state = predictor.add_objects(draw(frame, [object_id])[1], state)
        state = predictor.correct(draw(frame, [3, object_id])[1], state, np.int32(-1))
    predictor.step(draw(3)[0], predictor.remove(np.int32(7), state))
    assert len(passes) == 4


def test_invalid_masks_are_rejected(model, eagerly):
    predictor = Predictor(model)
    state = predictor.start(*draw(0, [3]))
    new = np.full(SIZE, 9, np.uint8)
    for call, mask, sentence in (
        (predictor.add_objects, np.zeros(SIZE, np.uint8), "the mask holds no object"),
        (predictor.add_objects, np.full(SIZE, 255, np.uint8), "the mask holds no object"),
        (predictor.add_objects, draw(0, [3, 7])[1], "already followed; use correct to mark more"),
        (predictor.add_objects, new[4:], "expected the size of the previous frame"),
        (lambda *x: predictor.correct(*x, np.int32(-1)), new, "use add_objects for new ones"),
        (lambda *x: predictor.correct(*x, np.int32(-1)), 0 * new[:, 4:], "size of the previous"),
        (predictor.step, draw(0)[0][4:], "expected the size of the previous frame"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
            call(mask, state)
    predictor.add_objects(new, state)

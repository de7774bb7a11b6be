"""The memory, compared with plain NumPy, and the effect of edits on it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import state as video_state
from feelvos_tf.inference.predictor import Predictor
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.models.feelvos import Previous
from feelvos_tf.models.global_matching import Reference
from feelvos_tf.testing import drawn_videos, small_model

SIZE = (48, 80)
MEMORY = {"memory_every": 2, "memory_pixels": 30, "max_memory_pixels": 70}


@pytest.fixture(scope="module")
def model():
    layer = "embedding/split_separable_conv2d_pointwise"
    return small_model.create(magnified=f"{layer}/weights")


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, [9, *SIZE, 3]).astype(np.uint8)
    drawn = [drawn_videos.draw(frame, [3, 7], SIZE) for frame in range(9)]
    return [(np.maximum(image, own), mask) for (image, mask), own in zip(drawn, noise)]


def memory_of(state, objects):
    """Returns the remembered embeddings of each object."""
    offsets = np.asarray(state["memory_offsets"])
    assert len(offsets) == objects + 1
    return np.split(np.asarray(state["memory_embeddings"]), offsets[1:-1])


def rows(pixels):
    return {row.tobytes() for row in np.ascontiguousarray(pixels)}


def test_confident_pixels_of_every_second_frame_are_remembered_and_earlier_ones_fade():
    rng = np.random.default_rng(0)
    nothing = Reference(tf.zeros([0, 4]), tf.zeros([4], tf.int32))
    state = video_state.PredictorState(
        tf.constant([0, 3, 7]), tf.constant(False), (), tf.constant(0)
    )
    memory, confident = nothing, []
    per_frame, most = (45, 30, 30), (105, 70, 70)
    for frame in range(1, 13):
        embeddings = rng.random([24, 40, 4], np.float32)
        # Object 7 is small; void and uncertain pixels are everywhere.
        indices = rng.choice([-1, 0, 1, 2], [24, 40], p=[0.1, 0.5, 0.37, 0.03]).astype(np.int32)
        probabilities = rng.dirichlet([0.3] * 3, [1, 24, 40]).astype(np.float32)
        previous = Previous(*map(tf.constant, (embeddings, indices, np.zeros([3, 24, 40], "f4"))))
        scale = video_state.ScaleState(nothing, previous, memory)
        state = video_state.remember(
            state._replace(scales=(scale,)),
            tf.constant(probabilities),
            2,
            tf.constant(per_frame),
            tf.constant(most),
            0.8,
        )
        assert int(state.frames) == frame
        before, memory = memory, state.scales[0].memory
        old, new = (np.split(m.embeddings, m.offsets[1:-1]) for m in (before, memory))
        if frame % 2:
            assert all(map(np.array_equal, old, new))
            continue
        sure = np.take_along_axis(probabilities[0], np.maximum(indices, 0)[..., None], -1)[..., 0]
        confident.append([rows(embeddings[(indices == i) & (sure >= 0.8)]) for i in range(3)])
        for i in range(3):
            added = rows(new[i]) - rows(old[i])
            assert added <= confident[-1][i] and len(new[i]) <= most[i]
            expected = min(per_frame[i], len(confident[-1][i]))
            if len(old[i]) + expected <= most[i]:
                assert rows(old[i]) <= rows(new[i]) and len(added) == expected
    for i in (0, 1):
        counts = [len(rows(new[i]) & each[i]) for each in confident]
        assert len(new[i]) == most[i] == sum(counts)
        assert counts == sorted(counts) and counts[0] > 0


def test_memory_pixels_are_matched_like_given_pixels(model, frames, eagerly):
    with_memory, without = Predictor(model, memory_probability=0.0, **MEMORY), Predictor(model)
    state = with_memory.start(*frames[0])
    for image, _ in frames[1:5]:
        _, _, state = with_memory.step(image, state)
    _, found, _ = with_memory.step(frames[5][0], state)
    pixels = [
        np.concatenate(both)
        for both in zip(
            np.split(state["reference_embeddings"], state["reference_offsets"][1:-1]),
            memory_of(state, 3),
        )
    ]
    plain = {name: value for name, value in state.items() if "memory" not in name}
    plain.pop("frames")
    plain["reference_embeddings"] = tf.constant(np.concatenate(pixels))
    plain["reference_offsets"] = tf.constant(np.cumsum([0, *map(len, pixels)]), tf.int32)
    _, expected, _ = without.step(frames[5][0], plain)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    _, unremembered, _ = without.step(
        frames[5][0], {**plain, **{k: state[k] for k in plain if k.startswith("reference")}}
    )
    assert np.abs(unremembered - found).max() > 1e-4


def test_stepping_and_the_whole_clip_remember_the_same(model, frames):
    predictor = Predictor(model, memory_probability=0.0, **MEMORY)
    images = np.stack([image for image, _ in frames])
    stepped = VideoPredictor(predictor).segment_clip(images, frames[0][1])
    np.testing.assert_array_equal(predictor.segment_clip(images, frames[0][1]), stepped)


@pytest.mark.parametrize("settings", [{}, {"scales": (1.0, 0.5)}])
def test_edits_keep_the_memory_consistent_with_the_objects(model, frames, eagerly, settings):
    predictor = VideoPredictor(Predictor(model, memory_probability=0.0, **MEMORY, **settings))
    predictor.start(*frames[0])
    for image, _ in frames[1:3]:
        predictor.step(image)
    before = memory_of(predictor.state(), 3)
    predictor.add_objects(np.where(np.arange(80) < 6, np.uint8(5), np.zeros(SIZE, np.uint8)))
    after = memory_of(predictor.state(), 4)
    assert predictor.object_ids == [0, 3, 5, 7] and len(after[2]) == 0
    for old, new in zip(before, [after[0], after[1], after[3]]):
        np.testing.assert_array_equal(old, new)
    predictor.remove(3)
    after = memory_of(predictor.state(), 3)
    assert len(after[2]) == len(before[2])
    saved = predictor.state()
    expected = [predictor.step(image) for image, _ in frames[3:6]]
    predictor.restore(saved)
    np.testing.assert_array_equal([predictor.step(image) for image, _ in frames[3:6]], expected)
    predictor.correct(np.where(frames[8][1] == 7, np.uint8(7), np.uint8(0)))
    assert not len(predictor.state()["memory_embeddings"])
    predictor.step(frames[8][0])


def test_a_state_with_a_wrong_memory_is_not_restored(model, frames):
    predictor = VideoPredictor(Predictor(model, **MEMORY))
    predictor.start(*frames[0])
    for image, _ in frames[1:4]:
        predictor.step(image)
    state = predictor.state()
    predictor.restore(state)
    for wrong in (state["memory_offsets"][:-1], state["memory_offsets"] + 1):
        with pytest.raises(InputError, match="restore: .* mismatch in memory_offsets"):
            predictor.restore({**state, "memory_offsets": wrong})

"""The window follows the objects, and its masks are placed correctly in the frame."""

from __future__ import annotations

import numpy as np
import pytest

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import window as windows
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.inference.window import Window

SIZE = (480, 854)
COLORS = np.array([[90, 110, 90], [220, 40, 40], [40, 60, 220]], np.float32)


class Tensor(np.ndarray):
    """An array with the only tensor method that is used."""

    def numpy(self):
        """Returns the array."""
        return np.asarray(self)


class PixelModel:
    """Stands in for a network: a pixel gets the label of the nearest color."""

    def __init__(self):
        self.shapes = []
        self.starts = 0
        self.step = self._step
        self.step.__func__.input_signature = None

    def start(self, image, mask):
        """Returns a state whose embeddings are the colors on the stride-4 grid."""
        self.starts += 1
        grid = np.asarray(mask)[::4, ::4]
        ids = np.unique(mask[mask != 255]).astype(np.int32)
        indices = np.where(np.isin(grid, ids), np.searchsorted(ids, grid), -1).astype(np.int32)
        return self._previous({"object_ids": ids}, image, indices)

    def _previous(self, state, image, indices):
        masks = np.arange(len(state["object_ids"]))[:, None, None] == indices
        return {
            **state,
            "previous_embeddings": image[::4, ::4].astype(np.float32),
            "previous_indices": indices,
            "previous_masks": masks.astype(np.float32),
        }

    def _step(self, image, state):
        self.shapes.append(image.shape[:2])
        # The state to match with has the grid of the frame.
        assert state["previous_embeddings"].shape == (*image[::4, ::4].shape[:2], 3)
        assert state["previous_indices"].shape == image[::4, ::4].shape[:2]
        ids = state["object_ids"]
        difference = np.square(image[:, :, None].astype(np.float32) - COLORS[: len(ids)]).sum(-1)
        probabilities = np.exp(-difference / 1e4).astype(np.float32)
        probabilities /= probabilities.sum(-1, keepdims=True)
        winners = probabilities.argmax(-1)
        after = self._previous(state, image, winners[::4, ::4].astype(np.int32))
        return ids[winners].astype(np.uint8), probabilities.view(Tensor), after

    def add_objects(self, mask, state):
        """Returns the state with additional ids."""
        ids = np.union1d(state["object_ids"], mask[(mask > 0) & (mask < 255)]).astype(np.int32)
        return {**state, "object_ids": ids, "marked": mask}


class TwoLooks(PixelModel):
    """Looks at every frame twice, like a network with `flip`."""

    def _previous(self, state, image, indices):
        after = super()._previous(state, image, indices)
        for name in ("previous_embeddings", "previous_indices", "previous_masks"):
            after[f"{name}_scale_1"] = after[name] + 1
        return after

    def _step(self, image, state):
        for name in ("previous_embeddings", "previous_indices", "previous_masks"):
            first, second = (np.asarray(state[f"{name}{look}"]) for look in ("", "_scale_1"))
            # Both moved in the same way; pixels outside the old window are equal in both.
            assert first.shape == second.shape and np.isin(second - first, (0, 1)).all()
        return super()._step(image, state)


def draw(*boxes, size=SIZE):
    """Returns a frame with a rectangle per box, and its mask."""
    mask = np.zeros(size, np.uint8)
    for i, (top, bottom, left, right) in enumerate(boxes, 1):
        mask[top:bottom, left:right] = i
    return COLORS[mask].astype(np.uint8), mask


@pytest.mark.parametrize("side", [30, 100, 300])
@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", [240, 480, None])
def test_a_window_holds_its_objects_with_a_margin_within_its_share_of_pixels(side, share, size):
    rng = np.random.default_rng(side)
    for _ in range(30):
        frame = (480, 854) if rng.random() < 0.5 else (1080, 608)
        top, left = rng.integers(0, frame[0] - side), rng.integers(0, frame[1] - side)
        box = (top, top + side, left, left + side)
        window = windows.around(np.array([box], float), frame, size, share)
        assert window.holds(box)
        grid = windows.whole(frame, size).scaled_size
        scale_of_whole = grid[0] / frame[0]
        # Large objects are reduced, but not below 128 pixels.
        least = np.clip(128 / (side * scale_of_whole), np.sqrt(share), 1) * scale_of_whole
        assert least * 0.99 <= window.scale <= 2.01 * scale_of_whole
        unreduced = windows.around(np.array([box], float), frame, size, share, may_reduce=False)
        assert unreduced.scale >= max(window.scale, scale_of_whole * 0.99)
        rows, columns = (window.box[i + 1] - window.box[i] for i in (0, 2))
        assert (rows % 8, columns % 8) == (1, 1)
        assert window.box[0] % 8 == window.box[2] % 8 == 0
        # 27 points of the grid on each side, unless the frame ends there.
        margin = 27 * 4
        for begin, end, (first, last), whole in zip(
            box[::2], box[1::2], (window.box[:2], window.box[2:]), window.scaled_size
        ):
            assert first == 0 or first <= begin * window.scale - margin + 8
            assert last >= min(whole, end * window.scale + margin) - 8
        # Sizes are multiples of 32 pixels, plus one.
        most = (np.sqrt(share * grid[0] * grid[1]) + 64) ** 2
        if window.scale > least * 1.01 or least < np.sqrt(share) * scale_of_whole * 1.01:
            assert rows * columns <= most * 1.3


def test_a_window_at_the_edge_of_the_frame_shows_its_last_pixels():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        frame = (480, 854) if rng.random() < 0.5 else (1080, 1920)
        top, left = (int(rng.integers(0, side - 8)) for side in frame)
        box = np.array([[top, frame[0], left, frame[1]]], float)
        window = windows.around(box, frame, 480, 0.5)
        assert window.box[1] >= window.scaled_size[0] and window.box[3] >= window.scaled_size[1]


def test_the_long_side_of_what_the_network_sees_is_bounded():
    assert windows.model_size((480, 854), 240) == (240, 427)
    assert windows.model_size((100, 800), 480) == (480, 3840)
    assert windows.model_size((8, 4000), 480) == (8, 3840)
    assert windows.model_size((8, 4000), None) == (8, 4000)


def test_a_window_keeps_its_scale_until_another_is_much_better():
    box = np.array([[200, 300, 400, 500]], float)
    first = windows.around(box, SIZE, 480, 0.5)
    grown = box + [[-8, 8, -8, 8]]
    assert windows.around(grown, SIZE, 480, 0.5, first.scale).scaled_size == first.scaled_size
    assert windows.around(grown, SIZE, 480, 0.5).scaled_size != first.scaled_size
    large = box + [[-90, 90, -90, 90]]
    assert windows.around(large, SIZE, 480, 0.5, first.scale).scale < first.scale / 1.3
    for _ in range(3):  # A window's own scale reproduces its size.
        again = windows.around(box, SIZE, 480, 0.5, first.scale)
        assert again == first


def test_large_objects_are_reduced_unless_a_small_or_a_lost_one_is_among_them():
    large, small = (100, 400, 100, 700), (20, 60, 20, 60)
    predictor = VideoPredictor(PixelModel(), 480, window=0.5)
    image, mask = draw(large)
    predictor.start(image, mask)
    assert predictor._seen.window.scaled_size == (339, 603)  # The root of a half.
    assert np.mean(predictor.step(image) != mask) < 0.002
    image, mask = draw(large, small)
    predictor.step(image, np.where(mask == 2, mask, 0))
    for boxes in ([large, small], [large], []):  # One is lost, then both.
        predictor.step(draw(*boxes)[0])
        assert predictor._seen.window.scaled_size == SIZE


def test_the_state_moves_with_the_window():
    rng = np.random.default_rng(0)
    old, new = (
        Window((80, 96), (80, 96), (8, 49, 16, 81)),
        Window((80, 96), (80, 96), (0, 41, 32, 97)),
    )
    indices = rng.integers(-1, 2, (11, 17)).astype(np.int32)
    embeddings = rng.random((11, 17, 3), np.float32)
    masks = (np.arange(2)[:, None, None] == indices).astype(np.float32)
    state = {
        "previous_embeddings": embeddings,
        "previous_indices": indices,
        "previous_masks": masks,
        "other": 5,
    }
    moved = windows.moved(state, old, new)
    assert moved["other"] == 5
    for row in range(11):
        for column in range(17):
            # Rows and columns of the whole frame's grid.
            y, x = row + 0 - 2, column + 8 - 4
            is_known = 0 <= y < 11 and 0 <= x < 17
            assert moved["previous_indices"][row, column] == (indices[y, x] if is_known else -1)
            np.testing.assert_array_equal(
                moved["previous_embeddings"][row, column], embeddings[y, x] if is_known else 0
            )
            np.testing.assert_array_equal(
                moved["previous_masks"][:, row, column], masks[:, y, x] if is_known else [1, 0]
            )
    far = Window((80, 96), (80, 960), (0, 41, 800, 865))
    assert (windows.moved(state, old, far)["previous_indices"] == -1).all()


@pytest.mark.parametrize(("size", "kind"), [(240, PixelModel), (480, PixelModel), (480, TwoLooks)])
def test_masks_in_a_window_agree_with_those_of_whole_frames(size, kind):
    model = kind()
    predictor = VideoPredictor(model, size, window=0.5)
    whole = VideoPredictor(PixelModel(), size)
    boxes = [((100 + 9 * i, 180 + 9 * i, 60 + 13 * i, 140 + 12 * i),) for i in range(0, 40, 2)]
    image, mask = draw(*boxes[0])
    for each in (predictor, whole):
        each.start(image, mask)
    for box in boxes[1:]:
        image, mask = draw(*box)
        ids = predictor.step(image)
        assert ids.shape == SIZE and np.mean(ids != mask) < 0.002
        assert np.mean(ids != whole.step(image)) < 0.002
        planes = [predictor.probability(object_id) for object_id in (0, 1)]
        np.testing.assert_allclose(planes[0] + planes[1], 1, atol=1e-5)
    areas = [height * width for height, width in model.shapes]
    assert max(areas) < 0.75 * size * size * SIZE[1] / SIZE[0]
    # The window moved without another look at the frame.
    assert model.starts <= 4 and len(set(model.shapes)) < 12


@pytest.mark.parametrize("places", [(20, 20, 400, 780), (400, 780, 20, 20)])
def test_a_lost_object_is_found_anywhere_after_some_frames(places):
    row, column, later_row, later_column = places
    model = PixelModel()
    predictor = VideoPredictor(model, 240, window=0.3)
    image, mask = draw((row, row + 40, column, column + 40))
    predictor.start(image, mask)
    empty, _ = draw()
    sizes = []
    for _ in range(12):
        assert not predictor.step(empty).any()
        sizes.append(model.shapes[-1])
    assert sizes[-1][0] >= 240 and sizes[-1][1] >= 427 > sizes[0][1]
    image, mask = draw((later_row, later_row + 40, later_column, later_column + 40))
    assert np.mean(predictor.step(image) != mask) < 0.002
    # The window then shrinks around it.
    predictor.step(image)
    assert model.shapes[-1][0] * model.shapes[-1][1] < sizes[-1][0] * sizes[-1][1]


def test_adding_an_object_outside_the_window_runs_the_network():
    model = PixelModel()
    predictor = VideoPredictor(model, 480, window=0.3)
    image, mask = draw((20, 80, 20, 80), (400, 460, 700, 780))
    predictor.start(image, np.where(mask == 1, mask, 0))
    starts = model.starts
    predictor.add_objects(np.where(mask == 2, mask, 0))
    assert model.starts == starts + 1
    assert set(np.unique(predictor._state["marked"])) == {0, 2}
    assert np.mean(predictor.step(image) != mask) < 0.002
    predictor.add_objects(np.where(mask == 2, np.uint8(3), np.uint8(0)))
    assert model.starts == starts + 1  # The window shows it already.


def test_after_its_only_object_is_removed_a_video_goes_on():
    class Removing(PixelModel):
        def start(self, image, mask):
            assert ((mask > 0) & (mask < 255)).any()  # As in `Predictor.start`.
            return super().start(image, mask)

        def remove(self, object_id, state):
            return {**state, "object_ids": np.int32([0])}

    predictor = VideoPredictor(Removing(), 480, window=0.3)
    predictor.start(*draw((20, 80, 20, 80)))
    predictor.remove(1)
    image, mask = draw((400, 460, 700, 780))
    assert not predictor.step(image).any()
    assert predictor.embeddings.any()
    predictor.add_objects(mask)  # Outside the window.
    assert np.mean(predictor.step(image) != mask) < 0.002


def test_probabilities_do_not_move_when_an_edit_widens_the_window():
    predictor = VideoPredictor(PixelModel(), 480, window=0.3)
    image, mask = draw((20, 80, 20, 80), (400, 460, 700, 780))
    predictor.start(image, np.where(mask == 1, mask, 0))
    predictor.step(image)
    before, window = predictor.probability(1), predictor._seen.window
    predictor.add_objects(np.where(mask == 2, mask, 0))
    assert predictor._seen.window != window
    np.testing.assert_array_equal(predictor.probability(1), before)


def test_the_memory_gains_pixels_at_a_new_scale():
    """The background, 3 and 7 have a memory; of the objects, only 7 is visible."""
    image, mask = draw((20, 80, 20, 80))
    mask *= 7
    window = windows.whole(SIZE, 240)

    class Model(PixelModel):
        def start(self, image, mask):
            reference = {
                "reference_embeddings": np.float32([[10, 0, 0], [70, 0, 0], [71, 0, 0]]),
                "reference_offsets": np.int32([0, 1, 3]),
            }
            return {**super().start(image, mask), **reference}

    state = {
        "object_ids": np.int32([0, 3, 7]),
        "memory_embeddings": np.float32([[1, 0, 0], [3, 0, 0], [7, 0, 0]]),
        "memory_offsets": np.int32([0, 1, 2, 3]),
        "previous_indices": np.zeros((2, 2), np.int32),
    }
    seen = windows.Seen(window, image, mask)
    after = windows.looked_at(Model(), state, seen, window, remember=True)
    np.testing.assert_array_equal(after["memory_embeddings"][:, 0], [1, 10, 3, 7, 70, 71])
    np.testing.assert_array_equal(after["memory_offsets"], [0, 2, 3, 6])
    assert after["memory_offsets"].dtype == np.int32
    for changed in ({"remember": False}, {"ids": 0 * mask}):  # No followed object is visible.
        other = seen._replace(ids=changed.get("ids", mask))
        after = windows.looked_at(Model(), state, other, window, changed.get("remember", True))
        assert after["memory_embeddings"] is state["memory_embeddings"]


def test_a_lost_object_does_not_renumber_the_others_when_the_scale_changes():
    predictor = VideoPredictor(PixelModel(), 480, window=0.3)
    predictor.start(*draw((200, 240, 300, 340), (200, 240, 400, 440)))
    frame, mask = draw((0, 0, 0, 0), (200, 240, 400, 440))
    assert set(np.unique(predictor.step(frame))) == {0, 2}
    before = predictor._seen.window
    predictor._aim(windows.whole(SIZE, 240))
    assert predictor._seen.window != before
    indices = predictor._state["previous_indices"]
    np.testing.assert_array_equal(indices, mask[::8, ::8][: indices.shape[0], : indices.shape[1]])
    np.testing.assert_array_equal(predictor._state["previous_masks"][2], indices == 2)


def test_a_video_without_background_has_no_window():
    model = PixelModel()
    predictor = VideoPredictor(model, 48, window=0.5)
    predictor.start(np.full((*SIZE, 3), 90, np.uint8), np.ones(SIZE, np.uint8))
    predictor.step(np.full((*SIZE, 3), 90, np.uint8))
    assert model.shapes == [(48, 85)]


def test_a_caller_may_reuse_its_arrays():
    predictor, other = (VideoPredictor(PixelModel(), 240, window=0.5) for _ in range(2))
    buffer, mask = draw((20, 80, 20, 80))
    predictor.start(buffer, mask)
    other.start(np.array(buffer), np.array(mask))
    mask[:] = 0
    # The box grows so much that the scale changes and the network sees the last frame again.
    for box in ((20, 80, 20, 80), (0, 400, 0, 700), (0, 400, 0, 700)):
        buffer[:] = draw(box)[0]
        found = predictor.step(buffer)
        np.testing.assert_array_equal(found, other.step(np.array(buffer)))
        found[:] = 0
        for name in ("previous_indices", "previous_embeddings"):
            np.testing.assert_array_equal(predictor._state[name], other._state[name])
        # Embeddings come from another pass over the stored last frame.
        buffer[:] = 0
        np.testing.assert_array_equal(predictor.embeddings, other.embeddings)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_rejected(share):
    with pytest.raises(InputError, match=r"window: expected a share of 0 \(whole frames\) to 1"):
        VideoPredictor(PixelModel(), window=share)


def test_a_window_is_rejected_for_a_model_with_several_scales():
    class TwoScales(PixelModel):
        def start(self, image, mask):
            state = super().start(image, mask)
            return {**state, "previous_indices_scale_1": state["previous_indices"][::2, ::2]}

    predictor = VideoPredictor(TwoScales(), 240, window=0.5)
    with pytest.raises(InputError, match="window: expected 0 with a model of several scales"):
        predictor.start(*draw((20, 80, 20, 80)))
    with pytest.raises(InputError, match="expected a call to start"):
        predictor.step(draw()[0])
    VideoPredictor(TwoScales(), 240).start(*draw((20, 80, 20, 80)))

"""The window: the part of a frame, at a scale of its own, that the network computes.

Objects fill a small part of most frames. What lies far from where they were is background for the
gate (`gating.py`) anyway, so it need not be computed, and small objects are worth being looked at
more closely. Neither the paper nor the 2019 release has a window.

The network's state holds the last frame as far as the window reached. Where the window moves, that
part is shifted; where its scale changes, the last frame is looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import masks

_STRIDE = 4
# Windows begin at multiples of 8, the network's largest stride, and end one pixel after one: then
# the points of its grids lie on the same pixels in all windows of a scale.
_ALIGNMENT = 8
# Sizes come in few steps, since every new one costs a frame some time.
_SIZE_STEP = 32
# Points of the grid around an object: how far the gate lets it move, and what the head sees.
_MARGIN = 27
# Further context, as a share of the object's size.
_CONTEXT = 0.25
# Times the scale of the whole frame.
_MAX_ENLARGEMENT = 2.0
# A new scale costs one more look at the last frame.
_LEAST_CHANGE_OF_SCALE = 1.3
_NO_OBJECT = -1  # As in `object_labels`, without its import of TensorFlow.
# Of the last box of an object that is lost, per frame and side.
_WIDENING = 0.25


# What `Seen.arrays` returns: kinds of the values.
SEEN = {
    "seen_window": "i",
    "seen_image": "u",
    "seen_ids": "u",
    "seen_box_ids": "i",
    "seen_boxes": "f",
}


class Window(NamedTuple):
    """Where the network looks.

    Attributes:
      frame_size: height and width of the frames.
      scaled_size: height and width of a whole frame at the window's scale.
      box: top, bottom, left and right of the window in the scaled frame.
    """

    frame_size: tuple[int, int]
    scaled_size: tuple[int, int]
    box: tuple[int, int, int, int]

    @property
    def scale(self) -> float:
        """Pixels of the network per pixel of the frame."""
        return self.scaled_size[0] / self.frame_size[0]

    @property
    def is_frame(self) -> bool:
        """Whether the network sees the frame as it is."""
        height, width = self.frame_size
        return self.scaled_size == self.frame_size and self.box == (0, height, 0, width)

    def image(self, image: np.ndarray) -> np.ndarray:
        """Returns what the network sees of a frame, uint8 [h, w, 3]."""
        return self._part(scaled(image, self.scaled_size))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Returns the part of a frame's mask, uint8 [h, w]."""
        return self._part(downsample_mask(mask, self.scaled_size))

    def _part(self, scaled: np.ndarray) -> np.ndarray:
        top, bottom, left, right = self.box
        height, width = self.scaled_size
        part = scaled[top:bottom, left:right]
        # The last pixels of a window may lie beside the frame.
        beside = max(0, bottom - height), max(0, right - width)
        if not any(beside):
            return part
        return cv2.copyMakeBorder(part, 0, beside[0], 0, beside[1], cv2.BORDER_REPLICATE)

    def upsampled(self, plane: np.ndarray, outside: float) -> np.ndarray:
        """Returns values of the window in the whole frame, float32 [height, width], bilinear.

        Args:
          plane: float32 [h, w] of the window.
          outside: value beside the window.
        """
        whole = self._pasted(plane, outside, self.scaled_size, 1)
        if whole.shape == self.frame_size:
            return whole
        return cv2.resize(whole, self.frame_size[::-1], interpolation=cv2.INTER_LINEAR)

    def upsampled_argmax(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the most probable channel in the whole frame, uint8 [height, width].

        Channels are enlarged one at a time, so that memory does not grow with objects. Beside the
        window it is the first channel.

        Args:
          probabilities: float32 [h, w, channels] of the window.
        """
        best = np.full(self.frame_size, -np.inf, np.float32)
        winner = np.zeros(self.frame_size, np.uint8)
        for channel in range(probabilities.shape[-1]):
            plane = self.upsampled(probabilities[..., channel], float(channel == 0))
            better = plane > best
            best[better] = plane[better]
            winner[better] = channel
        return winner

    def whole_grid(self, plane: np.ndarray, outside: float) -> np.ndarray:
        """Returns values of the window's stride-4 grid on that of the whole scaled frame."""
        size = tuple(-(-side // _STRIDE) for side in self.scaled_size)
        return self._pasted(plane, outside, size, _STRIDE)

    def _pasted(
        self, plane: np.ndarray, outside: float, size: tuple[int, int], stride: int
    ) -> np.ndarray:
        if plane.shape == size:
            return np.ascontiguousarray(plane)
        whole = np.full(size, outside, np.float32)
        part = whole[self.box[0] // stride :, self.box[2] // stride :]
        part = part[: plane.shape[0], : plane.shape[1]]
        part[:] = plane[: part.shape[0], : part.shape[1]]
        return whole

    def holds(self, box: Sequence[float]) -> bool:
        """Returns whether a box, top, bottom, left and right in the frame, lies in the window."""
        top, bottom, left, right = np.multiply(box, self.scale)
        return (
            self.box[0] <= top
            and bottom <= self.box[1]
            and self.box[2] <= left
            and right <= self.box[3]
        )


def whole(frame_size: tuple[int, int], inference_size: int | None) -> Window:
    """Returns the whole frame.

    Args:
      frame_size: height and width of the frames.
      inference_size: pixels on the short side while the network runs; None for the frames' own.
    """
    height, width = model_size(frame_size, inference_size)
    return Window(frame_size, (height, width), (0, height, 0, width))


def around(
    boxes: np.ndarray,
    frame_size: tuple[int, int],
    inference_size: int | None,
    share: float,
    scale: float | None = None,
) -> Window:
    """Returns the window around some objects.

    Its scale is that of the whole frame, or larger where the window would have fewer pixels than
    `share` allows.

    Args:
      boxes: float [objects, 4]: top, bottom, left, right of each in the frame.
      frame_size: height and width of the frames.
      inference_size: see `whole`.
      share: of the whole frame's pixels.
      scale: of the last window, which is kept unless a much better one is found.
    """
    height, width = model_size(frame_size, inference_size)
    box = (*boxes[:, ::2].min(0), *boxes[:, 1::2].max(0))  # top, left, bottom, right
    best = _best_scale(box, frame_size, height / frame_size[0], share * height * width)
    if scale is None or not 1 / _LEAST_CHANGE_OF_SCALE < best / scale < _LEAST_CHANGE_OF_SCALE:
        scale = best
    # The scale follows from the height, so that a window's own scale gives its size again.
    scale = max(1, round(frame_size[0] * scale)) / frame_size[0]
    scaled_size = tuple(max(1, round(side * scale)) for side in frame_size)
    spans = [
        _aligned(begin * scale, end * scale, side)
        for (begin, end), side in zip(_with_margin(box, frame_size, scale), scaled_size)
    ]
    return Window(frame_size, scaled_size, (*spans[0], *spans[1]))


def _best_scale(
    box: tuple[float, ...], frame_size: tuple[int, int], least: float, pixels: float
) -> float:
    """Returns the scale at which the window has so many pixels, within its limits."""
    low, high = least, least * _MAX_ENLARGEMENT
    for _ in range(20):
        middle = (low + high) / 2
        spans = _with_margin(box, frame_size, middle)
        area = np.prod([(end - begin) * middle for begin, end in spans])
        low, high = (low, middle) if area > pixels else (middle, high)
    return low


def _with_margin(
    box: tuple[float, ...], frame_size: tuple[int, int], scale: float
) -> list[tuple[float, float]]:
    """Returns begin and end of the rows and of the columns around a box, within the frame."""
    top, left, bottom, right = box
    margin = _MARGIN * _STRIDE / scale + _CONTEXT * np.sqrt((bottom - top) * (right - left))
    spans = ((top, bottom), (left, right))
    return [
        (max(0.0, begin - margin), min(float(side), end + margin))
        for (begin, end), side in zip(spans, frame_size)
    ]


def _aligned(begin: float, end: float, side: int) -> tuple[int, int]:
    """Returns the aligned range of pixels around another one; it may end after the side's end."""
    largest = -(-(side - 1) // _ALIGNMENT) * _ALIGNMENT
    size = min(int(-(-(end - begin) // _SIZE_STEP)) * _SIZE_STEP, largest)
    first = round((begin + end - size) / 2 / _ALIGNMENT) * _ALIGNMENT
    first = int(np.clip(first, 0, largest - size))
    return first, first + size + 1


class Seen(NamedTuple):
    """What was seen of a video last.

    Attributes:
      window: through which the network saw the last frame.
      image: the last frame, uint8 [height, width, 3]; None where windows are whole frames.
      ids: uint8 [height, width] of that frame; likewise.
      boxes: object id -> top, bottom, left, right where it was seen last, grown ever since. It may
        come back anywhere.
    """

    window: Window
    image: np.ndarray | None = None
    ids: np.ndarray | None = None
    boxes: Mapping[int, tuple[float, ...]] = {}

    @classmethod
    def of(
        cls, image: np.ndarray, mask: np.ndarray, inference_size: int | None, share: float
    ) -> Seen:
        """Returns it for the first frame and its mask, which must hold an object."""
        everything = cls(whole(mask.shape, inference_size))
        if not share:
            return everything
        object_ids = np.unique(mask[mask != VOID]).tolist()
        seen = everything.updated(mask, object_ids, image)
        return seen._replace(window=seen.next_window(object_ids, inference_size, share))

    def updated(
        self, ids: np.ndarray, object_ids: Sequence[int], image: np.ndarray | None = None
    ) -> Seen:
        """Returns it after the next frame, or, without an image, after an edit of the last one.

        Args:
          ids: uint8 [height, width].
          object_ids: those that are followed.
          image: uint8 [height, width, 3]; it is copied, as the ids are.
        """
        boxes = {}
        for object_id in filter(None, object_ids):
            box = masks.bounds(ids == object_id)
            if box is None:
                box = self.boxes.get(object_id, (0, ids.shape[0], 0, ids.shape[1]))
                box = box if image is None else _wider(box, ids.shape)
            boxes[object_id] = box
        return self._replace(
            image=self.image if image is None else np.array(image), ids=np.array(ids), boxes=boxes
        )

    def next_window(
        self, object_ids: Sequence[int], inference_size: int | None, share: float
    ) -> Window:
        """Returns where the next frame is to be looked at."""
        # Where there is no background, objects are everywhere.
        if not share or 0 not in object_ids:
            return self.window
        boxes = np.array(list(self.boxes.values()))
        return around(boxes, self.window.frame_size, inference_size, share, self.window.scale)

    def window_with(self, mask: np.ndarray, inference_size: int | None, share: float) -> Window:
        """Returns a window of the last frame that shows the objects of a mask as well."""
        box = masks.bounds((mask != 0) & (mask != VOID))
        if box is None or self.window.holds(box):
            return self.window
        boxes = np.array([box, *self.boxes.values()])
        return around(boxes, self.window.frame_size, inference_size, share)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns it as arrays that a file can hold."""
        values = (
            np.array([*self.window.scaled_size, *self.window.box], np.int32),
            self.image,
            self.ids,
            np.array(list(self.boxes), np.int32),
            np.array(list(self.boxes.values()), np.float32).reshape(-1, 4),
        )
        return dict(zip(SEEN, values))

    @classmethod
    def restored(
        cls,
        arrays: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
        frame_size: tuple[int, int],
        inference_size: int | None,
        share: float,
    ) -> Seen:
        """Returns what `arrays` was made of.

        Args:
          arrays: holds them, perhaps beside others.
          state: the flat state of the same frame.
          frame_size: height and width of the video.
          inference_size: see `whole`.
          share: see `around`; 0 for whole frames.

        Raises:
          InputError: arrays are missing, or do not fit each other and the state.
        """
        if not share:
            return cls(whole(frame_size, inference_size))
        _check(arrays, state, frame_size)
        height, width, *box = (int(value) for value in arrays["seen_window"])
        boxes = zip(arrays["seen_box_ids"].tolist(), map(tuple, arrays["seen_boxes"].tolist()))
        return cls(
            Window(frame_size, (height, width), tuple(box)),
            np.array(arrays["seen_image"]),
            np.array(arrays["seen_ids"]),
            dict(boxes),
        )


def _check(
    arrays: Mapping[str, np.ndarray], state: Mapping[str, Any], frame_size: tuple[int, int]
) -> None:
    """Raises InputError unless the arrays are those of `Seen` and fit each other and the state."""
    shapes = {"seen_window": (6,), "seen_image": (*frame_size, 3), "seen_ids": frame_size}
    for name, kind in SEEN.items():
        array = arrays.get(name)
        if (
            array is None
            or array.dtype.kind != kind
            or shapes.get(name, array.shape) != array.shape
        ):
            raise InputError(f"restore: expected what state() returns, found another {name}")
    height, width, top, bottom, left, right = (int(value) for value in arrays["seen_window"])
    grid = tuple(-(-length // _STRIDE) for length in (bottom - top, right - left))
    object_ids = [i for i in np.asarray(state["object_ids"]).tolist() if i]
    fits = (
        0 <= top < bottom < height + _ALIGNMENT
        and 0 <= left < right < width + _ALIGNMENT
        and np.shape(state["previous_indices"]) == grid
        and arrays["seen_boxes"].shape == (len(object_ids), 4)
        and sorted(arrays["seen_box_ids"].tolist()) == object_ids
    )
    if not fits:
        raise InputError("restore: expected entries that fit each other, found another window")


def _wider(box: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...]:
    top, bottom, left, right = box
    down, across = _WIDENING * (bottom - top), _WIDENING * (right - left)
    height, width = size
    return (
        max(0.0, top - down),
        min(float(height), bottom + down),
        max(0.0, left - across),
        min(float(width), right + across),
    )


def check_one_scale(state: Mapping[str, Any]) -> None:
    """Raises InputError for the flat state of a model with several scales, which has no window."""
    grids = {np.shape(state[f"previous_indices{look}"]) for look in _looks(state)}
    if len(grids) > 1:
        raise InputError(
            "window: expected 0 with a model of several scales (Predictor.scales), found a share"
        )


def _looks(state: Mapping[str, Any]) -> list[str]:
    """Returns how the entries of a flat state end that belong to each look at a frame."""
    first = "previous_indices"
    return [name[len(first) :] for name in state if name.startswith(first)]


def moved(state: Mapping[str, Any], old: Window, new: Window) -> dict[str, Any]:
    """Returns a flat state in which the last frame is seen through another window of its scale.

    What the old window did not show is no object's there, and background in the fed back masks.
    """
    rows, columns = (
        (
            old.box[i] // _STRIDE - new.box[i] // _STRIDE,
            (new.box[i + 1] - new.box[i]) // _STRIDE + 1,
        )
        for i in (0, 2)
    )

    def shifted(grid: np.ndarray, fill: float) -> np.ndarray:
        result = np.full((rows[1], columns[1], *grid.shape[2:]), fill, grid.dtype)
        source, target = [], []
        for (shift, size), length in zip((rows, columns), grid.shape):
            begin, end = max(0, shift), min(size, shift + length)
            target.append(slice(begin, max(begin, end)))
            source.append(slice(begin - shift, max(begin, end) - shift))
        result[tuple(target)] = grid[tuple(source)]
        return result

    after = dict(state)
    for look in _looks(state):
        embeddings, indices, fed_back = (
            np.asarray(state[f"previous_{name}{look}"])
            for name in ("embeddings", "indices", "masks")
        )
        after[f"previous_embeddings{look}"] = shifted(embeddings, 0)
        after[f"previous_indices{look}"] = shifted(indices, _NO_OBJECT)
        after[f"previous_masks{look}"] = np.stack(
            [shifted(mask, not i) for i, mask in enumerate(fed_back)]
        )
    return after


def looked_at(
    model: Any, state: Mapping[str, Any], seen: Seen, window: Window, remember: bool
) -> dict[str, Any]:
    """Returns a flat state in which the last frame is seen through any window.

    The network computes the frame's embeddings anew; its given references stay.

    Args:
      model: a `Predictor`, or a SavedModel of one.
      state: after the last frame.
      seen: of that frame.
      window: to look through.
      remember: whether the memory, if there is one, takes pixels of what is seen. Without them, all
        that frames at a new scale are matched with globally is of another scale.
    """
    object_ids = np.asarray(state["object_ids"])
    shown = window.mask(seen.ids)
    is_empty = not np.isin(shown, object_ids[object_ids > 0]).any()
    if is_empty:  # `start` needs an object.
        shown = np.array(shown)
        shown[0, 0] = object_ids[-1]
    started = model.start(window.image(seen.image), shown)
    position = np.searchsorted(object_ids, np.asarray(started["object_ids"]))
    found = np.asarray(started["previous_indices"])
    indices = np.where(found < 0, _NO_OBJECT, position[np.maximum(found, 0)]).astype(np.int32)
    if is_empty:
        indices[:] = 0
    fed_back = np.arange(len(object_ids))[:, np.newaxis, np.newaxis] == indices
    after = dict(state)
    for look in _looks(state):
        after[f"previous_embeddings{look}"] = started[f"previous_embeddings{look}"]
        after[f"previous_indices{look}"] = indices
        after[f"previous_masks{look}"] = fed_back.astype(np.float32)
        if remember and not is_empty and f"memory_embeddings{look}" in state:
            after.update(_remembered(state, started, position, look))
    return after


def _remembered(
    state: Mapping[str, Any], started: Mapping[str, Any], position: np.ndarray, look: str
) -> dict[str, Any]:
    """Returns the memory of a flat state with the pixels that another one has as a reference.

    Args:
      state: whose memory it is.
      started: the other one.
      position: of each of its objects in `state`.
      look: see `_looks`.
    """
    # Here: TensorFlow is not to be waited for where a flag is wrong.
    from feelvos_tf.inference.reference_pixels import joined
    from feelvos_tf.models.global_matching import Reference

    num_objects = len(state["object_ids"])
    sizes = np.zeros(num_objects, np.int32)
    sizes[position] = np.diff(started[f"reference_offsets{look}"])
    offsets = np.append(0, sizes.cumsum()).astype(np.int32)
    seen = Reference(started[f"reference_embeddings{look}"], offsets)
    memory = Reference(state[f"memory_embeddings{look}"], state[f"memory_offsets{look}"])
    memory = joined(memory, seen, np.zeros(num_objects, bool), 0)
    return {f"memory_{name}{look}": value for name, value in memory._asdict().items()}


def model_size(frame_size: tuple[int, ...], inference_size: int | None) -> tuple[int, int]:
    """Returns the [height, width] at which the model runs.

    Args:
      frame_size: height and width of the frames.
      inference_size: pixels on the short side while the model runs; None for the frames' own.
    """
    height, width = frame_size
    scale = inference_size / min(frame_size) if inference_size else 1
    return max(1, round(height * scale)), max(1, round(width * scale))


def scaled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the image at [height, width] `size`, averaged where it shrinks."""
    if size == image.shape[:2]:
        return image
    shrinks = size[0] < image.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation)


def downsample_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask at [height, width] `size`, uint8, in which no object of `mask` is lost.

    Nearest neighbor. An object too small for the grid gets the one pixel that holds its middle;
    where that is another object's only pixel, the nearest one that is not.
    """
    if size == mask.shape:
        return mask
    result = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    for lost in np.setdiff1d(mask, [*np.unique(result), VOID]):
        result[_pixel_to_spare(result, mask == lost)] = lost
    return result


def _pixel_to_spare(grid: np.ndarray, own: np.ndarray) -> tuple[int, int]:
    """Returns row and column of the pixel of `grid` that an object can have.

    Args:
      grid: the mask made smaller, uint8 [h, w].
      own: where the object was, bool [height, width].
    """
    rows, columns = np.nonzero(own)
    middle = len(rows) // 2
    row = rows[middle] * grid.shape[0] // own.shape[0]
    column = columns[middle] * grid.shape[1] // own.shape[1]
    distance = (np.arange(grid.shape[0]) - row)[:, None] ** 2 + (
        np.arange(grid.shape[1]) - column
    ) ** 2
    only_one = (np.bincount(grid.ravel(), minlength=VOID + 1) == 1)[grid] & (grid != VOID)
    distance[only_one] = np.iinfo(distance.dtype).max
    row, column = np.unravel_index(distance.argmin(), grid.shape)
    return int(row), int(column)

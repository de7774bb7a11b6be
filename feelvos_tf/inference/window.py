"""The window: the part of a frame that the network processes, at a scale of its own.

Objects fill a small part of most frames. The gate (`gating.py`) drops what appears far from their
previous masks anyway, so it need not be processed, and small objects deserve a higher resolution.
Neither the paper nor the 2019 release has a window.

The network's state holds the part of the last frame that the window showed. When the window moves,
that part is shifted; when its scale changes, the network sees the last frame again.
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
# Windows start at a multiple of 8, the network's largest stride, and end one pixel after another:
# the points of its grids then lie on the same pixels in all windows of one scale.
_ALIGNMENT = 8
# Few different sizes, since each new one makes a frame slower.
_SIZE_STEP = 32
# Grid points around an object: how far the gate lets it move, plus what the head sees.
_MARGIN = 27
# Additional context, as a share of the object's size.
_CONTEXT = 0.25
# Relative to the scale of the whole frame.
_MAX_ENLARGEMENT = 2.0
# Smallest side, as the root of the area, to which an object's box may be reduced, in pixels.
_LEAST_SIDE = 128
# A new scale costs another pass over the last frame.
_LEAST_CHANGE_OF_SCALE = 1.3
_NO_OBJECT = -1  # As in `object_labels`, which would import TensorFlow.
# The network sees no side longer than this many times the size of the short side.
_LARGEST_RATIO = 8
# Growth of a lost object's box per frame and side, as a share of its size.
_WIDENING = 0.25


class Window(NamedTuple):
    """The part of the frame that the network sees.

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
        # Alignment may put the last pixels of a window outside the frame.
        outside = max(0, bottom - height), max(0, right - width)
        if not any(outside):
            return part
        return cv2.copyMakeBorder(part, 0, outside[0], 0, outside[1], cv2.BORDER_REPLICATE)

    def upsampled(self, plane: np.ndarray, outside: float) -> np.ndarray:
        """Returns the window's values on the whole frame, float32 [height, width], bilinear.

        Args:
          plane: float32 [h, w] of the window.
          outside: value outside the window.
        """
        whole = self._pasted(plane, outside, self.scaled_size, 1)
        if whole.shape == self.frame_size:
            return whole
        return cv2.resize(whole, self.frame_size[::-1], interpolation=cv2.INTER_LINEAR)

    def upsampled_argmax(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the most probable channel in the whole frame, uint8 [height, width].

        Channels are enlarged one at a time, so that memory does not grow with objects.
        Outside the window it is the first channel.

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
        """Returns values on the window's stride-4 grid on the grid of the whole scaled frame."""
        return self._pasted(plane, outside, tuple(map(_grid, self.scaled_size)), _STRIDE)

    def _pasted(
        self, plane: np.ndarray, outside: float, size: tuple[int, int], stride: int
    ) -> np.ndarray:
        whole = np.full(size, outside, np.float32)
        part = whole[self.box[0] // stride :, self.box[2] // stride :]
        part = part[: plane.shape[0], : plane.shape[1]]
        part[:] = plane[: part.shape[0], : part.shape[1]]
        return whole

    def holds(self, box: Sequence[float]) -> bool:
        """Returns whether a box (top, bottom, left, right in the frame) lies in the window."""
        top, bottom, left, right = np.multiply(box, self.scale)
        first_row, end_row, first_column, end_column = self.box
        return (
            first_row <= top and bottom <= end_row and first_column <= left and right <= end_column
        )

    def has_grid(self, grid: tuple[int, int]) -> bool:
        """Returns whether it lies in the frame and its stride-4 grid has this height and width."""
        top, bottom, left, right = self.box
        height, width = self.scaled_size
        return (
            0 <= top < bottom < height + _ALIGNMENT
            and 0 <= left < right < width + _ALIGNMENT
            and grid == (_grid(bottom - top), _grid(right - left))
        )


def whole(frame_size: tuple[int, int], inference_size: int | None) -> Window:
    """Returns a window that shows the whole frame.

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
    may_reduce: bool = True,
) -> Window:
    """Returns the window around some objects.

    It has as many pixels as `share` allows: small objects are enlarged, and large ones reduced. If
    none may be reduced, it has more pixels, up to the whole frame's.

    Args:
      boxes: float [objects, 4]: top, bottom, left, right of each in the frame.
      frame_size: height and width of the frames.
      inference_size: see `whole`.
      share: of the whole frame's pixels.
      scale: of the last window, kept unless another one is much better.
      may_reduce: whether objects may be seen smaller than in the whole frame, as far as
        `_LEAST_SIDE` allows.
    """
    height, width = model_size(frame_size, inference_size)
    box = boxes[:, 0].min(), boxes[:, 1].max(), boxes[:, 2].min(), boxes[:, 3].max()
    scale_of_whole = height / frame_size[0]
    sides = np.sqrt((boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])) * scale_of_whole
    least = np.clip(_LEAST_SIDE / max(sides.min(), 1), np.sqrt(share), 1) if may_reduce else 1
    limits = scale_of_whole * least, scale_of_whole * _MAX_ENLARGEMENT
    best = _best_scale(box, frame_size, limits, share * height * width)
    if scale is None or not 1 / _LEAST_CHANGE_OF_SCALE < best / scale < _LEAST_CHANGE_OF_SCALE:
        scale = best
    # The scale is derived from the height, so that a window's scale reproduces its size.
    scale = max(1, round(frame_size[0] * scale)) / frame_size[0]
    scaled_size = tuple(max(1, round(side * scale)) for side in frame_size)
    spans = [
        _aligned(begin * scale, end * scale, side)
        for (begin, end), side in zip(_with_margin(box, frame_size, scale), scaled_size)
    ]
    return Window(frame_size, scaled_size, (*spans[0], *spans[1]))


def _best_scale(
    box: tuple[float, ...], frame_size: tuple[int, int], limits: tuple[float, float], pixels: float
) -> float:
    """Returns the scale at which the window has `pixels` pixels, clipped to its limits."""
    low, high = limits
    for _ in range(20):
        middle = (low + high) / 2
        spans = _with_margin(box, frame_size, middle)
        area = np.prod([(end - begin) * middle for begin, end in spans])
        low, high = (low, middle) if area > pixels else (middle, high)
    return low


def _with_margin(
    box: tuple[float, ...], frame_size: tuple[int, int], scale: float
) -> list[tuple[float, float]]:
    """Returns the row and column ranges of a box plus its margin, clipped to the frame."""
    top, bottom, left, right = box
    margin = _MARGIN * _STRIDE / scale + _CONTEXT * np.sqrt((bottom - top) * (right - left))
    height, width = frame_size
    return [
        (max(0.0, top - margin), min(float(height), bottom + margin)),
        (max(0.0, left - margin), min(float(width), right + margin)),
    ]


def _aligned(begin: float, end: float, side: int) -> tuple[int, int]:
    """Returns an aligned pixel range around a range; it may end outside the frame."""
    largest = -(-(side - 1) // _ALIGNMENT) * _ALIGNMENT
    size = min(int(-(-(end - begin) // _SIZE_STEP)) * _SIZE_STEP, largest)
    first = round((begin + end - size) / 2 / _ALIGNMENT) * _ALIGNMENT
    first = int(np.clip(first, 0, largest - size))
    if end > side - 1:  # Rounding down must not cut off the frame's last pixels.
        first = largest - size
    return first, first + size + 1


class Seen(NamedTuple):
    """What was last seen of a video.

    Attributes:
      window: through which the network saw the last frame.
      image: the last frame, uint8 [height, width, 3]; None if windows are whole frames.
      ids: uint8 [height, width] of that frame; None likewise.
      boxes: object id -> top, bottom, left, right of its last appearance, grown in every frame
        since, because a lost object may reappear anywhere.
    """

    window: Window
    image: np.ndarray | None = None
    ids: np.ndarray | None = None
    boxes: Mapping[int, tuple[float, ...]] = {}

    @classmethod
    def of(
        cls, image: np.ndarray, mask: np.ndarray, inference_size: int | None, share: float
    ) -> Seen:
        """Returns what is seen of the first frame, given a mask with at least one object."""
        everything = cls(whole(mask.shape, inference_size))
        if not share:
            return everything
        object_ids = np.unique(mask[mask != VOID]).tolist()
        seen = everything.updated(mask, object_ids, image)
        return seen._replace(window=seen.next_window(object_ids, inference_size, share))

    def updated(
        self, ids: np.ndarray, object_ids: Sequence[int], image: np.ndarray | None = None
    ) -> Seen:
        """Returns what is seen after the next frame or, without an image, after an edit.

        Args:
          ids: uint8 [height, width]; copied.
          object_ids: the ids that are followed.
          image: uint8 [height, width, 3]; copied.
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
        """Returns the window for the next frame."""
        # Without background, objects are everywhere; with background alone, they are nowhere.
        if not share or 0 not in object_ids or not self.boxes:
            return self.window
        boxes = np.array(list(self.boxes.values()))
        size, scale = self.window.frame_size, self.window.scale
        # The box of a lost object has grown; the object has not.
        is_none_lost = set(self.boxes) <= set(masks.object_ids(self.ids))
        return around(boxes, size, inference_size, share, scale, is_none_lost)

    def window_with(self, mask: np.ndarray, inference_size: int | None, share: float) -> Window:
        """Returns a window of the last frame that shows the objects of a mask as well."""
        box = masks.bounds(masks.is_object(mask))
        if box is None or self.window.holds(box):
            return self.window
        boxes = np.array([box, *self.boxes.values()])
        # `box` may hold several objects, all of them small.
        return around(boxes, self.window.frame_size, inference_size, share, may_reduce=False)


def _wider(box: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...]:
    top, bottom, left, right = box
    down, across = _WIDENING * (bottom - top), _WIDENING * (right - left)
    wider = np.add(box, (-down, down, -across, across))
    return tuple(np.clip(wider, 0, np.repeat(size, 2)).tolist())


def check_one_scale(state: Mapping[str, Any]) -> None:
    """Raises InputError if a flat state has several scales, which rules out a window."""
    grids = {np.shape(state[f"previous_indices{look}"]) for look in looks(state)}
    if len(grids) > 1:
        raise InputError(
            "window: expected 0 with a model of several scales (Predictor.scales), found a share"
        )


def looks(state: Mapping[str, Any]) -> list[str]:
    """Returns the suffix of a flat state's entries for each look at a frame."""
    first = "previous_indices"
    return [name[len(first) :] for name in state if name.startswith(first)]


def moved(state: Mapping[str, Any], old: Window, new: Window) -> dict[str, Any]:
    """Returns a flat state with the last frame seen through another window of the same scale.

    Pixels outside the old window belong to no object, and to the background in the masks fed back.
    """
    begins, ends = np.minimum(old.box, new.box)[::2], np.maximum(old.box, new.box)[1::2]

    def place(window: Window) -> tuple[slice, ...]:
        """Returns the rows and columns of a window on a grid that holds both windows."""
        first, end = (_grid(np.subtract(window.box[i::2], begins)) for i in (0, 1))
        return tuple(map(slice, first, end))

    def shifted(grid: np.ndarray, fill: float) -> np.ndarray:
        both = np.full((*_grid(ends - begins), *grid.shape[2:]), fill, grid.dtype)
        both[place(old)] = grid
        return both[place(new)]

    after = dict(state)
    for look in looks(state):
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
    """Returns a flat state with the last frame seen through any window.

    The network recomputes the frame's embeddings; the given references stay.

    Args:
      model: a `Predictor`, or a SavedModel of one.
      state: after the last frame.
      seen: of that frame.
      window: to look through.
      remember: whether pixels of the last frame join the memory, if there is one. Otherwise frames
        at a new scale would be matched globally with pixels of other scales only.
    """
    object_ids = np.asarray(state["object_ids"])
    shown = window.mask(seen.ids)
    is_empty = not np.isin(shown, object_ids[object_ids > 0]).any()
    if is_empty:  # `start` needs an object.
        shown = np.array(shown)
        shown[0, 0] = object_ids[-1] or 1
    started = model.start(window.image(seen.image), shown)
    position = np.searchsorted(object_ids, np.asarray(started["object_ids"]))
    found = np.asarray(started["previous_indices"])
    indices = np.where(found < 0, _NO_OBJECT, position[np.maximum(found, 0)]).astype(np.int32)
    if is_empty:
        indices[:] = 0
    fed_back = np.arange(len(object_ids))[:, np.newaxis, np.newaxis] == indices
    after = dict(state)
    for look in looks(state):
        after[f"previous_embeddings{look}"] = started[f"previous_embeddings{look}"]
        after[f"previous_indices{look}"] = indices
        after[f"previous_masks{look}"] = fed_back.astype(np.float32)
        if remember and not is_empty and f"memory_embeddings{look}" in state:
            after.update(_remembered(state, started, position, look))
    return after


def _remembered(
    state: Mapping[str, Any], started: Mapping[str, Any], position: np.ndarray, look: str
) -> dict[str, Any]:
    """Returns the memory entries of a flat state plus the reference pixels of another state.

    Args:
      state: the state with the memory.
      started: the state with the reference pixels.
      position: index in `state` of each object of `started`.
      look: see `looks`.
    """
    # Imported here so that a wrong flag is reported without waiting for TensorFlow.
    from feelvos_tf.inference.reference_pixels import joined
    from feelvos_tf.models.global_matching import Reference

    num_objects = len(state["object_ids"])
    sizes = np.zeros(num_objects, np.int32)
    sizes[position] = np.diff(started[f"reference_offsets{look}"])
    offsets = np.append(0, sizes.cumsum()).astype(np.int32)
    seen = Reference(started[f"reference_embeddings{look}"], offsets)
    memory = Reference(state[f"memory_embeddings{look}"], state[f"memory_offsets{look}"])
    memory = joined(memory, seen)
    return {f"memory_{name}{look}": value for name, value in memory._asdict().items()}


def _grid(pixels: Any) -> Any:
    """Returns how many points of the stride-4 grid lie on so many pixels."""
    return -(-pixels // _STRIDE)


def model_size(frame_size: tuple[int, ...], inference_size: int | None) -> tuple[int, int]:
    """Returns the [height, width] at which the model runs.

    Args:
      frame_size: height and width of the frames.
      inference_size: pixels on the short side while the model runs, fewer if the long side would
        be more than eight times as long; None for the frames' own.
    """
    height, width = frame_size
    scale = inference_size / min(frame_size) if inference_size else 1
    longest = _LARGEST_RATIO * (inference_size or max(frame_size))
    scale = min(scale, longest / max(frame_size))
    return max(1, round(height * scale)), max(1, round(width * scale))


def scaled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the image at [height, width] `size`, averaged when it shrinks."""
    if size == image.shape[:2]:
        return image
    shrinks = size[0] < image.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation)


def downsample_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask at [height, width] `size`, uint8, without losing any object.

    Nearest neighbor. An object too small for the grid gets the pixel at its middle or, if that is
    another object's only pixel, the nearest pixel that is not.
    """
    if size == mask.shape:
        return mask
    result = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    for lost in np.setdiff1d(mask, [*np.unique(result), VOID]):
        result[_pixel_to_spare(result, mask == lost)] = lost
    return result


def _pixel_to_spare(grid: np.ndarray, own: np.ndarray) -> tuple[int, int]:
    """Returns row and column of the pixel of `grid` to give to an object.

    Args:
      grid: the downsampled mask, uint8 [h, w].
      own: where the object was, bool [height, width].
    """
    rows, columns = np.nonzero(own)
    middle = len(rows) // 2
    row = rows[middle] * grid.shape[0] // own.shape[0]
    column = columns[middle] * grid.shape[1] // own.shape[1]
    all_rows, all_columns = np.ogrid[: grid.shape[0], : grid.shape[1]]
    distance = (all_rows - row) ** 2 + (all_columns - column) ** 2
    only_one = (np.bincount(grid.ravel(), minlength=VOID + 1) == 1)[grid] & (grid != VOID)
    distance[only_one] = np.iinfo(distance.dtype).max
    return np.unravel_index(distance.argmin(), grid.shape)

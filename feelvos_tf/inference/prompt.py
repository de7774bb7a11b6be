"""Masks of single objects from clicks, scribbles and boxes, with the unmodified network.

The marked pixels act as the first frame, with which the image is matched; the image itself, with
the mask so far, acts as the previous frame. Neither the paper nor the release has clicks; README.md
in this folder lists their accuracy.

1. The first marks are evaluated together. Pixels whose embedding is much nearer to those marked as
   object or to those marked as background become additional references, like the memory of a video,
   with which the network segments the image at a small size, in a window around what is near the
   object; then it refines the outline at the model's size, in a window around the result.
2. Each later mark corrects the mask so far, in a window around the mark. Only the changes connected
   to the mark are applied, so that more marks do no harm elsewhere.
3. The outline moves to nearby edges of the image.

Features are computed once per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.arguments import ImageLike, MaskLike, as_image, as_mask
from feelvos_tf.inference.window import model_size, scaled
from feelvos_tf.media import masks, outline
from feelvos_tf.media.points import numbers, signs

_COARSE_SIZE, _FINEST_SIZE = 240, 480  # Pixels on the short side.
_UNKNOWN = -1
_GUESSED = 3  # Number of marks that are evaluated together.
_STROKE = 0.03  # Share of the image's long side: points closer than this belong to one stroke.
_LARGEST_HOLE = 0.05  # Share of the object: smaller holes are filled unless they are marked.
# Pixels that become references: least probability, and number for object and background each.
_CONFIDENT, _SAMPLES = 0.9, 64
_CONTRAST = 1.5  # Log-odds of the object per difference between the squared distances to the marks.
_NO_MARK_DISTANCE = 100.0
_SEED = 0.5  # Share of the axes of a box's ellipse that is taken for the object at first.
_SHARE_OF_GAP = 0.4  # Limits a mark's radius, relative to the nearest mark of the other label.
# In pixels of the stride-4 grid: a mark's largest and smallest radius; margins of the windows
# around the object, at the small size and at the model's; reach of a correction; radius around a
# mark within which the old mask is ignored, at first and if that is not enough.
_DISC_RADIUS, _LEAST_RADIUS = 2.0, 1.25
_COARSE_MARGIN, _MARGIN, _REACH, _DOUBTS = 15, 10, 30, (8, 16)
_AROUND_CHANGE = 13  # Pixels: side of the square around a change in which the outline may move.

_Window = tuple[slice, slice]


class _Grid(NamedTuple):
    """Features of an image, or of a window of it, at one size.

    Attributes:
      features, embeddings: tensors [h, w, channels] at stride 4.
    """

    features: Any
    embeddings: Any

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return tuple(self.embeddings.shape[:2])


class Prompter:
    """Turns marks on images into masks; keeps the features of the latest image.

    Example:
      prompter = feelvos_tf.load().prompter()
      mask = prompter(image, points=[[420, 180]], labels=[1])
      mask = prompter(image, points=[[420, 180], [300, 240]], labels=[1, 0])
    """

    def __init__(self, model: Any, inference_size: int | None):
        """Stores the model.

        Args:
          model: a `Predictor`, or a SavedModel of one.
          inference_size: pixels on the short side of images while the model runs, at most 480;
            None for the images' own.
        """
        self._model, self._inference_size = model, inference_size
        self._image: np.ndarray | None = None
        self._grids: list[_Grid] = []
        self._edges: np.ndarray | None = None  # The image at the size at which outlines are moved.
        self._last: tuple[_Marks, np.ndarray] | None = None

    def prepare(self, image: ImageLike) -> None:
        """Computes the features of an image, unless it is the latest one.

        Args:
          image: uint8 [height, width, 3] RGB.

        Raises:
          InputError: the model is a SavedModel without the functions for clicks.
        """
        image = as_image(image)
        if self._image is not None and np.array_equal(image, self._image):
            return
        if not hasattr(self._model, "segment_marked"):
            raise InputError("expected a model with clicks, found an older one: export it again")
        finest = min(self._inference_size or min(image.shape[:2]), _FINEST_SIZE)
        sizes = [model_size(image.shape[:2], size) for size in (min(_COARSE_SIZE, finest), finest)]
        self._grids = [_Grid(*self._model.features(scaled(image, s))) for s in dict.fromkeys(sizes)]
        self._image, self._last = image.copy(), None
        smaller = model_size(image.shape[:2], min(finest, *image.shape[:2]))
        self._edges = scaled(self._image, smaller)

    def __call__(
        self,
        image: ImageLike,
        points: Sequence[Sequence[float]] | np.ndarray = (),
        labels: Sequence[int] | np.ndarray = (),
        box: Sequence[float] | np.ndarray | None = None,
        mask: MaskLike | None = None,
    ) -> np.ndarray:
        """Returns an object's mask, uint8 [height, width], 1 on the object and 0 elsewhere.

        Args:
          image: uint8 [height, width, 3] RGB.
          points: [n, 2] x, y in pixels: clicks, or points along a scribble.
          labels: [n], 1 on the object, 0 outside it.
          box: left, top, right, bottom in pixels; nothing outside belongs to the object.
          mask: [height, width], nonzero on the object: a mask for the points to correct.

        Raises:
          InputError: an argument has the wrong shape, a point or the whole box is outside the
            image, or nothing marks the object.
        """
        image = as_image(image)
        mask = None if mask is None else as_mask(mask, image.shape[:2])
        marks = checked(image.shape[:2], points, labels, box, mask is not None)
        self.prepare(image)
        if mask is not None:
            return self._snapped(marks, self._corrected(marks, mask != 0), mask != 0)
        if self._last is None or not marks.begins_with(self._last[0]):
            first = marks.part(0, marks.ends()[:_GUESSED][-1])
            self._last = first, self._guessed(first)
        done, result = self._last
        begin = len(done.points)
        for end in marks.ends():
            if end > begin:
                result, begin = self._corrected(marks.part(begin, end), result), end
        self._last = marks, result
        return self._snapped(marks, result, None)

    def _guessed(self, marks: _Marks) -> np.ndarray:
        """Returns the mask found from the marks alone, bool [height, width]."""
        probability = self._guess(marks)
        for grid in self._grids[1:]:
            probability = self._refined(grid, marks, probability)
        return marks.solid(_resized(probability, marks.size) > 0.5)

    def _guess(self, marks: _Marks) -> np.ndarray:
        """Returns the object's probability on the coarse grid, float32 [h, w]."""
        grid = self._grids[0]
        known = _with_edge(marks.on(grid.size))
        seeds = marks.with_ellipse(known)
        nearness = marks.inside(_nearness(np.asarray(grid.embeddings), seeds))
        asked, before = _with_confident(known, nearness)
        # In front of a similar background, nothing in a box may be confident.
        asked = asked if (asked == 1).any() else seeds
        window = masks.around(marks.solid(nearness > 0.5) | (known == 1), _COARSE_MARGIN)
        if not (asked[window] == 0).any():
            window = np.s_[:, :]
        return marks.inside(self._segmented(grid, window, asked[window], before[window]))

    def _refined(self, grid: _Grid, marks: _Marks, probability: np.ndarray) -> np.ndarray:
        """Returns the probability on a finer grid, computed in the window around the object."""
        before = _resized(probability, grid.size)
        before = np.where(marks.solid(before > 0.5), before, np.minimum(before, 0.5))
        known = marks.on(grid.size)
        window = masks.around((before > 0.5) | (known == 1), _MARGIN)
        known = _with_edge(known[window], before[window])
        asked = _with_confident(known, before[window])
        return marks.inside(self._segmented(grid, window, *asked))

    def _corrected(self, marks: _Marks, mask: np.ndarray) -> np.ndarray:
        """Returns a mask, bool [height, width], changed only where the points lie on changes."""
        grid = self._grids[-1]
        known, before = marks.on(grid.size), _resized(mask.astype(np.float32), grid.size)
        window = masks.around(known != _UNKNOWN, _REACH)
        for doubt in _DOUBTS:
            doubtful = marks.on(grid.size, doubt)
            asked = _with_confident(known[window], before[window], doubtful[window] != _UNKNOWN)
            after = self._segmented(grid, window, *asked, before)
            result = marks.changed(mask, _resized(after, marks.size) > 0.5)
            if marks.agree(result):
                break
            before = np.where(doubtful == _UNKNOWN, before, doubtful).astype(np.float32)
        return marks.drawn(result)

    def _snapped(self, marks: _Marks, mask: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """Returns the mask, uint8 [height, width], with its outline at edges of the image.

        Args:
          marks: which the result agrees with.
          mask: bool [height, width].
          before: bool [height, width], a mask whose outline stays where `mask` has not changed it.
        """
        size = self._edges.shape[:2]
        small = _resized(mask, size) > 0.5
        known = marks.on(size)
        if before is not None:
            around = np.ones((_AROUND_CHANGE, _AROUND_CHANGE), np.uint8)
            is_near = cv2.dilate(np.float32(_resized(mask != before, size) > 0), around) > 0
            known = np.where((known < 0) & ~is_near, small, known)
        known = np.where((known < 0) & ~small & ~marks.is_inside(size), 0, known)
        snapped = outline.snap(self._edges, small, known)
        has_moved = _resized(snapped != small, marks.size) > 0
        return np.where(has_moved, _resized(snapped, marks.size) > 0.5, mask).astype(np.uint8)

    def _segmented(
        self,
        grid: _Grid,
        window: _Window,
        known: np.ndarray,
        before: np.ndarray,
        outside: np.ndarray | float = 0.0,
    ) -> np.ndarray:
        """Returns the object's probability after one pass of the network, float32 [h, w].

        Args:
          grid: of the image.
          window: what is segmented.
          known: int32 of the window, 1 on the object, 0 outside it, `_UNKNOWN` elsewhere.
          before: its probability so far, float32, `_UNKNOWN` where unknown.
          outside: the probability outside the window.
        """
        log_odds = self._model.segment_marked(
            grid.features[window],
            grid.embeddings[window],
            known.astype(np.int32),
            before.astype(np.float32),
        )
        result = np.full(grid.size, outside, np.float32)
        result[window] = _sigmoid(np.asarray(log_odds))
        return result


class _Marks(NamedTuple):
    """Marks on an image.

    Attributes:
      size: height and width of the image.
      points: float32 [n, 2] x, y in its pixels.
      labels: int32 [n], 1 on the object, 0 outside it.
      box: float32 [4] left, top, right, bottom, or None.
    """

    size: tuple[int, int]
    points: np.ndarray
    labels: np.ndarray
    box: np.ndarray | None

    def part(self, begin: int, end: int) -> _Marks:
        """Returns a range of the points, with the box."""
        return self._replace(points=self.points[begin:end], labels=self.labels[begin:end])

    def begins_with(self, other: _Marks) -> bool:
        """Returns whether these are `other` plus later marks, so that its result can be reused."""
        first = self.part(0, len(other.points))
        pairs = zip(first[1:], other[1:])
        return len(other.points) >= self.ends()[:_GUESSED][-1] and all(
            np.array_equal(mine, its) for mine, its in pairs
        )

    def ends(self) -> list[int]:
        """Returns the number of points up to the end of each click or stroke.

        Consecutive points of a stroke are close together.
        """
        steps = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        is_end = (steps > _STROKE * max(self.size)) | (np.diff(self.labels) != 0)
        return [*(np.flatnonzero(is_end) + 1), len(self.points)]

    def on(self, grid: tuple[int, int], radius: float = _DISC_RADIUS) -> np.ndarray:
        """Returns what the points mark on a grid, int32 [h, w], `_UNKNOWN` elsewhere."""
        known = np.full(grid, _UNKNOWN, np.int32)
        places = self.points * _scale(self.size, grid)
        gaps = np.linalg.norm(places[:, None] - places, axis=-1)
        gaps[self.labels[:, None] == self.labels] = np.inf
        # Discs of different labels must not touch.
        radii = np.clip(_SHARE_OF_GAP * gaps.min(1, initial=np.inf), _LEAST_RADIUS, radius)
        rows, columns = np.ogrid[: grid[0], : grid[1]]
        for (x, y), size, label in zip(places, radii, self.labels):
            known[(columns - x) ** 2 + (rows - y) ** 2 <= size**2] = label
        # Exactly marked pixels take precedence over the discs.
        rows, columns = self._pixels(grid)
        known[rows, columns] = self.labels
        return known

    def with_ellipse(self, known: np.ndarray) -> np.ndarray:
        """Returns the known pixels on a grid, plus an ellipse of object inside a box."""
        if self.box is None:
            return known
        left, top, right, bottom = self._box_on(known.shape)
        rows, columns = np.ogrid[: known.shape[0], : known.shape[1]]
        x, y = (left + right) / 2, (top + bottom) / 2
        # Squared elliptical distance, 1 on the box's ellipse.
        ellipse = ((columns - x) / max(x - left, 1)) ** 2 + ((rows - y) / max(y - top, 1)) ** 2
        known = np.where((known < 0) & (ellipse < _SEED**2), 1, known)
        return np.where(self.is_inside(known.shape), known, 0)

    def inside(self, probability: np.ndarray) -> np.ndarray:
        """Returns the probability, set to 0 outside the box."""
        return np.where(self.is_inside(probability.shape), probability, 0).astype(np.float32)

    def is_inside(self, grid: tuple[int, int]) -> np.ndarray:
        """Returns which points of a grid lie in the box, all without one, bool [h, w]."""
        if self.box is None:
            return np.ones(grid, bool)
        left, top, right, bottom = self._box_on(grid)
        rows, columns = np.ogrid[: grid[0], : grid[1]]
        return (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)

    def _box_on(self, grid: tuple[int, int]) -> np.ndarray:
        return self.box * np.tile(_scale(self.size, grid), 2)

    def solid(self, mask: np.ndarray) -> np.ndarray:
        """Returns the marked parts of a mask, bool [h, w], with small holes filled.

        Without a mark on the object, all parts are kept.
        """
        (rows, columns), is_on = self._pixels(mask.shape), self.labels == 1
        _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        kept = np.setdiff1d(parts[rows[is_on], columns[is_on]], [0])
        mask = np.isin(parts, kept) if kept.size else mask
        _, holes, facts, _ = cv2.connectedComponentsWithStats(
            (~mask).astype(np.uint8), connectivity=4
        )
        is_filled = facts[:, cv2.CC_STAT_AREA] < _LARGEST_HOLE * mask.sum()
        is_filled[holes[rows[~is_on], columns[~is_on]]] = False
        for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
            is_filled[edge] = False
        return mask | is_filled[holes]

    def changed(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Returns a mask, bool [height, width], with the changes that the points lie on.

        A point on the object adds the new part around it; one outside removes the lost part.
        """
        result = before.copy()
        rows, columns = self._pixels(before.shape)
        for label, change in ((1, after & ~before), (0, before & ~after)):
            _, parts = cv2.connectedComponents(change.astype(np.uint8), connectivity=8)
            marked = np.setdiff1d(parts[rows, columns][self.labels == label], [0])
            result[np.isin(parts, marked)] = label
        return result

    def agree(self, mask: np.ndarray) -> bool:
        """Returns whether all points are on the right side of a mask, bool [height, width]."""
        return bool((mask[self._pixels(mask.shape)] == self.labels).all())

    def drawn(self, mask: np.ndarray) -> np.ndarray:
        """Returns the mask, bool [height, width], with a dot at each point it still contradicts."""
        result = mask.astype(np.uint8)
        for row, column, label in zip(*self._pixels(mask.shape), self.labels):
            if mask[row, column] != label:
                cv2.circle(result, (int(column), int(row)), max(self.size) // 200, int(label), -1)
        return result != 0

    def _pixels(self, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows and columns of the points on a grid."""
        columns, rows = np.round(self.points * _scale(self.size, grid)).astype(int).T
        return rows, columns


def _scale(size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Returns the factors from x, y in an image to x, y on a grid, with corners aligned."""
    return np.array([(g - 1) / max(s - 1, 1) for s, g in zip(size[::-1], grid[::-1])], np.float32)


def _with_edge(known: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """Returns the known pixels plus the border as background, unless the object reaches it."""
    is_edge = np.ones(known.shape, bool)
    is_edge[1:-1, 1:-1] = False
    if before is not None:
        is_edge &= before <= 0.5
    return np.where(is_edge & (known < 0), 0, known)


def _nearness(embeddings: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the object's probability, float32 [h, w], from the nearest known pixels alone.

    Args:
      embeddings: float32 [h, w, channels].
      known: int32 [h, w], 1 on the object, 0 outside it, `_UNKNOWN` elsewhere.
    """
    pixels = embeddings.reshape(-1, embeddings.shape[-1])
    norms = np.square(pixels).sum(1)

    def distance(label: int) -> np.ndarray:
        is_marked = known.ravel() == label
        similarity = (2 * pixels) @ pixels[is_marked].T
        similarity -= norms[is_marked]  # In place: everything outside a box is marked.
        return np.minimum(norms - similarity.max(1, initial=-np.inf), _NO_MARK_DISTANCE)

    return _sigmoid(_CONTRAST * (distance(0) - distance(1))).reshape(known.shape)


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(log_odds, -30, 30)))


def _with_confident(
    known: np.ndarray, before: np.ndarray, doubtful: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the known pixels plus some confident pixels of the result, and the mask so far.

    Args:
      known: int32 [h, w].
      before: float32 [h, w] probability of the result.
      doubtful: bool [h, w], where the result is ignored.
    """
    mask = np.where(known < 0, before > 0.5, known)
    # Reproducible: the same marks give the same mask.
    random = np.random.default_rng(0)
    result = known.copy()
    for label, probability in ((1, before), (0, 1 - before)):
        is_free = (known < 0) & (probability > _CONFIDENT)
        free = np.flatnonzero(is_free if doubtful is None else is_free & ~doubtful)
        result.flat[random.permutation(free)[:_SAMPLES]] = label
    return result, mask


def _resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a float32 plane at [height, width] `size`."""
    return scaled(np.float32(plane), size)


def checked(
    size: tuple[int, int], points: Any, labels: Any, box: Any, is_correction: bool
) -> _Marks:
    """Returns the arguments of a `Prompter` as arrays.

    Args:
      size: height and width of the image.
      points, labels, box: see `Prompter.__call__`.
      is_correction: whether there is a mask for the points to correct.

    Raises:
      InputError: as `Prompter.__call__` describes.
    """
    points = numbers("points", points, (-1, 2))
    labels = signs("labels", labels, len(points))
    described, last = f"an image of {size[1]}x{size[0]} pixels", np.array(size[::-1]) - 1
    outside = ~((points >= 0) & (points <= last)).all(1)
    if outside.any():
        x, y = points[outside][0]
        raise InputError(f"expected points inside {described}, found {x:g}, {y:g}")
    if box is not None:
        box = numbers("box", box, (4,))
        begin, end = box[:2], box[2:]
        if ((begin >= end) | (begin > last) | (end < 0)).any():
            raise InputError(
                f"expected a box of left, top, right, bottom that overlaps {described}, found "
                f"{box.tolist()}"
            )
        if is_correction:
            raise InputError("expected a box or a mask that the points correct, found both")
    elif not (labels == 1).any() and not (is_correction and labels.size):
        raise InputError("expected a point on the object, or a box around it")
    return _Marks(size, points, labels, box)

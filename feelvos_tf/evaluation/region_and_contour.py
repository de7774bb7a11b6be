"""Region similarity J, contour accuracy F and their statistics, as DAVIS defines them.

J is the intersection over union of two masks; F, the boundary F-measure, compares their contours,
whose pixels match when a disk around one contains a pixel of the other contour (Perazzi et al.,
CVPR 2016, section 5.1). The protocol is the semi-supervised one of the DAVIS 2017 evaluation: every
object of every scored frame gets one J and one F; each object's values become mean, recall and
decay; the means over all objects of all sequences are the score.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import cv2
import numpy as np

from feelvos_tf.media import masks

RECALL_THRESHOLD = 0.5
_DECAY_BINS = 4
_TOLERANCE = 0.008  # Radius of the disk as a fraction of the image diagonal, before rounding up.
_BLOCK = np.ones([2, 2], np.uint8)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of one measure over the frames of an object, or their average over objects.

    Attributes:
      mean: over the frames, in 0..1.
      recall: the share of frames above 0.5.
      decay: the mean of the first quarter of the frames minus that of the last quarter.
    """

    mean: float
    recall: float
    decay: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """The statistics of an object, or their averages; `f` is None where only J is measured."""

    j: Statistics
    f: Statistics | None

    @property
    def j_and_f(self) -> float | None:
        """The mean of J and F, the measure by which DAVIS ranks; None where F is not measured."""
        return None if self.f is None else (self.j.mean + self.f.mean) / 2


@dataclasses.dataclass(frozen=True)
class SequenceScores:
    """The values of one sequence, frame by frame.

    Attributes:
      name: of the sequence.
      objects: the object ids, ascending.
      frames: names of the scored frames, in order.
      j: float64 [objects, frames]; NaN where an object is not scored.
      f: the same for F; None where only J is measured.
      confused: int64 [2]: the sums of `confused_pixels` over all frames.
    """

    name: str
    objects: tuple[int, ...]
    frames: tuple[str, ...]
    j: np.ndarray
    f: np.ndarray | None
    confused: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2, np.int64))

    def by_object(self) -> list[Summary]:
        """Returns the statistics of each object."""
        f = [None] * len(self.j) if self.f is None else map(statistics, self.f)
        return [Summary(statistics(values), each) for values, each in zip(self.j, f)]


def jaccard(ground_truth: np.ndarray, prediction: np.ndarray) -> float:
    """Returns J of two masks, uint8 [height, width] of 0 and 1; 1 if both are empty."""
    union = cv2.countNonZero(cv2.bitwise_or(ground_truth, prediction))
    if union == 0:
        return 1.0
    return cv2.countNonZero(cv2.bitwise_and(ground_truth, prediction)) / union


def tolerance_radius(height: int, width: int) -> int:
    """Returns the distance in pixels at which contours match: 0.008 of the diagonal, rounded up."""
    return int(np.ceil(_TOLERANCE * np.linalg.norm((height, width))))


def contour(mask: np.ndarray) -> np.ndarray:
    """Returns where a mask differs from its right, lower, or lower right neighbor.

    In the last row and column only the neighbors inside the image count, so an object that
    leaves the image has no contour along the image's edge.

    Args:
      mask: uint8 [height, width] of 0 and 1.

    Returns:
      uint8 [height, width] of 0 and 1.
    """
    # A pixel is on the contour if the 2x2 block that starts at it is not constant. OpenCV excludes
    # pixels outside the image from both the maximum and the minimum.
    largest = cv2.dilate(mask, _BLOCK, anchor=(0, 0))
    return cv2.bitwise_xor(largest, cv2.erode(mask, _BLOCK, anchor=(0, 0)))


def f_measure(ground_truth: np.ndarray, prediction: np.ndarray, radius: int) -> float:
    """Returns F, the harmonic mean of the two contours' precision and recall.

    Args:
      ground_truth: contour map uint8 [height, width] of 0 and 1.
      prediction: contour map of the same size.
      radius: distance in pixels up to which contour pixels match.

    Returns:
      F in 0..1. Two empty contours agree fully (1), one empty contour misses all (0).
    """
    truth_pixels = cv2.countNonZero(ground_truth)
    predicted_pixels = cv2.countNonZero(prediction)
    if not truth_pixels or not predicted_pixels:
        return float(truth_pixels == predicted_pixels)
    disk = _disk(radius)
    near_truth = cv2.bitwise_and(prediction, cv2.dilate(ground_truth, disk))
    near_prediction = cv2.bitwise_and(ground_truth, cv2.dilate(prediction, disk))
    precision = cv2.countNonZero(near_truth) / predicted_pixels
    recall = cv2.countNonZero(near_prediction) / truth_pixels
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def score_frame(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    objects: Iterable[int],
    measure_f: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns J and F of each object in one frame, two float64 [objects].

    An id missing from a mask is an empty mask. Void pixels (255) of the ground truth are
    background, and predictions on them count as wrong, as in the semi-supervised protocol.

    Args:
      ground_truth: object ids, uint8 [height, width].
      prediction: object ids of the same size.
      objects: the ids to score.
      measure_f: False leaves F NaN.
    """
    for mask in (ground_truth, prediction):
        if mask.dtype != np.uint8 or mask.ndim != 2:
            raise ValueError(f"expected uint8 ids [height, width], got {mask.dtype} {mask.shape}")
    if ground_truth.shape != prediction.shape:
        raise ValueError(f"masks of different size: {ground_truth.shape} and {prediction.shape}")
    radius = tolerance_radius(*ground_truth.shape)
    scores = []
    for object_id in objects:
        truth, predicted = ground_truth == object_id, prediction == object_id
        # Contours lie at most one pixel outside of the masks. With that margin, only the image's
        # own edge is treated as an edge.
        window = masks.around(truth | predicted, 1)
        truth, predicted = truth[window].view(np.uint8), predicted[window].view(np.uint8)
        f = np.nan
        if measure_f:
            f = f_measure(contour(truth), contour(predicted), radius)
        scores.append((jaccard(truth, predicted), f))
    j, f = np.reshape(np.asarray(scores, np.float64), [-1, 2]).T
    return j, f


def confused_pixels(ground_truth: np.ndarray, prediction: np.ndarray) -> tuple[int, int]:
    """Returns how many pixels of objects were assigned to another object, and how many there are.

    Args:
      ground_truth: object ids, uint8 [height, width], 0 background, 255 void.
      prediction: object ids of the same size.
    """
    inside = masks.is_object(ground_truth)
    confused = inside & (prediction != 0) & (prediction != ground_truth)
    return np.count_nonzero(confused), np.count_nonzero(inside)


def statistics(values: np.ndarray) -> Statistics:
    """Returns mean, recall and decay of one object's values [frames]; NaNs are ignored.

    The four quarters overlap by one frame and are rounded as in the DAVIS evaluation.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return Statistics(np.nan, np.nan, np.nan)
    # The official tool stores these positions in 8 bits, which overflows beyond 256 frames.
    edges = np.round(np.linspace(1, values.size, _DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first = values[edges[0] : edges[1] + 1]
    last = values[edges[-2] : edges[-1] + 1]
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > RECALL_THRESHOLD).mean()),
        decay=float(first.mean() - last.mean()),
    )


def summarize(sequences: Iterable[SequenceScores]) -> Summary:
    """Returns the averages over all objects of all sequences that have a value.

    Objects weigh the same however long their sequences are.
    """
    sequences = list(sequences)
    objects = [one for sequence in sequences for one in sequence.by_object()]
    has_f = all(sequence.f is not None for sequence in sequences)
    return Summary(
        _average([one.j for one in objects]),
        _average([one.f for one in objects]) if has_f else None,
    )


def _average(objects: list[Statistics]) -> Statistics:
    rows = [dataclasses.astuple(one) for one in objects if not np.isnan(one.mean)]
    return Statistics(*np.mean(rows or [[np.nan] * 3], axis=0).tolist())


@functools.lru_cache(maxsize=64)
def _disk(radius: int) -> np.ndarray:
    """Returns the disk x^2 + y^2 <= radius^2, uint8 of 0 and 1; OpenCV's ellipses are smaller."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x**2 + y**2 <= radius**2).astype(np.uint8)

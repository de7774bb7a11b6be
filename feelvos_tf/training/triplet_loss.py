"""Triplet loss: pulls embeddings of one object together and pushes those of others away."""

from __future__ import annotations

import functools

import gin
import tensorflow as tf

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.core.resizing import resize_nearest
from feelvos_tf.core.setting_types import checked
from feelvos_tf.models.global_matching import Reference, prepare_reference
from feelvos_tf.models.object_labels import NO_OBJECT
from feelvos_tf.training.losses import Loss, LossInputs

_POSITIVES = ("farthest", "nearest")


@gin.configurable
class TripletLoss(Loss):
    """Mean of max(0, d(anchor, positive) - d(anchor, negative) + margin) over anchor pixels.

    Anchors are pixels of the current frame. A positive is a pixel of the same object, a negative
    one of another object, both in the reference or the previous frame; d is the squared distance
    of matching. The negative is the nearest one. The positive is the farthest ("batch hard",
    Hermans et al. 2017) or the nearest, since an object, and the background all the more, has
    parts that look nothing like each other (the choice of pixel-wise metric learning, PML, Chen
    et al. 2018, on whose embedding the paper builds). An anchor without a positive or without a
    negative does not count.

    The paper trains without a loss on the embedding (section 3, Overview). It is known that the
    2019 release can be told to use a triplet loss, but not with which sampling, margin or weight:
    what is here follows the two publications above, and no number is the release's.
    """

    name = "triplet"

    @checked("TripletLoss")
    def __init__(
        self,
        weight: float = 0.0,
        margin: float = 1.0,
        positive: str = "farthest",
        max_pixels_per_object: int = 256,
        use_previous_frame: bool = True,
    ):
        """Stores the settings.

        Args:
          weight: factor in the total loss; 0 leaves the triplet loss out.
          margin: by how much a negative shall be farther than the positive.
          positive: which pixel of the anchor's object is meant, "farthest" or "nearest".
          max_pixels_per_object: this many pixels of each object are drawn as anchors, and as many
            of the two other frames to compare them with.
          use_previous_frame: False takes positives and negatives from the reference alone: right
            where the previous frame's labels are made wrong on purpose.

        Raises:
          InputError: a setting is out of range.
        """
        if weight < 0 or margin < 0 or max_pixels_per_object < 1:
            raise InputError(
                "TripletLoss: expected weight and margin of 0 or more and max_pixels_per_object of "
                f"1 or more, found {weight}, {margin} and {max_pixels_per_object}"
            )
        if positive not in _POSITIVES:
            raise InputError(
                f"TripletLoss.positive: expected 'farthest' or 'nearest', found {positive!r}"
            )
        self.weight = weight
        self._margin = margin
        self._positive = positive
        self._max_pixels_per_object = max_pixels_per_object
        self._other_frames = (0, 1) if use_previous_frame else (0,)

    def __call__(self, clip: LossInputs) -> tf.Tensor:
        """Returns the loss of one clip without the weight, float32 []."""
        return self.embedding_loss(clip.output.embeddings, clip.labels, clip.num_objects, clip.seed)

    def embedding_loss(
        self,
        embeddings: tf.Tensor,
        labels: tf.Tensor,
        num_objects: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the loss of one clip without the weight, float32 [].

        Args:
          embeddings: float32 [3, h, w, channels] of reference, previous and current frame.
          labels: int32 [3 or more, height, width], object indices; 255 never counts.
          num_objects: int32 [].
          seed: integer [2] that the pixels drawn follow from; others every time where None.
        """
        grid = tf.shape(embeddings)[1:3]
        reduced = resize_nearest(labels[:3], grid)
        indices = tf.where(reduced == VOID, NO_OBJECT, reduced)
        draw = functools.partial(
            prepare_reference,
            num_objects=num_objects,
            max_pixels=self._max_pixels_per_object,
            seed=seed,
        )
        anchors = draw(embeddings[2], indices[2])
        others = draw(
            tf.concat([embeddings[frame] for frame in self._other_frames], 0),
            tf.concat([indices[frame] for frame in self._other_frames], 0),
        )
        distances = _squared_distances(anchors.embeddings, others.embeddings)
        same = _owners(anchors)[:, tf.newaxis] == _owners(others)
        return self._mean_of_triplets(distances, same)

    def _mean_of_triplets(self, distances: tf.Tensor, same: tf.Tensor) -> tf.Tensor:
        highest, lowest = distances.dtype.max, distances.dtype.min
        negative = tf.reduce_min(tf.where(same, highest, distances), -1)
        if self._positive == "farthest":
            positive = tf.reduce_max(tf.where(same, distances, lowest), -1)
        else:
            positive = tf.reduce_min(tf.where(same, distances, highest), -1)
        counts = tf.reduce_any(same, -1) & tf.reduce_any(~same, -1)
        # Where an anchor has no partner, its infinite difference must not reach the gradient.
        difference = tf.where(counts, positive, 0.0) - tf.where(counts, negative, 0.0)
        triplets = tf.where(counts, tf.nn.relu(difference + self._margin), 0.0)
        num_anchors = tf.math.count_nonzero(counts, dtype=tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(triplets), num_anchors)


def _owners(pixels: Reference) -> tf.Tensor:
    """Returns int32 [pixels]: the object of each."""
    counts = pixels.offsets[1:] - pixels.offsets[:-1]
    return tf.repeat(tf.range(tf.size(counts)), counts)


def _squared_distances(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns float32 [rows of a, rows of b], 0 or more."""
    norms = tf.reduce_sum(a**2, -1)[:, tf.newaxis] + tf.reduce_sum(b**2, -1)
    return tf.maximum(norms - 2.0 * tf.matmul(a, b, transpose_b=True), 0.0)

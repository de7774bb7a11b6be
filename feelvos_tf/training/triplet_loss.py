"""Triplet loss: pulls embeddings of one object together and pushes those of others apart."""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.core.resizing import resize_nearest
from feelvos_tf.models.global_matching import owners, prepare_reference, shuffle
from feelvos_tf.models.object_labels import NO_OBJECT
from feelvos_tf.training.losses import Loss, LossInputs


@settings.configurable
class TripletLoss(Loss):
    """Mean of max(0, d(anchor, positive) - d(anchor, negative) + margin) over anchor pixels.

    Anchors are pixels of the current frame. A positive is a pixel of the same object, a negative
    one of another object, both in the reference or the previous frame; d is the squared distance
    of matching. The negative is the nearest one. The positive is the farthest ("batch hard",
    Hermans et al. 2017) or the nearest, because parts of an object, and even more so of the
    background, can look nothing alike. (The nearest is the choice of pixel-wise metric learning,
    PML, Chen et al. 2018, whose embedding the paper builds on.) Anchors without a positive or a
    negative are ignored.

    The paper trains without a loss on the embedding (section 3, Overview). The 2019 release offers
    one (`classification_loss = triplet`, feelvos/utils/train_utils.py), with `sampling =
    'reference'`, `positive = 'nearest'` and a weight of 3: see gin_configs/train/pml_baseline.gin.
    """

    name = "triplet"

    def __init__(
        self,
        weight: settings.NonNegative = 0.0,
        margin: settings.NonNegative = 1.0,
        positive: Literal["farthest", "nearest"] = "farthest",
        max_pixels_per_object: settings.PositiveInt = 256,
        use_previous_frame: bool = True,
        sampling: Literal["per_object", "reference"] = "per_object",
    ):
        """Stores the settings.

        Args:
          weight: factor in the total loss; 0 turns the triplet loss off.
          margin: by how much a negative should be farther away than the positive.
          positive: which pixel of the anchor's object is the positive.
          max_pixels_per_object: at most this many pixels of each object are sampled as anchors, and
            as many again from the two other frames as positives and negatives.
          use_previous_frame: False takes positives and negatives from the reference alone, for
            training with deliberately damaged previous masks; for 'per_object' only.
          sampling: 'per_object' is described above. 'reference' is the release's: anchors are
            `max_pixels_per_object` random pixels of the whole reference frame, positives and
            negatives any pixels of the two other frames; anchors that lack either count as 0 in
            the mean.

        Raises:
          InputError: `use_previous_frame` is False for 'reference'.
        """
        if sampling == "reference" and not use_previous_frame:
            raise InputError(
                "TripletLoss.use_previous_frame: expected True for sampling = 'reference', found "
                "False"
            )
        self.weight = weight
        self._margin = margin
        self._positive = positive
        self._max_pixels_per_object = max_pixels_per_object
        self._other_frames = [0, 1] if use_previous_frame else [0]
        self._draw = self._of_objects if sampling == "per_object" else self._of_reference
        self._counts_all = sampling == "reference"

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
          seed: integer [2] that the sampled pixels derive from; None: different every time.
        """
        grid = tf.shape(embeddings)[1:3]
        reduced = resize_nearest(labels[:3], grid)
        indices = tf.where(reduced == VOID, NO_OBJECT, reduced)
        anchors, others = self._draw(embeddings, indices, num_objects, seed)
        of_anchors = anchors.owners[:, tf.newaxis]
        same = (of_anchors == others.owners) & (of_anchors >= 0)
        different = (of_anchors != others.owners) & (others.owners >= 0)
        distances = _squared_distances(anchors.embeddings, others.embeddings)
        return self._mean_of_triplets(distances, same, different)

    def _of_objects(
        self, embeddings: tf.Tensor, indices: tf.Tensor, num_objects: tf.Tensor, seed
    ) -> tuple[_Pixels, _Pixels]:
        """Returns anchors in the current frame and pixels of the others, sampled per object."""

        def draw(frames: list[int]) -> _Pixels:
            chosen = prepare_reference(
                tf.concat([embeddings[frame] for frame in frames], 0),
                tf.concat([indices[frame] for frame in frames], 0),
                num_objects,
                self._max_pixels_per_object,
                seed,
            )
            return _Pixels(chosen.embeddings, owners(chosen))

        return draw([2]), draw(self._other_frames)

    def _of_reference(
        self, embeddings: tf.Tensor, indices: tf.Tensor, num_objects: tf.Tensor, seed
    ) -> tuple[_Pixels, _Pixels]:
        """Returns anchors from anywhere in the reference, and all pixels of the other frames."""
        del num_objects
        channels = embeddings.shape[-1]
        own, labels = tf.reshape(embeddings[0], [-1, channels]), tf.reshape(indices[0], [-1])
        rows = shuffle(tf.range(tf.size(labels)), seed)[: self._max_pixels_per_object]
        anchors = _Pixels(tf.gather(own, rows), tf.gather(labels, rows))
        others = tf.reshape(embeddings[1:], [-1, channels])
        return anchors, _Pixels(others, tf.reshape(indices[1:], [-1]))

    def _mean_of_triplets(
        self, distances: tf.Tensor, same: tf.Tensor, different: tf.Tensor
    ) -> tf.Tensor:
        highest, lowest = distances.dtype.max, distances.dtype.min
        negative = tf.reduce_min(tf.where(different, distances, highest), -1)
        if self._positive == "farthest":
            positive = tf.reduce_max(tf.where(same, distances, lowest), -1)
        else:
            positive = tf.reduce_min(tf.where(same, distances, highest), -1)
        counts = tf.reduce_any(same, -1) & tf.reduce_any(different, -1)
        # The infinite difference of an anchor without a partner must not reach the gradient.
        difference = tf.where(counts, positive, 0.0) - tf.where(counts, negative, 0.0)
        triplets = tf.where(counts, tf.nn.relu(difference + self._margin), 0.0)
        if self._counts_all:
            return tf.reduce_mean(triplets)
        num_anchors = tf.math.count_nonzero(counts, dtype=tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(triplets), num_anchors)


class _Pixels(NamedTuple):
    """Embeddings, float32 [pixels, channels], and their objects, int32 [pixels]; negative: void."""

    embeddings: tf.Tensor
    owners: tf.Tensor


def _squared_distances(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns float32 [rows of a, rows of b], 0 or more."""
    norms = tf.reduce_sum(a**2, -1)[:, tf.newaxis] + tf.reduce_sum(b**2, -1)
    return tf.maximum(norms - 2.0 * tf.matmul(a, b, transpose_b=True), 0.0)

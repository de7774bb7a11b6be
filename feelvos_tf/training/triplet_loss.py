"""Triplet loss: pulls embeddings of one object together and pushes those of others apart."""

from __future__ import annotations

import dataclasses
from typing import Literal

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.core.resizing import resize_nearest
from feelvos_tf.models.global_matching import owners, prepare_reference, shuffle
from feelvos_tf.models.object_labels import NO_OBJECT
from feelvos_tf.training.losses import Loss, LossInputs

# Embeddings, float32 [pixels, channels], and their objects, int32 [pixels]; negative: void.
_Pixels = tuple[tf.Tensor, tf.Tensor]


@settings.configurable
@dataclasses.dataclass(frozen=True)
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

    Attributes:
      weight: factor in the total loss; 0 turns the triplet loss off.
      margin: by how much a negative should be farther away than the positive.
      positive: which pixel of the anchor's object is the positive.
      max_pixels_per_object: at most this many pixels of each object are sampled as anchors, and
        as many again from the two other frames as positives and negatives.
      use_previous_frame: False takes positives and negatives from the reference alone, for
        training with deliberately damaged previous masks; for 'per_object' only.
      sampling: 'per_object' is described above. 'reference' is the release's: anchors are
        `max_pixels_per_object` random pixels of the whole reference frame, positives and negatives
        any pixels of the two other frames; anchors that lack either count as 0 in the mean.

    Raises:
      InputError: `use_previous_frame` is False for 'reference'.
    """

    name = "triplet"
    weight: settings.NonNegative = 0.0
    margin: settings.NonNegative = 1.0
    positive: Literal["farthest", "nearest"] = "farthest"
    max_pixels_per_object: settings.PositiveInt = 256
    use_previous_frame: bool = True
    sampling: Literal["per_object", "reference"] = "per_object"

    def __post_init__(self) -> None:
        if self.sampling == "reference" and not self.use_previous_frame:
            raise InputError(
                "TripletLoss.use_previous_frame: expected True for sampling = 'reference', found "
                "False"
            )

    def __call__(self, clip: LossInputs) -> tf.Tensor:
        """Returns the loss of one clip without the weight, float32 []."""
        embeddings = clip.output.embeddings
        reduced = resize_nearest(clip.labels[:3], tf.shape(embeddings)[1:3])
        indices = tf.where(reduced == VOID, NO_OBJECT, reduced)
        draw = self._of_objects if self.sampling == "per_object" else self._of_reference
        (anchors, of_anchors), (others, of_others) = draw(
            embeddings, indices, clip.num_objects, clip.seed
        )
        of_anchors = of_anchors[:, tf.newaxis]
        same = (of_anchors == of_others) & (of_anchors >= 0)
        different = (of_anchors != of_others) & (of_others >= 0)
        distances = _squared_distances(anchors, others)
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
                self.max_pixels_per_object,
                seed,
            )
            return chosen.embeddings, owners(chosen)

        return draw([2]), draw([0, 1] if self.use_previous_frame else [0])

    def _of_reference(
        self, embeddings: tf.Tensor, indices: tf.Tensor, num_objects: tf.Tensor, seed
    ) -> tuple[_Pixels, _Pixels]:
        """Returns anchors from anywhere in the reference, and all pixels of the other frames."""
        del num_objects
        channels = embeddings.shape[-1]
        own, labels = tf.reshape(embeddings[0], [-1, channels]), tf.reshape(indices[0], [-1])
        rows = shuffle(tf.range(tf.size(labels)), seed)[: self.max_pixels_per_object]
        anchors = tf.gather(own, rows), tf.gather(labels, rows)
        return anchors, (tf.reshape(embeddings[1:], [-1, channels]), tf.reshape(indices[1:], [-1]))

    def _mean_of_triplets(
        self, distances: tf.Tensor, same: tf.Tensor, different: tf.Tensor
    ) -> tf.Tensor:
        highest, lowest = distances.dtype.max, distances.dtype.min
        negative = tf.reduce_min(tf.where(different, distances, highest), -1)
        if self.positive == "farthest":
            positive = tf.reduce_max(tf.where(same, distances, lowest), -1)
        else:
            positive = tf.reduce_min(tf.where(same, distances, highest), -1)
        counts = tf.reduce_any(same, -1) & tf.reduce_any(different, -1)
        # The infinite difference of an anchor without a partner must not reach the gradient.
        difference = tf.where(counts, positive, 0.0) - tf.where(counts, negative, 0.0)
        triplets = tf.where(counts, tf.nn.relu(difference + self.margin), 0.0)
        if self.sampling == "reference":
            return tf.reduce_mean(triplets)
        num_anchors = tf.math.count_nonzero(counts, dtype=tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(triplets), num_anchors)


def _squared_distances(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns float32 [rows of a, rows of b], 0 or more."""
    norms = tf.reduce_sum(a**2, -1)[:, tf.newaxis] + tf.reduce_sum(b**2, -1)
    return tf.maximum(norms - 2.0 * tf.matmul(a, b, transpose_b=True), 0.0)

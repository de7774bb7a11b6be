"""Segments the frames of a training clip one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from feelvos_tf.core.constants import CURRENT, PREVIOUS, REFERENCE, VOID
from feelvos_tf.core.resizing import resize_bilinear, resize_nearest
from feelvos_tf.models import object_labels
from feelvos_tf.models.features import ClipOutput, Previous
from feelvos_tf.models.global_matching import prepare_reference

if TYPE_CHECKING:
    from feelvos_tf.models.feelvos import Feelvos


def segment_clip(
    model: Feelvos,
    features: Sequence[tf.Tensor],
    embeddings: Sequence[tf.Tensor],
    labels: tf.Tensor,
    num_objects: tf.Tensor,
    training: bool,
    seed: tf.Tensor | None,
) -> ClipOutput:
    """Returns the logits of one clip: of its current frame, and of those that follow.

    The ground truth of the previous frame stands in for its prediction (paper section 3, Training
    procedure). Frames after the current one are told the mask predicted for the one before.

    Args:
      model: the network.
      features: `[h, w, 256]` decoder features of each frame.
      embeddings: `[h, w, channels]` of each frame.
      labels: int32 `[3 or more, height, width]` object indices; 255 is void.
      num_objects: int32 scalar.
      training: whether gradients are needed.
      seed: integer `[2]` that the pixels kept for matching follow from; others every time where
        None.
    """
    indices = resize_nearest(labels[:CURRENT], tf.shape(embeddings[0])[:2])
    indices = tf.where(indices == VOID, object_labels.NO_OBJECT, indices)
    max_pixels = model.train_max_neighbors_per_object if training else 0
    reference = prepare_reference(
        embeddings[REFERENCE], indices[REFERENCE], num_objects, max_pixels, seed
    )
    previous = Previous(
        embeddings[PREVIOUS],
        indices[PREVIOUS],
        object_labels.one_hot(indices[PREVIOUS], num_objects),
    )
    outputs = []
    for frame in range(CURRENT, len(embeddings)):
        output = model.segment(
            features[frame],
            embeddings[frame],
            reference,
            previous,
            training,
            _fold_in(seed, frame - CURRENT),
        )
        previous = _fed_back(output.logits, embeddings[frame], tf.shape(labels)[1:])
        outputs.append(output)
    return outputs[0]._replace(
        embeddings=tf.stack(embeddings[: CURRENT + 1]),
        further_logits=tuple(output.logits for output in outputs[1:]),
    )


def _fed_back(logits: tf.Tensor, embeddings: tf.Tensor, size: tf.Tensor) -> Previous:
    """Returns a frame as the one after it sees it: with its hard mask, as at prediction.

    No gradient passes the mask.

    Args:
      logits: `[objects, h, w, 1]` of the frame.
      embeddings: `[h, w, channels]` of the frame.
      size: int32 `[2]`, height and width of the frame.
    """
    full_logits = resize_bilinear(tf.stop_gradient(logits), size)[..., 0]
    winners = tf.argmax(full_logits, 0, output_type=tf.int32)
    indices = resize_nearest(winners, tf.shape(embeddings)[:2])
    return Previous(embeddings, indices, object_labels.one_hot(indices, tf.shape(logits)[0]))


def _fold_in(seed: tf.Tensor | None, number: int) -> tf.Tensor | None:
    """Returns a seed of its own for each number, None for none."""
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, number)

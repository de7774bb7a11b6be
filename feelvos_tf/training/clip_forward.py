"""The forward pass of training clips: features of all frames at once, then frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import CURRENT, PREVIOUS, REFERENCE, VOID
from feelvos_tf.core.resizing import resize_bilinear, resize_nearest
from feelvos_tf.models import object_labels
from feelvos_tf.models.feelvos import ClipOutput, Feelvos, Previous
from feelvos_tf.models.global_matching import prepare_reference

BATCH_KEYS = ("images", "labels", "num_objects")
"""The entries of a batch that `clip_logits` takes."""


def clip_logits(
    model: Feelvos,
    images: tf.Tensor,
    labels: tf.Tensor,
    num_objects: tf.Tensor,
    training: bool,
    seeds: tf.Tensor | None = None,
) -> list[ClipOutput]:
    """Returns the logits of every clip: of its current frame and of the frames after it.

    Args:
      model: the network.
      images: float32 `[batch, 3 or more, height, width, 3]`: the reference, previous and current
        frames, and those that follow (a rollout, not used in the paper).
      labels: int32 `[batch, 3 or more, height, width]`, object indices; 255 is void.
      num_objects: int32 `[batch]`.
      training: whether dropout is active and gradients are needed.
      seeds: integer `[batch, 2]` that dropout and the sampling of reference pixels derive from, so
        that a clip's result does not depend on the others; None for a different result every time.
    """
    batch, frames = images.shape[:2]
    sizes = [tf.shape(images)[i] if n is None else n for i, n in enumerate(images.shape)]
    features = model.extract(tf.reshape(images, [-1, *sizes[2:]]), training, seeds)
    # Unstacked at once, because gradients of slices would be padded and summed frame by frame.
    decoder_features = tf.unstack(features.decoder_features, batch * frames)
    embeddings = tf.unstack(features.embeddings, batch * frames)
    outputs = []
    for clip in range(batch):
        own = slice(clip * frames, (clip + 1) * frames)
        outputs.append(
            roll_out(
                model,
                decoder_features[own],
                embeddings[own],
                labels[clip],
                num_objects[clip],
                training,
                None if seeds is None else seeds[clip],
            )
        )
    return outputs


@settings.configurable
def roll_out(
    model: Feelvos,
    features: Sequence[tf.Tensor],
    embeddings: Sequence[tf.Tensor],
    labels: tf.Tensor,
    num_objects: tf.Tensor,
    training: bool,
    seed: tf.Tensor | None,
    feedback: Literal["labels", "probabilities"] = "labels",
) -> ClipOutput:
    """Returns the logits of one clip: of its current frame and of the frames after it.

    The ground truth of the previous frame stands in for its prediction (paper section 3, Training
    procedure). Each frame after the current one gets the mask predicted for the frame before it.

    Args:
      model: the network.
      features: `[h, w, 256]` decoder features of each frame.
      embeddings: `[h, w, channels]` of each frame.
      labels: int32 `[3 or more, height, width]`, object indices; 255 is void.
      num_objects: int32 scalar.
      training: whether gradients are needed.
      seed: integer `[2]` that the sampling of reference pixels derives from; None for a different
        sample every time.
      feedback: what frames after the current one get from the frame before: its hard "labels", as
        at inference, which pass no gradient, or its "probabilities", which do, as in the release
        without previous-frame matching.
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
            None if seed is None else tf.random.fold_in(seed, frame - CURRENT),
        )
        previous = _fed_back(output.logits, embeddings[frame], tf.shape(labels)[1:], feedback)
        outputs.append(output)
    return outputs[0]._replace(
        embeddings=tf.stack(embeddings[: CURRENT + 1]),
        further_logits=tuple(output.logits for output in outputs[1:]),
    )


def _fed_back(logits: tf.Tensor, embeddings: tf.Tensor, size: tf.Tensor, feedback: str) -> Previous:
    """Returns a predicted frame as the previous frame of the next one.

    Args:
      logits: `[objects, h, w, 1]` of the frame.
      embeddings: `[h, w, channels]` of the frame.
      size: int32 `[2]`, height and width of the frame.
      feedback: see `roll_out`.
    """
    indices = resize_nearest(predicted_indices(logits, size), tf.shape(embeddings)[:2])
    if feedback == "probabilities":
        return Previous(embeddings, indices, tf.nn.softmax(logits, 0)[..., 0])
    return Previous(embeddings, indices, object_labels.one_hot(indices, tf.shape(logits)[0]))


def predicted_indices(logits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns the object with the largest upsampled logit, int32 of `size` [height, width]."""
    full_logits = resize_bilinear(tf.stop_gradient(logits), size)[..., 0]
    return tf.argmax(full_logits, 0, output_type=tf.int32)

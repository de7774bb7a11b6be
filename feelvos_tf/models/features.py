"""What the parts of the network hand to each other."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Features(NamedTuple):
    """What the network extracts from single frames.

    Attributes:
      decoder_features: float32 `[n, h, w, 256]` at stride 4.
      embeddings: float32 `[n, h, w, embedding_dimension]` at stride 4.
    """

    decoder_features: tf.Tensor
    embeddings: tf.Tensor


class Previous(NamedTuple):
    """What the segmentation of a frame takes from the frame before.

    Attributes:
      embeddings: float32 `[h, w, embedding_dimension]`.
      indices: int32 `[h, w]` object indices, negative for none.
      masks: float32 `[objects, h, w]` predictions that are fed back (0 or 1, or probabilities).
    """

    embeddings: tf.Tensor
    indices: tf.Tensor
    masks: tf.Tensor


class ClipOutput(NamedTuple):
    """What the network says about the current frame of a clip.

    Attributes:
      logits: float32 `[objects, h, w, 1]` at stride 4.
      global_map: float32 `[objects, h, w]` distances to the reference frame, 0..1, or None.
      local_map: float32 `[objects, h, w]` distances to the previous frame, 0..1, or None.
      embeddings: float32 `[3, h, w, channels]` of reference, previous and current frame; None
        where a single frame is segmented.
      further_logits: logits of the frames behind the current one, each segmented with the mask
        predicted for the frame before it.
    """

    logits: tf.Tensor
    global_map: tf.Tensor | None
    local_map: tf.Tensor | None
    embeddings: tf.Tensor | None = None
    further_logits: tuple[tf.Tensor, ...] = ()

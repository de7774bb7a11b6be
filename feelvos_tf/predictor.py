"""Segments one video frame by frame: `start(image, mask)`, then `step(image, state)`."""

from __future__ import annotations

import gin
import tensorflow as tf

from feelvos_tf.models import labels as object_labels
from feelvos_tf.models.deeplab import resize_bilinear
from feelvos_tf.models.feelvos import Feelvos, Previous
from feelvos_tf.models.global_matching import Reference, prepare_reference

State = dict[str, tf.Tensor]

_IMAGE = tf.TensorSpec([None, None, 3], tf.uint8, name="image")
_MASK = tf.TensorSpec([None, None], tf.uint8, name="mask")
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")


@gin.configurable
class Predictor(tf.Module):
    """All that inference does, as functions of tensors; the state of a video is a dict of them.

    The reference frame's embeddings are computed once, each later frame costs one forward pass
    (paper section 3, Inference). State entries: `object_ids` `[objects]`; the reference's
    `reference_embeddings` and `reference_offsets`; of the frame before, `previous_embeddings`
    `[h, w, channels]`, `previous_indices` `[h, w]` and `previous_masks` `[objects, h, w]`, all at
    stride 4. Their size does not depend on the number of frames.

    Args:
      model: with its variables created.
      soft_feedback: feed back the previous frame's probabilities, as the paper says. The 2019
        release says so too but feeds back its hard mask (0 or 1); that is the default.
      max_reference_pixels: reference pixels kept per object, chosen at random (0: all).
    """

    def __init__(self, model: Feelvos, soft_feedback: bool = False, max_reference_pixels: int = 0):
        super().__init__(name="predictor")
        # The SavedModel shall hold plain variables, not a tree of Keras layers to be rebuilt.
        self._model_variables = list(model.variables)
        self.soft_feedback = soft_feedback
        self.max_reference_pixels = max_reference_pixels
        self._extract = model.extract
        self._segment = model.segment
        self._embedding_dimension = model.embedding.dimension
        # One signature for all sizes and object counts: traced once, never again.
        self.step = tf.function(self._step, input_signature=[_IMAGE, self._state_spec()])

    @tf.function(input_signature=[_IMAGE, _MASK])
    def start(self, image: tf.Tensor, mask: tf.Tensor) -> State:
        """Returns the state after the reference frame.

        Args:
          image: uint8 `[height, width, 3]` RGB.
          mask: uint8 `[height, width]` object ids, 0 background, 255 void; ids may have gaps.
        """
        tf.debugging.assert_equal(
            tf.shape(image)[:2], tf.shape(mask), "image and mask must have the same size"
        )
        embeddings = self._extract(image[tf.newaxis]).embeddings[0]
        object_ids = object_labels.present_ids(mask)
        tf.debugging.assert_greater(
            tf.reduce_max(tf.concat([object_ids, [0]], 0)), 0, "the mask holds no object"
        )
        indices = object_labels.reduce_reference(mask, object_ids, tf.shape(embeddings)[:2])
        num_objects = tf.size(object_ids)
        reference = prepare_reference(embeddings, indices, num_objects, self.max_reference_pixels)
        return {
            "object_ids": object_ids,
            "reference_embeddings": reference.embeddings,
            "reference_offsets": reference.offsets,
            "previous_embeddings": embeddings,
            "previous_indices": indices,
            "previous_masks": object_labels.one_hot(indices, num_objects),
        }

    def _state_spec(self) -> dict[str, tf.TensorSpec]:
        channels = self._embedding_dimension
        return {
            "object_ids": tf.TensorSpec([None], tf.int32, "object_ids"),
            "reference_embeddings": tf.TensorSpec([None, channels], name="reference_embeddings"),
            "reference_offsets": tf.TensorSpec([None], tf.int32, "reference_offsets"),
            "previous_embeddings": tf.TensorSpec(
                [None, None, channels], name="previous_embeddings"
            ),
            "previous_indices": tf.TensorSpec([None, None], tf.int32, "previous_indices"),
            "previous_masks": tf.TensorSpec([None, None, None], name="previous_masks"),
        }

    def _step(self, image: tf.Tensor, state: State) -> tuple[tf.Tensor, tf.Tensor, State]:
        """Returns the segmentation of the next frame; call it as `step`.

        Args:
          image: uint8 `[height, width, 3]` RGB, of the reference frame's size.
          state: from `start` or the last `step`.

        Returns:
          ids: uint8 `[height, width]`, the mask's own object ids.
          probabilities: float32 `[height, width, objects]`, channels in order of
            `state["object_ids"]`.
          state: to be handed to the next call.
        """
        features = self._extract(image[tf.newaxis])
        embeddings = features.embeddings[0]
        grid = tf.shape(embeddings)[:2]
        output = self._segment(
            features.decoder_features[0],
            embeddings,
            Reference(state["reference_embeddings"], state["reference_offsets"]),
            Previous(
                state["previous_embeddings"], state["previous_indices"], state["previous_masks"]
            ),
        )
        logits = tf.transpose(output.logits, [3, 1, 2, 0])
        # Reproduction trap: the logits are resized, not the probabilities.
        full_logits = resize_bilinear(logits, tf.shape(image)[:2])[0]
        winners = tf.argmax(full_logits, -1, output_type=tf.int32)
        indices = object_labels.reduce_nearest(winners, grid)
        masks = object_labels.one_hot(indices, tf.size(state["object_ids"]))
        if self.soft_feedback:
            masks = tf.transpose(tf.nn.softmax(logits[0]), [2, 0, 1])
        ids = tf.cast(tf.gather(state["object_ids"], winners), tf.uint8)
        state = {
            **state,
            "previous_embeddings": embeddings,
            "previous_indices": indices,
            "previous_masks": masks,
        }
        return ids, tf.nn.softmax(full_logits), state

    @tf.function(input_signature=[_IMAGES, _MASK])
    def segment_clip(self, images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns uint8 `[frames, height, width]` ids; the first frame's are `mask`.

        Args:
          images: uint8 `[frames, height, width, 3]` RGB.
          mask: uint8 `[height, width]` object ids of the first frame.
        """
        state = self.start(images[0], mask)
        frames = tf.TensorArray(tf.uint8, size=tf.shape(images)[0], element_shape=[None, None])
        frames = frames.write(0, mask)
        for frame in tf.range(1, tf.shape(images)[0]):
            ids, _, state = self._step(images[frame], state)
            frames = frames.write(frame, ids)
        return frames.stack()

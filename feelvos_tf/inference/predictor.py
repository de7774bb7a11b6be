"""Segments one video frame by frame: `start(image, mask)`, then `step(image, state)`."""

from __future__ import annotations

from collections.abc import Sequence

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import multi_scale
from feelvos_tf.inference.kmeans_reference import cluster_reference
from feelvos_tf.models import object_labels
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
    stride 4. Their size does not depend on the number of frames. With several scales, each has a
    set of its own: those of the second scale end in `_scale_1`, and so on.

    Args:
      model: with its variables created.
      soft_feedback: feed back the previous frame's probabilities, as the paper says. The 2019
        release says so too but feeds back its hard mask (0 or 1); that is the default.
      max_reference_pixels: reference pixels kept per object (0: all).
      reference_reduction: how: "random" ones as in the paper's training, or "kmeans" centres.
      scales: the image pyramid: every frame is segmented at each of these sizes relative to its
        own, e.g. (1.0, 0.75, 1.25), and the logits are merged. Matching takes place within a
        scale; the merged result is what all of them are told of the previous frame.
      merge: how logits of several scales become one: "max" (the release's) or "avg".

    Raises:
      InputError: a setting is out of range.
    """

    def __init__(
        self,
        model: Feelvos,
        soft_feedback: bool = False,
        max_reference_pixels: int = 0,
        reference_reduction: str = "random",
        scales: Sequence[float] = (1.0,),
        merge: str = "max",
    ):
        super().__init__(name="predictor")
        _check_settings(max_reference_pixels, reference_reduction, scales, merge)
        # The SavedModel shall hold plain variables, not a tree of Keras layers to be rebuilt.
        self._model_variables = list(model.variables)
        self.soft_feedback = soft_feedback
        self.max_reference_pixels = max_reference_pixels
        self.reference_reduction = reference_reduction
        self.scales = tuple(float(scale) for scale in scales)
        self.merge = merge
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
        object_ids = object_labels.present_ids(mask)
        tf.debugging.assert_greater(
            tf.reduce_max(tf.concat([object_ids, [0]], 0)), 0, "the mask holds no object"
        )
        state = {"object_ids": object_ids}
        for position, scale in enumerate(self.scales):
            state.update(_of_scale(position, self._start_scale(image, mask, object_ids, scale)))
        return state

    def _start_scale(
        self, image: tf.Tensor, mask: tf.Tensor, object_ids: tf.Tensor, scale: float
    ) -> State:
        """Returns the state of one scale, without the scale's suffix."""
        embeddings = self._extract(multi_scale.scaled_image(image, scale)).embeddings[0]
        indices = multi_scale.downsample_reference_at_scale(
            mask, object_ids, scale, tf.shape(embeddings)[:2]
        )
        num_objects = tf.size(object_ids)
        reference = self._reference(embeddings, indices, num_objects)
        return {
            "reference_embeddings": reference.embeddings,
            "reference_offsets": reference.offsets,
            "previous_embeddings": embeddings,
            "previous_indices": indices,
            "previous_masks": object_labels.one_hot(indices, num_objects),
        }

    def _reference(
        self, embeddings: tf.Tensor, indices: tf.Tensor, num_objects: tf.Tensor
    ) -> Reference:
        """Returns the reference side of the matching with at most `max_reference_pixels`."""
        if self.reference_reduction == "kmeans" and self.max_reference_pixels:
            every = prepare_reference(embeddings, indices, num_objects)
            return cluster_reference(every, self.max_reference_pixels)
        return prepare_reference(embeddings, indices, num_objects, self.max_reference_pixels)

    def _state_spec(self) -> dict[str, tf.TensorSpec]:
        channels = self._embedding_dimension
        specs = {"object_ids": tf.TensorSpec([None], tf.int32)}
        for position in range(len(self.scales)):
            of_scale = {
                "reference_embeddings": tf.TensorSpec([None, channels]),
                "reference_offsets": tf.TensorSpec([None], tf.int32),
                "previous_embeddings": tf.TensorSpec([None, None, channels]),
                "previous_indices": tf.TensorSpec([None, None], tf.int32),
                "previous_masks": tf.TensorSpec([None, None, None]),
            }
            specs.update(_of_scale(position, of_scale))
        return {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}

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
        results = [
            self._segment_scale(image, state, position) for position in range(len(self.scales))
        ]
        size = tf.shape(image)[:2]
        logits = multi_scale.merged_logits(
            [logits for logits, _ in results], self.scales, size, self.merge
        )
        # Reproduction trap: the logits are resized, not the probabilities.
        full_logits = resize_bilinear(logits, size)[0]
        winners = tf.argmax(full_logits, -1, output_type=tf.int32)
        new_state = dict(state)
        for position, (_, embeddings) in enumerate(results):
            of_scale = self._fed_back(position, winners, logits, embeddings)
            new_state.update(_of_scale(position, of_scale))
        ids = tf.cast(tf.gather(state["object_ids"], winners), tf.uint8)
        return ids, tf.nn.softmax(full_logits), new_state

    def _segment_scale(
        self, image: tf.Tensor, state: State, position: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns logits `[1, h, w, objects]` and embeddings of the frame at one scale."""
        suffix = _suffix(position)
        features = self._extract(multi_scale.scaled_image(image, self.scales[position]))
        output = self._segment(
            features.decoder_features[0],
            features.embeddings[0],
            Reference(*(state[f"reference_{name}{suffix}"] for name in Reference._fields)),
            Previous(*(state[f"previous_{name}{suffix}"] for name in Previous._fields)),
        )
        return tf.transpose(output.logits, [3, 1, 2, 0]), features.embeddings[0]

    def _fed_back(
        self, position: int, winners: tf.Tensor, logits: tf.Tensor, embeddings: tf.Tensor
    ) -> State:
        """Returns what a frame leaves to the next one at one scale, without the suffix."""
        grid = tf.shape(embeddings)[:2]
        indices = multi_scale.downsample_indices_at_scale(winners, self.scales[position], grid)
        if self.soft_feedback:
            probabilities = tf.nn.softmax(resize_bilinear(logits, grid)[0])
            masks = tf.transpose(probabilities, [2, 0, 1])
        else:
            masks = object_labels.one_hot(indices, tf.shape(logits)[-1])
        return {
            "previous_embeddings": embeddings,
            "previous_indices": indices,
            "previous_masks": masks,
        }

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


def _of_scale(position: int, state: State) -> State:
    """Returns the entries of one scale under their names in the whole state."""
    return {f"{name}{_suffix(position)}": value for name, value in state.items()}


def _suffix(position: int) -> str:
    return f"_scale_{position}" if position else ""


def _check_settings(
    max_reference_pixels: int, reference_reduction: str, scales: Sequence[float], merge: str
) -> None:
    """Raises InputError where a setting is out of range."""
    if max_reference_pixels < 0:
        raise InputError(
            "Predictor.max_reference_pixels: expected 0 (all) or a number of pixels, found "
            f"{max_reference_pixels}"
        )
    if reference_reduction not in ("random", "kmeans"):
        raise InputError(
            "Predictor.reference_reduction: expected 'random' or 'kmeans', found "
            f"{reference_reduction!r}"
        )
    if not scales or min(scales) <= 0:
        raise InputError(
            f"Predictor.scales: expected at least one, all above 0, found {tuple(scales)}"
        )
    if merge not in multi_scale.MERGES:
        raise InputError(f"Predictor.merge: expected 'max' or 'avg', found {merge!r}")

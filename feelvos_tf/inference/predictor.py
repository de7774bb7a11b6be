"""Propagates masks through a video: `start(image, mask)`, then `step(image, state)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.core.resizing import resize_bilinear, resize_nearest
from feelvos_tf.core.settings import Between
from feelvos_tf.inference import gating, multi_scale
from feelvos_tf.inference import state as video_state
from feelvos_tf.inference.reference_pixels import cluster_reference
from feelvos_tf.inference.state import PredictorState, ScaleState, State
from feelvos_tf.models import object_labels, packed_weights
from feelvos_tf.models.deeplab import FILTERS
from feelvos_tf.models.feelvos import Feelvos, Previous
from feelvos_tf.models.global_matching import Reference, prepare_reference
from feelvos_tf.models.object_labels import NO_OBJECT
from feelvos_tf.models.release_checkpoint import release_names

_IMAGE = tf.TensorSpec([None, None, 3], tf.uint8, name="image")
_MASK = tf.TensorSpec([None, None], tf.uint8, name="mask")
_BATCH_OF_ONE = tf.TensorSpec([1, None, None, 3], tf.float32, name="images")
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
_ID = tf.TensorSpec([], tf.int32, name="object_id")
_BOUND = tf.TensorSpec([], tf.int32, name="max_total_reference_pixels")
# Fixed, so that a video resumed from a saved state gets the same masks.
_SEED = (0, 0)


def _labels(indices: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the hard masks, 0 or 1."""
    return object_labels.one_hot(indices, tf.shape(logits)[-1])


def _probabilities(indices: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the probabilities, 0..1."""
    probabilities = tf.nn.softmax(resize_bilinear(logits, tf.shape(indices))[0])
    return tf.transpose(probabilities, [2, 0, 1])


# What is fed back to the next frame: object indices `[h, w]` and logits `[1, h', w', objects]` ->
# masks `[objects, h, w]`.
_FEEDBACK = {"labels": _labels, "probabilities": _probabilities}


class Look(NamedTuple):
    """One of the ways in which the network sees each frame.

    State entries of a look are in the frame's own orientation, mirrored back if necessary.

    Attributes:
      scale: relative to the frame.
      is_mirrored: whether left and right are swapped.
    """

    scale: float
    is_mirrored: bool

    def image(self, image: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[1, h, w, 3]`, this look at an image `[height, width, 3]`."""
        return self.mirrored(multi_scale.scaled_image(image, self.scale))

    def mirrored(self, planes: tf.Tensor) -> tf.Tensor:
        """Returns planes `[n, h, w, ...]`, mirrored if this look is."""
        return tf.reverse(planes, [2]) if self.is_mirrored else planes


@settings.configurable
class Predictor(tf.Module):
    """FEELVOS inference as TensorFlow functions.

    `start`, `step` and `segment_clip` follow objects; `add_objects`, `correct` and `remove` edit
    the objects of the last frame. The reference frame's embeddings are computed once; each later
    frame costs one forward pass (paper section 3, Inference). The state of a video is a flat dict
    of tensors, see `feelvos_tf/inference/state.py`. Its size does not depend on the video's length;
    it grows with the number of objects and of corrected frames.

    Args:
      model: with its variables created.
      feedback: what is fed back to the next frame: "labels" (hard masks, as in the 2019 release,
        although its text mentions softmax) or "probabilities" (as in the paper).
      max_reference_pixels: pixels kept of each object in each reference frame (0: all).
      reference_reduction: how they are chosen: at "random", as in the paper's training, or as
        "kmeans" centers.
      scales: the image pyramid: every frame is segmented at each of these sizes relative to its
        own, e.g. (1.0, 0.75, 1.25), and the logits are merged. Each scale matches only within
        itself; the merged result is fed back to all of them.
      flip: whether every frame is also segmented mirrored, with its own matching, and the logits
        are averaged (False in paper and release).
      merge: how the logits of several scales are merged: by "max" (as in the release) or "avg".
      max_total_reference_pixels: pixels that an object keeps from all its reference frames,
        however often its mask is corrected (0: no bound). Above it, all frames are thinned equally.
      memory_every: every n-th frame is remembered: its confident pixels become additional
        references, see `state.remember` (0: no memory, as in paper and release).
      memory_pixels: pixels of each object that a remembered frame contributes.
      max_memory_pixels: most pixels of each object in the memory.
      background_factor: the background, which is more varied than any object, has this many times
        as many pixels in references and memory (1 in paper and release).
      memory_probability: least probability of a remembered pixel.
      gate_radius: in pixels of the stride-4 grid; parts of a mask farther than this from the
        object's previous mask are dropped, see `gating` (0: no gate, as in paper and release).

    Raises:
      InputError: a setting is out of range.
    """

    def __init__(
        self,
        model: Feelvos,
        feedback: Literal["labels", "probabilities"] = "labels",
        max_reference_pixels: settings.Count = 0,
        reference_reduction: Literal["random", "kmeans"] = "random",
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        merge: Literal["max", "avg"] = "max",
        max_total_reference_pixels: settings.Count = 65536,
        memory_every: settings.Count = 0,
        memory_pixels: settings.PositiveInt = 256,
        max_memory_pixels: settings.PositiveInt = 1024,
        background_factor: Annotated[int, Between(1, 100)] = 1,
        memory_probability: settings.Probability = 0.8,
        gate_radius: Annotated[int, Between(0, 1000)] = 0,
    ):
        super().__init__(name="predictor")
        if not scales or min(scales) <= 0:
            raise InputError(
                f"Predictor.scales: expected at least one, all above 0, found {tuple(scales)}"
            )
        # With plain variables, loading a SavedModel rebuilds no Keras layers.
        self._model_variables = dict(release_names(model))
        self.feedback = feedback
        self.max_reference_pixels = max_reference_pixels
        self.max_total_reference_pixels = max_total_reference_pixels
        self.reference_reduction = reference_reduction
        self.scales = tuple(float(scale) for scale in scales)
        self.flip = flip
        # The state has entries for each look at a frame: all scales, then all of them mirrored.
        orientations = (False, True) if flip else (False,)
        self._looks = tuple(Look(s, mirrored) for mirrored in orientations for s in self.scales)
        self._look_scales = tuple(look.scale for look in self._looks)
        self.merge = merge
        self.memory_every = memory_every
        self.memory_pixels = memory_pixels
        self.max_memory_pixels = max_memory_pixels
        self.background_factor = background_factor
        self.memory_probability = memory_probability
        self.gate_radius = gate_radius
        # Traced once for all functions, without autograph, which takes several times as long.
        self._extract = tf.function(model.extract, input_signature=[_BATCH_OF_ONE], autograph=False)
        self._segment = model.segment
        self._match = model.distance_maps
        # Without a signature, it is exported only if it has been called.
        self._compare = tf.function(self._compared, autograph=False, reduce_retracing=True)
        # One signature for all sizes and object counts: traced once, never again.
        specs = video_state.flat_specs(
            model.embedding_dimension, len(self._looks), memory_every > 0
        )
        self.step = tf.function(self._step, input_signature=[_IMAGE, specs], autograph=False)
        self.add_objects = tf.function(self._add_objects, input_signature=[_MASK, specs])
        self.correct = tf.function(self._correct, input_signature=[_MASK, specs, _BOUND])
        self.remove = tf.function(self._remove, input_signature=[_ID, specs], autograph=False)
        self.features = tf.function(self._features, input_signature=[_IMAGE], autograph=False)
        grids = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None])]
        maps = [tf.TensorSpec([None, None, n]) for n in (FILTERS, model.embedding_dimension)]
        self.segment_marked = tf.function(
            self._segment_marked, input_signature=[*maps, *grids], autograph=False
        )

    def check_weights(self, where: str) -> None:
        """Raises InputError unless all weights are finite numbers."""
        packed_weights.check_all_finite(where, self._model_variables)

    def distance_maps(self, before: State, after: State) -> dict[str, tf.Tensor]:
        """Returns the distances that the network used in a step.

        Only matching runs again. A SavedModel has no such function.

        Args:
          before: the state passed to `step`.
          after: the state that it returned.

        Returns:
          "global" and "local", as far as the network uses them: float32 `[objects, h, w]`, 0..1, to
          the nearest pixel of each object in the reference and in the previous frame, at stride 4
          of the first scale.
        """
        return self._compare(before, after)

    def _compared(self, before: State, after: State) -> dict[str, tf.Tensor]:
        then, now = (video_state.from_flat(s, len(self._looks)).scales[0] for s in (before, after))
        maps = self._match(now.previous.embeddings, video_state.matched(then), then.previous)
        return {name: m for name, m in zip(("global", "local"), maps) if m is not None}

    @tf.function(input_signature=[_IMAGE, _MASK], autograph=False)
    def start(self, image: tf.Tensor, mask: tf.Tensor) -> State:
        """Returns the state after the reference frame.

        Args:
          image: uint8 `[height, width, 3]` RGB.
          mask: uint8 `[height, width]` object ids, 0 background, 255 void; ids may have gaps.
        """
        tf.debugging.assert_equal(
            tf.shape(image)[:2], tf.shape(mask), "image and mask must have the same size"
        )
        _assert_object_in(mask)
        object_ids = object_labels.present_ids(mask)
        scales = tuple(self._start_look(image, mask, object_ids, look) for look in self._looks)
        frames = tf.constant(0) if self.memory_every else None
        return video_state.to_flat(PredictorState(object_ids, tf.constant(True), scales, frames))

    def _start_look(
        self, image: tf.Tensor, mask: tf.Tensor, object_ids: tf.Tensor, look: Look
    ) -> ScaleState:
        """Returns the state of one look."""
        embeddings = look.mirrored(self._extract(look.image(image)).embeddings)[0]
        num_objects, grid = tf.size(object_ids), tf.shape(embeddings)[:2]
        full = object_labels.to_indices(mask, object_ids)
        indices = multi_scale.downsample_given(full, tf.range(num_objects), look.scale, grid)
        reference = self._reference(embeddings, indices, object_ids)
        masks = object_labels.one_hot(indices, num_objects)
        memory = None
        if self.memory_every:
            memory = video_state.empty_memory(embeddings.shape[-1], num_objects)
        return ScaleState(reference, Previous(embeddings, indices, masks), memory)

    def _reference(
        self, embeddings: tf.Tensor, indices: tf.Tensor, object_ids: tf.Tensor
    ) -> Reference:
        """Returns a reference with at most `max_reference_pixels` pixels of each object."""
        if not self.max_reference_pixels:
            return prepare_reference(embeddings, indices, tf.size(object_ids))
        most = self._pixels(self.max_reference_pixels, object_ids)
        if self.reference_reduction == "kmeans":
            every = prepare_reference(embeddings, indices, tf.size(object_ids))
            return tf.function(cluster_reference)(every, most)
        return prepare_reference(embeddings, indices, tf.size(object_ids), most, _SEED)

    def _pixels(self, of_object: int, object_ids: tf.Tensor) -> tf.Tensor:
        """Returns int32 `[objects]`: a number of pixels of an object, for each of them."""
        return tf.where(object_ids == 0, self.background_factor * of_object, of_object)

    def _add_objects(self, mask: tf.Tensor, state: State) -> State:
        """Returns the state with new objects in the last frame; call it as `add_objects`.

        See `state.add_objects`. The network does not run.

        Args:
          mask: uint8 `[height, width]` object ids; 0 and 255 leave the last frame's labels
            unchanged.
          state: of a video.
        """
        before = video_state.from_flat(state, len(self._looks))
        mask = self._of_its_size(mask, before)
        _assert_object_in(mask)
        is_known = object_labels.to_indices(mask, before.object_ids) != NO_OBJECT
        mask = _checked(
            mask,
            ~tf.reduce_any(is_known & (mask != 0)),
            "an object in the mask is already followed; use correct to mark more of it",
        )
        bound = tf.constant(self.max_total_reference_pixels)
        after = video_state.add_objects(before, mask, self._look_scales, self._reference, bound)
        return video_state.to_flat(after)

    def _correct(
        self, mask: tf.Tensor, state: State, max_total_reference_pixels: tf.Tensor
    ) -> State:
        """Returns the state with the last frame corrected; call it as `correct`.

        See `state.correct`. The network does not run.

        Args:
          mask: uint8 `[height, width]` ids that are followed; 0 is background, 255 leaves the last
            frame's labels unchanged.
          state: of a video.
          max_total_reference_pixels: int32 scalar that overrides the setting unless negative.
        """
        before = video_state.from_flat(state, len(self._looks))
        mask = self._of_its_size(mask, before)
        is_known = object_labels.to_indices(mask, before.object_ids) != NO_OBJECT
        mask = _checked(
            mask,
            tf.reduce_all(is_known | (mask == VOID)),
            "the mask holds an object that is not followed; use add_objects for new ones",
        )
        bound = tf.where(
            max_total_reference_pixels < 0,
            self.max_total_reference_pixels,
            max_total_reference_pixels,
        )
        after = video_state.correct(before, mask, self._look_scales, self._reference, bound)
        return video_state.to_flat(after)

    def _remove(self, object_id: tf.Tensor, state: State) -> State:
        """Returns the state with an object turned into background; call it as `remove`.

        Args:
          object_id: int32 scalar, one of `state["object_ids"]`, not 0.
          state: of a video.
        """
        before = video_state.from_flat(state, len(self._looks))
        is_followed = tf.reduce_any(before.object_ids == object_id) & (object_id != 0)
        object_id = _checked(object_id, is_followed, "no object with this id is followed")
        bound = tf.constant(self.max_total_reference_pixels)
        return video_state.to_flat(video_state.remove(before, object_id, bound))

    def _features(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns decoder features and embeddings `[h, w, channels]`; call it as `features`."""
        features = self._extract(multi_scale.scaled_image(image, 1.0))
        return features.decoder_features[0], features.embeddings[0]

    def _segment_marked(
        self, features: tf.Tensor, embeddings: tf.Tensor, marks: tf.Tensor, before: tf.Tensor
    ) -> tf.Tensor:
        """Returns an object's log-odds `[h, w]` in an image; call it as `segment_marked`.

        The image is its own reference frame and its own previous frame; see `prompt`.

        Args:
          features, embeddings: of the image, from `features`.
          marks: int32 `[h, w]`, 1 on the object, 0 outside it, negative where unknown.
          before: float32 `[h, w]` probability of the object so far, negative where unknown.
        """
        reference = prepare_reference(embeddings, marks, tf.constant(2))
        indices = tf.where(before < 0, NO_OBJECT, tf.cast(before > 0.5, tf.int32))
        masks = tf.where(before < 0, 0.0, tf.stack([1 - before, before]))
        previous = Previous(embeddings, indices, masks)
        logits = self._segment(features, embeddings, reference, previous).logits[..., 0]
        return logits[1] - logits[0]

    def _step(self, image: tf.Tensor, state: State) -> tuple[tf.Tensor, tf.Tensor, State]:
        """Returns the segmentation of the next frame; call it as `step`.

        Args:
          image: uint8 `[height, width, 3]` RGB, of the reference frame's size.
          state: of the previous frame.

        Returns:
          ids: uint8 `[height, width]` object ids as in the mask.
          probabilities: float32 `[height, width, objects]`, channels in order of
            `state["object_ids"]`.
          state: for the next call.
        """
        before = video_state.from_flat(state, len(self._looks))
        image = self._of_its_size(image, before)
        results = [
            self._segment_look(image, at_scale, look)
            for at_scale, look in zip(before.scales, self._looks)
        ]
        size = tf.shape(image)[:2]
        of_looks = [logits for logits, _ in results]
        if self.flip:
            unflipped, flipped = of_looks[: len(self.scales)], of_looks[len(self.scales) :]
            of_looks = [(a + b) / 2 for a, b in zip(unflipped, flipped)]
        logits = multi_scale.merged_logits(of_looks, self.scales, size, self.merge)
        if self.gate_radius:
            previous = resize_nearest(before.scales[0].previous.indices, tf.shape(logits)[1:3])
            logits = gating.apply_gate(logits, previous, before.object_ids, self.gate_radius)
        # Reproduction trap: the logits are resized, not the probabilities.
        full_logits = resize_bilinear(logits, size)[0]
        winners = tf.argmax(full_logits, -1, output_type=tf.int32)
        scales = tuple(
            at_scale._replace(previous=self._fed_back(winners, logits, embeddings, scale))
            for at_scale, (_, embeddings), scale in zip(before.scales, results, self._look_scales)
        )
        after = before._replace(previous_is_reference=tf.constant(False), scales=scales)
        if after.frames is not None:
            after = video_state.remember(
                after,
                tf.nn.softmax(logits),
                self.memory_every,
                self._pixels(self.memory_pixels, before.object_ids),
                self._pixels(self.max_memory_pixels, before.object_ids),
                self.memory_probability,
            )
        ids = tf.cast(tf.gather(before.object_ids, winners), tf.uint8)
        return ids, tf.nn.softmax(full_logits), video_state.to_flat(after)

    def _of_its_size(self, picture: tf.Tensor, state: PredictorState) -> tf.Tensor:
        """Returns an image or mask after checking that its grid is that of the state's frame."""
        size = multi_scale.scaled_size(tf.shape(picture)[:2], self.scales[0])
        grid = tf.shape(state.scales[0].previous.indices)
        is_same = tf.reduce_all((size + 3) // 4 == grid)
        return _checked(picture, is_same, "expected the size of the previous frame")

    def _segment_look(
        self, image: tf.Tensor, state: ScaleState, look: Look
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns logits `[1, h, w, objects]` and embeddings `[h, w, channels]` in one look."""
        features = self._extract(look.image(image))
        embeddings, indices, masks = state.previous
        output = self._segment(
            features.decoder_features[0],
            features.embeddings[0],
            video_state.matched(state),
            Previous(
                look.mirrored(embeddings[tf.newaxis])[0],
                look.mirrored(indices[tf.newaxis])[0],
                look.mirrored(masks),
            ),
        )
        logits = tf.transpose(look.mirrored(output.logits), [3, 1, 2, 0])
        return logits, look.mirrored(features.embeddings)[0]

    def _fed_back(
        self, winners: tf.Tensor, logits: tf.Tensor, embeddings: tf.Tensor, scale: float
    ) -> Previous:
        """Returns what is fed back to the next frame at one scale."""
        # Reproduction trap: like the image, the mask is resized to the scale, then to the grid.
        scaled = multi_scale.labels_at_scale(winners, scale)
        indices = resize_nearest(scaled, tf.shape(embeddings)[:2])
        return Previous(embeddings, indices, _FEEDBACK[self.feedback](indices, logits))

    @tf.function(input_signature=[_IMAGES, _MASK])
    def segment_clip(self, images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns uint8 `[frames, height, width]` ids; those of the first frame are `mask`.

        Args:
          images: uint8 `[frames, height, width, 3]` RGB.
          mask: uint8 `[height, width]` object ids of the first frame.
        """
        images = _checked(images, tf.shape(images)[0] > 0, "expected at least one image")
        state = self.start(images[0], mask)
        frames = tf.TensorArray(tf.uint8, size=tf.shape(images)[0], element_shape=[None, None])
        frames = frames.write(0, mask)
        for frame in tf.range(1, tf.shape(images)[0]):
            ids, _, state = self.step(images[frame], state)
            frames = frames.write(frame, ids)
        return frames.stack()


def _checked(value: tf.Tensor, condition: tf.Tensor, message: str) -> tf.Tensor:
    """Returns the value; what uses it runs only if the condition holds."""
    check = tf.debugging.Assert(condition, [message])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(value)


def _assert_object_in(mask: tf.Tensor) -> None:
    held = tf.reduce_any((mask != 0) & (mask != VOID))
    tf.debugging.Assert(held, ["the mask holds no object"])

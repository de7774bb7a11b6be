"""The FEELVOS network: frames and the previous mask in, logits per object out."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

import gin
import tensorflow as tf

from feelvos_tf.core.errors import InputError
from feelvos_tf.core.setting_types import checked
from feelvos_tf.models import clip_rollout
from feelvos_tf.models.deeplab import FILTERS, AtrousSpatialPyramidPooling, Decoder
from feelvos_tf.models.dynamic_segmentation_head import SegmentationHead
from feelvos_tf.models.embedding import Embedding
from feelvos_tf.models.features import ClipOutput, Features, Previous
from feelvos_tf.models.global_matching import (
    Reference,
    global_distances,
    global_distances_inference,
    normalize_distance,
    prepare_reference,
)
from feelvos_tf.models.layers.convolution import ConvNormActivation
from feelvos_tf.models.layers.variables import maps
from feelvos_tf.models.layers.walk import convolutions_by_path
from feelvos_tf.models.local_matching import (
    LOCAL_MATCHINGS,
    LOCAL_MATCHINGS_INFERENCE,
    import_addons,
)

_PREVIOUS_FRAME_MATCHINGS = ("local", "global", "none")
_ARGUMENTS_KEPT_BY_NAME = (
    "atrous_rates",
    "embedding_dimension",
    "window_radius",
    "nearest_neighbors",
    "train_max_neighbors_per_object",
    "first_frame_matching",
    "previous_frame_matching",
    "previous_frame_predictions",
    "local_matching",
    "fine_tune_batch_norm",
    "freeze_backbone",
    "recompute_backbone",
)


@gin.configurable
@tf.keras.utils.register_keras_serializable("feelvos_tf")
class Feelvos(tf.keras.Model):
    """FEELVOS (paper section 3, figures 1 and 3).

    As a Keras model, `model(images)` is the part that looks at single frames: see `call`. Matching
    and head need two more frames and their masks: `segment` for one frame, `clip_logits` for a
    training batch.

    Args:
      backbone: layer that maps images to low-level and deep features, and knows how many channels
        they have; `Xception` or `MobileNetV2`.
      atrous_rates: of the ASPP branches; (6, 12, 18) at output stride 16, (12, 24, 36)
        at 8; () leaves only image pooling and the 1x1 branch.
      embedding_dimension: channels of the embedding.
      window_radius: k of local matching, in stride-4 pixels.
      nearest_neighbors: global matching takes the mean over this many nearest neighbors.
      train_max_neighbors_per_object: reference pixels kept per object while training, at random
        (0: all).
      first_frame_matching: global matching to the reference frame (FF-GM of the paper's table 6).
      previous_frame_matching: "local" (PF-LM), "global" (PF-GM) or "none".
      previous_frame_predictions: whether the head sees the previous masks (PFP).
      local_matching: "tiles", or "correlation" (tensorflow_addons): the same numbers.
      fold_batch_norm: whether frozen batch norm is part of the convolution before it. False keeps
        it an operation of its own, in the order of the release's arithmetic: with
        TF_ENABLE_ONEDNN_OPTS=0 in the environment the numbers are the release's to rounding. That
        costs a fifth of a training step's time and two fifths of its memory.
      fine_tune_batch_norm: train with the statistics of the batch and update the running ones.
      freeze_backbone: leave the backbone's weights alone and stop the gradients there, which saves
        about a third of a training step.
      recompute_backbone: while training, compute the activations inside the backbone's blocks
        again for the gradient instead of keeping them: less memory, more time.

    Raises:
      InputError: a setting is out of range.
    """

    @checked("Feelvos")
    def __init__(
        self,
        backbone: tf.keras.layers.Layer = gin.REQUIRED,
        atrous_rates: tuple[int, ...] = (6, 12, 18),
        embedding_dimension: int = 100,
        window_radius: int = 15,
        nearest_neighbors: int = 1,
        train_max_neighbors_per_object: int = 1024,
        first_frame_matching: bool = True,
        previous_frame_matching: str = "local",
        previous_frame_predictions: bool = True,
        local_matching: str = "tiles",
        fold_batch_norm: bool = True,
        fine_tune_batch_norm: bool = False,
        freeze_backbone: bool = False,
        recompute_backbone: bool = False,
    ):
        super().__init__(name="feelvos")
        if not isinstance(backbone, tf.keras.layers.Layer):
            raise InputError(
                f"Feelvos.backbone: expected a backbone such as @Xception(), found {backbone!r}"
            )
        _check_choice("previous_frame_matching", previous_frame_matching, _PREVIOUS_FRAME_MATCHINGS)
        if local_matching == "auto":
            # What settings saved by version 0.1 say.
            local_matching = "tiles"
        _check_choice("local_matching", local_matching, LOCAL_MATCHINGS)
        if local_matching == "correlation":
            import_addons()
        if not first_frame_matching and previous_frame_matching == "none":
            raise InputError(
                "Feelvos: expected first_frame_matching or a previous_frame_matching, found neither"
            )
        _check_at_least("embedding_dimension", embedding_dimension, 1)
        _check_at_least("window_radius", window_radius, 0)
        _check_at_least("nearest_neighbors", nearest_neighbors, 1)
        _check_at_least("train_max_neighbors_per_object", train_max_neighbors_per_object, 0)
        for atrous_rate in atrous_rates:
            _check_at_least("atrous_rates", atrous_rate, 1)
        if recompute_backbone and fine_tune_batch_norm:
            raise InputError(
                "Feelvos.recompute_backbone: expected False with fine_tune_batch_norm, because "
                "running averages must move once per step, found True"
            )
        self.backbone = backbone
        self.atrous_rates = tuple(atrous_rates)
        self.aspp = AtrousSpatialPyramidPooling(self.atrous_rates)
        self.decoder = Decoder(backbone.low_level_channels)
        self.embedding = Embedding(embedding_dimension)
        cues = [first_frame_matching, previous_frame_matching != "none", previous_frame_predictions]
        self.head = SegmentationHead(sum(cues))
        self.embedding_dimension = embedding_dimension
        self.window_radius = window_radius
        self.nearest_neighbors = nearest_neighbors
        self.train_max_neighbors_per_object = train_max_neighbors_per_object
        self.first_frame_matching = first_frame_matching
        self.previous_frame_matching = previous_frame_matching
        self.previous_frame_predictions = previous_frame_predictions
        self.local_matching = local_matching
        self.local_distances = LOCAL_MATCHINGS[local_matching]
        self.local_distances_inference = LOCAL_MATCHINGS_INFERENCE[local_matching]
        self.fine_tune_batch_norm = fine_tune_batch_norm
        self.freeze_backbone = freeze_backbone
        self.recompute_backbone = recompute_backbone
        self.is_batch_norm_folded = fold_batch_norm
        for layer in self.convolutions():
            if layer.norm is not None:
                layer.norm.is_folded = fold_batch_norm

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments in numbers and words, as Keras saves them."""
        backbone = dict(tf.keras.layers.serialize(self.backbone))
        # `build` builds it; Keras would do so before.
        backbone.pop("build_config", None)
        return {
            "backbone": backbone,
            "fold_batch_norm": self.is_batch_norm_folded,
            **{name: getattr(self, name) for name in _ARGUMENTS_KEPT_BY_NAME},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Feelvos:
        """Returns a new network, without weights, of what `get_config` returned."""
        backbone = tf.keras.layers.deserialize(dict(config["backbone"]))
        return cls(**{**config, "backbone": backbone})

    def get_build_config(self) -> dict[str, Any]:
        # Without it Keras 3 leaves a loaded network with random weights, and says nothing.
        return {"input_shape": [None, None, None, 3]}

    def build_from_config(self, config: dict[str, Any]) -> None:
        del config
        self.create_variables()

    def create_variables(self) -> None:
        """Creates all variables, with random values; no image is needed."""
        self.build(maps(3))

    def build(self, input_shape: tf.TensorShape) -> None:
        if self.built:
            return
        self.backbone.build(input_shape)
        self.aspp.build(maps(self.backbone.channels))
        self.decoder.build(maps(FILTERS))
        self.embedding.build(maps(FILTERS))
        self.head.build(maps(FILTERS))
        self.built = True

    def call(self, images: tf.Tensor, training: bool = False) -> Features:
        """Returns decoder features and embeddings of `images`; the same as `extract`.

        Example:
          model = Feelvos(MobileNetV2())
          features = model(tf.zeros([1, 480, 854, 3]))
          features.embeddings.shape    # [1, 120, 214, 100]

        Args:
          images: `[n, height, width, 3]`, RGB 0..255, any size.
          training: whether dropout is active and gradients are needed.
        """
        return self.extract(images, training)

    def convolutions(self) -> list[ConvNormActivation]:
        """Returns every layer that owns variables."""
        return [layer for _, layer in convolutions_by_path(self)]

    def fuse_batch_norm(self) -> None:
        """Moves every batch norm into the convolution before it, for good; for inference only."""
        for layer in self.convolutions():
            layer.fuse_batch_norm()

    def extract(
        self, images: tf.Tensor, training: bool = False, seeds: tf.Tensor | None = None
    ) -> Features:
        """Returns the features of `images` `[n, height, width, 3]`, RGB 0..255, any size.

        They are float32 also in mixed precision: matching compares distances that differ little.
        """
        features = self.backbone_to_decoder(
            images, training, training and self.fine_tune_batch_norm, seeds
        )
        embeddings = self.embedding(features)
        return Features(tf.cast(features, tf.float32), tf.cast(embeddings, tf.float32))

    def backbone_to_decoder(
        self,
        images: tf.Tensor,
        training: bool,
        batch_statistics: bool,
        seeds: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the decoder features of `images`: all layers that have a batch norm.

        Args:
          images: float32 `[n, height, width, 3]`, RGB 0..255.
          training: whether dropout is active and gradients are needed.
          batch_statistics: normalize by the statistics of `images` and move the running ones.
          seeds: integer `[clips, 2]`, of the dropout, for each of so many equal parts of `images`;
            another one every time where None.
        """
        low_level, deep = self.backbone(
            images,
            batch_statistics=batch_statistics and not self.freeze_backbone,
            recompute=training and self.recompute_backbone and not self.freeze_backbone,
        )
        if training and self.freeze_backbone:
            low_level, deep = tf.stop_gradient(low_level), tf.stop_gradient(deep)
        deep = self.aspp(deep, training=training, batch_statistics=batch_statistics, seeds=seeds)
        return self.decoder(deep, low_level, batch_statistics=batch_statistics)

    def segment(
        self,
        features: tf.Tensor,
        embeddings: tf.Tensor,
        reference: Reference,
        previous: Previous,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> ClipOutput:
        """Returns the logits of one current frame.

        Reproduction trap: the head's cues are ordered global map, previous mask, local map.

        Args:
          features: `[h, w, 256]` decoder features of the current frame.
          embeddings: `[h, w, channels]` embeddings of the current frame.
          reference: from `prepare_reference`.
          previous: the frame before.
          training: whether gradients are needed.
          seed: integer `[2]`, of the previous frame's pixels where they are matched globally.
        """
        global_map = local_map = None
        if self.first_frame_matching:
            global_map = self._match_globally(embeddings, reference, training)
        if self.previous_frame_matching != "none":
            local_map = self._match_previous(embeddings, previous, training, seed)
        masks = previous.masks if self.previous_frame_predictions else None
        cues = tf.stack([cue for cue in (global_map, masks, local_map) if cue is not None], -1)
        logits = self.head(features[tf.newaxis], cues, training=training)
        return ClipOutput(logits, global_map, local_map)

    def clip_logits(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        num_objects: tf.Tensor,
        training: bool,
        seeds: tf.Tensor | None = None,
    ) -> list[ClipOutput]:
        """Returns the logits of the current frame of every clip, for training.

        The ground truth of the previous frame stands in for its prediction (paper section 3,
        Training procedure).

        Args:
          images: float32 `[batch, 3 or more, height, width, 3]` reference, previous and current
            frames, and those that follow (a rollout, which the paper does without).
          labels: int32 `[batch, 3 or more, height, width]` object indices; 255 is void.
          num_objects: int32 `[batch]`.
          training: whether dropout is active and gradients are needed.
          seeds: integer `[batch, 2]` that dropout and the pixels kept for matching follow from,
            whatever clips are beside; others every time where None.
        """
        batch, frames = images.shape[:2]
        features = self.extract(tf.reshape(images, [-1, *images.shape[2:]]), training, seeds)
        # Taken apart at once: the gradient of slices would be padded and summed, frame by frame.
        decoder_features = tf.unstack(features.decoder_features, batch * frames)
        embeddings = tf.unstack(features.embeddings, batch * frames)
        outputs = []
        for clip in range(batch):
            own = slice(clip * frames, (clip + 1) * frames)
            outputs.append(
                clip_rollout.segment_clip(
                    self,
                    decoder_features[own],
                    embeddings[own],
                    labels[clip],
                    num_objects[clip],
                    training,
                    None if seeds is None else seeds[clip],
                )
            )
        return outputs

    def _match_globally(
        self, embeddings: tf.Tensor, reference: Reference, training: bool
    ) -> tf.Tensor:
        match = global_distances if training else global_distances_inference
        return normalize_distance(match(embeddings, reference, self.nearest_neighbors))

    def _match_previous(
        self, embeddings: tf.Tensor, previous: Previous, training: bool, seed: tf.Tensor | None
    ) -> tf.Tensor:
        num_objects = tf.shape(previous.masks)[0]
        if self.previous_frame_matching == "global":
            max_pixels = self.train_max_neighbors_per_object if training else 0
            pixels = prepare_reference(
                previous.embeddings, previous.indices, num_objects, max_pixels, seed
            )
            return self._match_globally(embeddings, pixels, training)
        match = self.local_distances if training else self.local_distances_inference
        return normalize_distance(
            match(
                embeddings, previous.embeddings, previous.indices, num_objects, self.window_radius
            )
        )


# Keras 3 looks at the arguments of the constructor, which gin's wrapper would hide from it.
Feelvos.__init__.__signature__ = inspect.signature(Feelvos.__init__)


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raises InputError unless a setting of `Feelvos` is one of the choices."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise InputError(f"Feelvos.{name}: expected one of {known}, found {value!r}")


def _check_at_least(name: str, value: int, least: int) -> None:
    """Raises InputError where a setting of `Feelvos` is too small."""
    if value < least:
        raise InputError(f"Feelvos.{name}: expected {least} or more, found {value}")

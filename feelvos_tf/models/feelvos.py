"""The FEELVOS network: frames and the previous mask in, logits per object out."""

from __future__ import annotations

from typing import Literal, NamedTuple

import gin
import tensorflow as tf

from feelvos_tf.core import settings
from feelvos_tf.core.errors import InputError
from feelvos_tf.models.deeplab import FILTERS, AtrousSpatialPyramidPooling, Decoder
from feelvos_tf.models.dynamic_segmentation_head import SegmentationHead
from feelvos_tf.models.embedding import Embedding, linear_embedding
from feelvos_tf.models.global_matching import (
    Reference,
    global_distances,
    global_distances_inference,
    nearest_label_votes,
    normalize_distance,
    prepare_reference,
)
from feelvos_tf.models.layers import convolutions_of, maps
from feelvos_tf.models.local_matching import (
    LOCAL_MATCHINGS,
    LOCAL_MATCHINGS_INFERENCE,
    import_addons,
)


class Features(NamedTuple):
    """What the network extracts from single frames.

    Attributes:
      decoder_features: float32 `[n, h, w, 256]` at stride 4.
      embeddings: float32 `[n, h, w, embedding_dimension]` at stride 4.
    """

    decoder_features: tf.Tensor
    embeddings: tf.Tensor


class Previous(NamedTuple):
    """What the network uses from the previous frame.

    Attributes:
      embeddings: float32 `[h, w, embedding_dimension]`.
      indices: int32 `[h, w]` object indices, negative for none.
      masks: float32 `[objects, h, w]` predictions fed back, 0 or 1, or probabilities.
    """

    embeddings: tf.Tensor
    indices: tf.Tensor
    masks: tf.Tensor


class ClipOutput(NamedTuple):
    """What the network computes for the current frame of a clip.

    Attributes:
      logits: float32 `[objects, h, w, 1]` at stride 4.
      global_map: float32 `[objects, h, w]` distances to the reference frame, 0..1, or None.
      local_map: float32 `[objects, h, w]` distances to the previous frame, 0..1, or None.
      embeddings: float32 `[3, h, w, channels]` of reference, previous and current frame; None
        for a single frame.
      further_logits: logits of the frames after the current one, each computed with the mask
        predicted for the frame before it.
    """

    logits: tf.Tensor
    global_map: tf.Tensor | None
    local_map: tf.Tensor | None
    embeddings: tf.Tensor | None = None
    further_logits: tuple[tf.Tensor, ...] = ()


@settings.configurable
class Feelvos(tf.keras.Model):
    """FEELVOS (paper section 3, figures 1 and 3).

    As a Keras model, `model(images)` runs the part that processes single frames: see `extract`.
    Matching and head also need two other frames and their masks: see `segment`.

    Args:
      backbone: layer from images to low-level and deep features, with attributes for their numbers
        of channels; `Xception`, `MobileNetV2` or `ResNet50`.
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
      normalize_distances: whether global distances are mapped to 0..1 (equation 1). False gives the
        head squared distances; as in the release, only without previous-frame matching.
      majority_neighbors: 0 for FEELVOS. Otherwise the network is the release's for its triplet
        loss, pixel-wise metric learning: each pixel takes the majority label of this many
        nearest reference pixels; the embedding is linear, and there is no head.
      local_matching: "tiles", or "correlation" (tensorflow_addons); both give the same numbers.
      fold_batch_norm: fold frozen batch norm into the convolution before it. False keeps it a
        separate operation, in the release's order of arithmetic: with TF_ENABLE_ONEDNN_OPTS=0 in
        the environment, the numbers then match the release's up to rounding. This costs a fifth of
        a training step's time and two fifths of its memory.
      fine_tune_batch_norm: train with batch statistics and update the running averages.
      freeze_backbone: keep the backbone's weights fixed and stop gradients there, which saves about
        a third of a training step.
      recompute_backbone: while training, recompute the activations inside the backbone's blocks for
        the gradient instead of keeping them: less memory, more time.

    Raises:
      InputError: a setting is out of range.
    """

    def __init__(
        self,
        backbone: tf.keras.layers.Layer = gin.REQUIRED,
        atrous_rates: tuple[settings.PositiveInt, ...] = (6, 12, 18),
        embedding_dimension: settings.PositiveInt = 100,
        window_radius: settings.Count = 15,
        nearest_neighbors: settings.PositiveInt = 1,
        train_max_neighbors_per_object: settings.Count = 1024,
        first_frame_matching: bool = True,
        previous_frame_matching: Literal["local", "global", "none"] = "local",
        previous_frame_predictions: bool = True,
        normalize_distances: bool = True,
        majority_neighbors: settings.Count = 0,
        local_matching: Literal["tiles", "correlation"] = "tiles",
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
        if local_matching == "correlation":
            import_addons()
        if not first_frame_matching and previous_frame_matching == "none":
            raise InputError(
                "Feelvos: expected first_frame_matching or a previous_frame_matching, found neither"
            )
        if not normalize_distances and previous_frame_matching != "none":
            raise InputError(
                "Feelvos.normalize_distances: expected True with previous_frame_matching = "
                f"{previous_frame_matching!r}, found False"
            )
        if recompute_backbone and fine_tune_batch_norm:
            raise InputError(
                "Feelvos.recompute_backbone: expected False with fine_tune_batch_norm, because "
                "running averages must be updated once per step, found True"
            )
        cues = [first_frame_matching, previous_frame_matching != "none", previous_frame_predictions]
        self.backbone = backbone
        self.aspp = AtrousSpatialPyramidPooling(tuple(atrous_rates))
        self.decoder = Decoder(backbone.low_level_channels)
        make_embedding = linear_embedding if majority_neighbors else Embedding
        self.embedding = make_embedding(embedding_dimension)
        self.embedding_dimension = embedding_dimension
        self.head = None if majority_neighbors else SegmentationHead(sum(cues))
        self.window_radius, self.nearest_neighbors = window_radius, nearest_neighbors
        self.normalize_distances, self.majority_neighbors = normalize_distances, majority_neighbors
        self.train_max_neighbors_per_object = train_max_neighbors_per_object
        self.first_frame_matching = first_frame_matching
        self.previous_frame_matching = previous_frame_matching
        self.previous_frame_predictions = previous_frame_predictions
        self.local_distances = LOCAL_MATCHINGS[local_matching]
        self.local_distances_inference = LOCAL_MATCHINGS_INFERENCE[local_matching]
        self.fine_tune_batch_norm = fine_tune_batch_norm
        self.freeze_backbone, self.recompute_backbone = freeze_backbone, recompute_backbone
        for layer in convolutions_of(self):
            if layer.norm is not None:
                layer.norm.is_folded = fold_batch_norm

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
        if self.head is not None:
            self.head.build(maps(FILTERS))
        self.built = True

    def fuse_batch_norm(self) -> None:
        """Fuses every batch norm into the convolution before it, irreversibly; for inference."""
        for layer in convolutions_of(self):
            layer.fuse_batch_norm()

    def extract(
        self, images: tf.Tensor, training: bool = False, seeds: tf.Tensor | None = None
    ) -> Features:
        """Returns the features of `images`, float32 even in mixed precision.

        Matching compares distances that differ little.

        Example:
          model = Feelvos(MobileNetV2())
          features = model(tf.zeros([1, 480, 854, 3]))
          features.embeddings.shape    # [1, 120, 214, 100]

        Args:
          images: `[n, height, width, 3]`, RGB 0..255, any size.
          training: whether dropout is active and gradients are needed.
          seeds: see `backbone_to_decoder`.
        """
        features = self.backbone_to_decoder(
            images, training, training and self.fine_tune_batch_norm, seeds
        )
        embeddings = self.embedding(features)
        return Features(tf.cast(features, tf.float32), tf.cast(embeddings, tf.float32))

    call = extract  # Which Keras runs as `model(images)`.

    def backbone_to_decoder(
        self,
        images: tf.Tensor,
        training: bool,
        batch_statistics: bool,
        seeds: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the decoder features of `images`, from all the layers that have a batch norm.

        Args:
          images: float32 `[n, height, width, 3]`, RGB 0..255.
          training: whether dropout is active and gradients are needed.
          batch_statistics: normalize by the statistics of `images`, update the running averages.
          seeds: integer `[clips, 2]`, for the dropout in each clip, an equal part of `images`; None
            draws at random.
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
          previous: the previous frame.
          training: whether gradients are needed.
          seed: integer `[2]`, for the choice of previous pixels if they are matched globally.
        """
        if self.majority_neighbors:
            votes = nearest_label_votes(embeddings, reference, self.majority_neighbors)
            return ClipOutput(votes[..., tf.newaxis], None, None)
        global_map, local_map = self.distance_maps(embeddings, reference, previous, training, seed)
        masks = previous.masks if self.previous_frame_predictions else None
        cues = tf.stack([cue for cue in (global_map, masks, local_map) if cue is not None], -1)
        logits = self.head(features[tf.newaxis], cues, training=training)
        return ClipOutput(logits, global_map, local_map)

    def distance_maps(
        self,
        embeddings: tf.Tensor,
        reference: Reference,
        previous: Previous,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Returns the distances to the reference and to the previous frame, as `ClipOutput` does.

        Figure 2 of the paper shows such maps. For the arguments see `segment`.
        """
        global_map = local_map = None
        if self.first_frame_matching:
            global_map = self._match_globally(embeddings, reference, training)
        if self.previous_frame_matching != "none":
            local_map = self._match_previous(embeddings, previous, training, seed)
        return global_map, local_map

    def _match_globally(
        self, embeddings: tf.Tensor, reference: Reference, training: bool
    ) -> tf.Tensor:
        match = global_distances if training else global_distances_inference
        distances = match(embeddings, reference, self.nearest_neighbors)
        return normalize_distance(distances) if self.normalize_distances else distances

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
        distances = match(
            embeddings, previous.embeddings, previous.indices, num_objects, self.window_radius
        )
        return normalize_distance(distances)

"""A SavedModel that follows objects by their color: a stand-in for tests of inference."""

from __future__ import annotations

import pathlib

import tensorflow as tf

from feelvos_tf.core.constants import VOID

_IMAGE = tf.TensorSpec([None, None, 3], tf.uint8)
_MASK = tf.TensorSpec([None, None], tf.uint8)
_COLORS = tf.TensorSpec([None, None, 3], tf.float32)
_PLANE = tf.TensorSpec([None, None], tf.float32)
_STATE = {
    "object_ids": tf.TensorSpec([None], tf.int32),
    "colors": tf.TensorSpec([None, 3], tf.float32),
    "last_image": _IMAGE,
}


class ColorModel(tf.Module):
    """Assigns every pixel to the object that had the nearest color in the frame of its mask."""

    def __init__(self, sharpness: float = 0.01):
        super().__init__()
        self.sharpness = tf.Variable(sharpness)

    @tf.function(input_signature=[_IMAGE, _MASK])
    def start(self, image: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the state of a new video."""
        ids, colors = _ids_and_colors(image, mask)
        return {"object_ids": ids, "colors": colors, "last_image": image}

    @tf.function(input_signature=[_IMAGE, _STATE])
    def step(self, image: tf.Tensor, state: dict[str, tf.Tensor]) -> tuple:
        """Returns ids, probabilities and state of the next frame."""
        differences = tf.cast(image, tf.float32)[:, :, None] - state["colors"]
        logits = -self.sharpness * tf.reduce_sum(differences**2, -1)
        ids = tf.gather(state["object_ids"], tf.argmax(logits, -1))
        return tf.cast(ids, tf.uint8), tf.nn.softmax(logits), {**state, "last_image": image}

    @tf.function(input_signature=[_MASK, _STATE])
    def add_objects(self, mask: tf.Tensor, state: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the state with additional objects."""
        silent = tf.cast(VOID, tf.uint8)
        ids, colors = _ids_and_colors(state["last_image"], tf.where(mask == 0, silent, mask))
        ids = tf.concat([state["object_ids"], ids], 0)
        order = tf.argsort(ids)
        colors = tf.gather(tf.concat([state["colors"], colors], 0), order)
        return {**state, "object_ids": tf.gather(ids, order), "colors": colors}

    @tf.function(input_signature=[_MASK, _STATE, tf.TensorSpec([], tf.int32)])
    def correct(
        self, mask: tf.Tensor, state: dict[str, tf.Tensor], max_total_reference_pixels: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the state in which the mask's objects have their colors in the last frame."""
        del max_total_reference_pixels
        ids, colors = _ids_and_colors(state["last_image"], mask)
        places = tf.searchsorted(state["object_ids"], ids)
        after = tf.tensor_scatter_nd_update(state["colors"], places[:, None], colors)
        return {**state, "colors": after}

    @tf.function(input_signature=[_IMAGE])
    def features(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns colors, as decoder features and as embeddings."""
        colors = tf.cast(image, tf.float32)
        return colors, colors

    @tf.function(input_signature=[_COLORS, _COLORS, tf.TensorSpec([None, None], tf.int32), _PLANE])
    def segment_marked(
        self, features: tf.Tensor, embeddings: tf.Tensor, marks: tf.Tensor, before: tf.Tensor
    ) -> tf.Tensor:
        """Returns log-odds: how much nearer a color is to one marked 1 than to one marked 0."""
        del features, before

        def nearest(label: int) -> tf.Tensor:
            marked = tf.boolean_mask(embeddings, marks == label)
            return tf.reduce_min(tf.reduce_sum((embeddings[:, :, None] - marked) ** 2, -1), -1)

        return self.sharpness * (nearest(0) - nearest(1))


def save(folder: pathlib.Path, sharpness: float = 0.01) -> pathlib.Path:
    """Writes the SavedModel to `folder` and returns `folder`."""
    tf.saved_model.save(ColorModel(sharpness), str(folder))
    return folder


def _ids_and_colors(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sorted ids of the mask, without void, and their mean colors `[objects, 3]`."""
    ids = tf.sort(tf.unique(tf.reshape(tf.cast(mask, tf.int32), [-1]))[0])
    ids = tf.boolean_mask(ids, ids != VOID)
    of_object = tf.cast(tf.cast(mask, tf.int32)[None] == ids[:, None, None], tf.float32)
    sums = tf.einsum("ohw,hwc->oc", of_object, tf.cast(image, tf.float32))
    return ids, sums / tf.reduce_sum(of_object, [1, 2])[:, None]

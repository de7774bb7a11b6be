"""A SavedModel that follows objects by their colour: a stand-in for tests of prediction."""

from __future__ import annotations

import pathlib

import tensorflow as tf

from feelvos_tf.media import masks


class ColourModel(tf.Module):
    """Gives every pixel to the object of the nearest colour in the first frame."""

    def __init__(self, sharpness: float = 0.01):
        super().__init__()
        self.sharpness = tf.Variable(sharpness)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.uint8),
            tf.TensorSpec([None, None], tf.uint8),
        ]
    )
    def start(self, image: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the state of a new video."""
        ids = tf.sort(tf.unique(tf.reshape(tf.cast(mask, tf.int32), [-1]))[0])
        ids = tf.boolean_mask(ids, ids != masks.VOID)
        of_object = tf.cast(tf.cast(mask, tf.int32)[None] == ids[:, None, None], tf.float32)
        sums = tf.einsum("ohw,hwc->oc", of_object, tf.cast(image, tf.float32))
        counts = tf.reduce_sum(of_object, [1, 2])
        return {"object_ids": ids, "colours": sums / counts[:, None]}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.uint8),
            {
                "object_ids": tf.TensorSpec([None], tf.int32),
                "colours": tf.TensorSpec([None, 3], tf.float32),
            },
        ]
    )
    def step(self, image: tf.Tensor, state: dict[str, tf.Tensor]) -> tuple:
        """Returns ids, probabilities and state of the next frame."""
        differences = tf.cast(image, tf.float32)[:, :, None] - state["colours"]
        logits = -self.sharpness * tf.reduce_sum(differences**2, -1)
        ids = tf.gather(state["object_ids"], tf.argmax(logits, -1))
        return tf.cast(ids, tf.uint8), tf.nn.softmax(logits), state


def save(folder: pathlib.Path, sharpness: float = 0.01) -> pathlib.Path:
    """Returns `folder` after writing the SavedModel there."""
    tf.saved_model.save(ColourModel(sharpness), str(folder))
    return folder

"""A tiny stand-in for the model and the data, for tests of the training loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from feelvos_tf.data.input_pipeline import WHOLE, BatchShare
from feelvos_tf.models.feelvos import ClipOutput, Features

SIZE = 17
STRIDE_4_SIZE = 5


class TinyModel(tf.keras.Model):
    """Logits linear in the colors of the current frame; the same interface as the real model."""

    freeze_backbone = False
    train_max_neighbors_per_object = 0

    def __init__(self):
        super().__init__()
        self.weights_ = tf.Variable(tf.ones([3, 1]) * 0.01, name="weights")
        self.biases = tf.Variable(tf.zeros([1]), name="biases")
        self.unused = tf.Variable([1.0], name="unused")

    def named_variables(self) -> dict[str, tf.Variable]:
        return {
            "logits/weights": self.weights_,
            "logits/biases": self.biases,
            "unused/depthwise_weights": self.unused,
        }

    def extract(self, images, training, seeds=None):
        del seeds
        assert training
        assert images.shape[0] is not None
        colors = tf.image.resize(images, [STRIDE_4_SIZE] * 2) / 255.0 - 0.5
        return Features(colors, colors)

    def segment(self, features, embeddings, reference, previous, training=False, seed=None):
        del embeddings, reference, seed
        num_objects = tf.shape(previous.masks)[0]
        signs = tf.cast(tf.range(num_objects), tf.float32)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        logits = signs * (features[tf.newaxis] @ self.weights_ + self.biases)
        distances = tf.abs(logits[..., 0])
        return ClipOutput(logits, distances, distances)


def tiny_batch(clips: int, seed: int, frames: int = 3) -> dict[str, np.ndarray]:
    """Returns one batch: bright pixels are object 1, some void; every second clip has 3 objects."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 255, (clips, frames, SIZE, SIZE, 3)).astype(np.float32)
    labels = (images.mean(-1) > 127).astype(np.int32)
    labels[:, :, 0] = 255
    return {
        "images": images,
        "labels": labels,
        "num_objects": np.array([2 + i % 2 for i in range(clips)], np.int32),
        "video_id": np.array([b"clip"] * clips),
    }


def tiny_dataset(clips: int) -> tf.data.Dataset:
    """Returns endless repetitions of ten batches."""
    batches = [tiny_batch(clips, i) for i in range(10)]
    stacked = {key: np.stack([b[key] for b in batches]) for key in batches[0]}
    return tf.data.Dataset.from_tensor_slices(stacked).repeat()


def tiny_batches(clips: int) -> Callable[..., tf.data.Dataset]:
    """Returns what `Trainer.train` takes: step, share -> the batches of `tiny_dataset`."""
    batches = list(tiny_dataset(clips).take(10).as_numpy_iterator())
    kinds = {key: tf.constant(np.concatenate([b[key] for b in batches])) for key in batches[0]}

    def batches_from(step: int, share: BatchShare = WHOLE) -> tf.data.Dataset:
        numbers = share.numbers(clips, step).map(lambda n: n % (10 * clips))
        own = numbers.map(lambda n: {key: kind[n] for key, kind in kinds.items()})
        return own.batch(share.clips_per_replica(clips), drop_remainder=True)

    return batches_from

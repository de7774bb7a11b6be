"""A SavedModel that follows objects by their colour, and clips for it: for tests of prediction."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from PIL import Image

from feelvos_tf import masks

COLOURS = np.array([[90, 110, 90], [220, 40, 40], [40, 60, 220], [230, 200, 40]], np.uint8)
"""Of the background and of the objects in the order they are drawn."""


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


def draw(frame: int, ids: Iterable[int], size: tuple[int, int] = (48, 80)) -> tuple:
    """Returns image uint8 [height, width, 3] and ids uint8 [height, width]: disks that move."""
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, np.uint8)
    image = np.broadcast_to(COLOURS[0], (*size, 3)).copy()
    for place, value in enumerate(ids):
        centre_y, centre_x = 10 + 14 * place, 14 + 22 * place + 2 * frame
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < 50
        mask[inside] = value
        image[inside] = COLOURS[1 + place]
    return image, mask


def write_davis(
    root: pathlib.Path, sequences: dict[str, list[int]], num_frames: int = 5, year: str = "2017"
) -> pathlib.Path:
    """Returns `root` after writing sequences in DAVIS layout at 480p (in name): name -> ids."""
    for name, ids in sequences.items():
        images = root / "JPEGImages" / "480p" / name
        images.mkdir(parents=True)
        for frame in range(num_frames):
            image, mask = draw(frame, ids)
            Image.fromarray(image).save(images / f"{frame:05d}.jpg", quality=98)
            path = root / "Annotations" / "480p" / name / f"{frame:05d}.png"
            if year == "2016":
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((mask > 0).astype(np.uint8) * 255).save(path)
            else:
                masks.write_mask(path, mask)
    split = root / "ImageSets" / year / "val.txt"
    split.parent.mkdir(parents=True)
    split.write_text("\n".join(sequences) + "\n")
    return root

"""An exported model at work on videos: masks at full size, whatever size the model runs at."""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any, Protocol

import cv2
import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.media.masks import VOID


class VideoState(Protocol):
    """One video on its way: objects known from its first frame, followed frame by frame."""

    def step(self, image: np.ndarray) -> np.ndarray:
        """Returns the object ids of the next frame, uint8 [height, width].

        Args:
          image: uint8 [height, width, 3] RGB, of the first frame's size.
        """


class VideoSegmenter(Protocol):
    """What can follow objects through any number of videos."""

    def start(self, image: np.ndarray, mask: np.ndarray) -> VideoState:
        """Returns a new track.

        Args:
          image: the first frame, uint8 [height, width, 3] RGB.
          mask: its object ids, uint8 [height, width]; 0 is background, 255 void.
        """


class ModelVideoSegmenter:
    """A model with the functions of `feelvos_tf.inference.predictor` as a `VideoSegmenter`."""

    def __init__(self, model: Any, inference_size: int | None = None):
        """Stores the model.

        Args:
          model: a `Predictor`, or a SavedModel of one.
          inference_size: frames are scaled so that their short side has this many pixels while
            the model runs; None runs it on the frames as they are.
        """
        self._model = model
        self._inference_size = inference_size

    def start(self, image: np.ndarray, mask: np.ndarray) -> VideoState:
        """Returns a new track. See `VideoSegmenter`."""
        height, width = mask.shape
        scale = self._inference_size / min(mask.shape) if self._inference_size else 1
        size = max(1, round(height * scale)), max(1, round(width * scale))
        state = self._model.start(scaled(image, size), downsample_mask(mask, size))
        return ModelVideoState(self._model, state, size)


class SavedModelVideoSegmenter(ModelVideoSegmenter):
    """A SavedModel of `feelvos_tf.export` as a `VideoSegmenter`."""

    def __init__(self, path: str | os.PathLike[str], inference_size: int | None = None):
        """Loads the model.

        Args:
          path: the folder that `feelvos_tf.export` wrote.
          inference_size: see `ModelVideoSegmenter`.

        Raises:
          InputError: the folder is missing or holds no model of this project.
        """
        super().__init__(_load(path), inference_size)


class ModelVideoState:
    """The state of one video. It stays on the device between frames."""

    def __init__(self, model: Any, state: dict[str, Any], size: tuple[int, int]):
        self._model = model
        self._state = state
        self._size = size
        self._object_ids = np.asarray(state["object_ids"]).astype(np.uint8)

    @property
    def embeddings(self) -> np.ndarray:
        """The last frame's embedding vectors, float32 [h, w, channels], at stride 4."""
        return np.asarray(self._state["previous_embeddings"])

    def step(self, image: np.ndarray) -> np.ndarray:
        """Returns the ids of the next frame. See `VideoState`.

        Where the model ran at another size, its probabilities are scaled back, not its ids, so
        that outlines stay smooth.
        """
        ids, probabilities, self._state = self._model.step(scaled(image, self._size), self._state)
        if self._size == image.shape[:2]:
            return ids.numpy()
        return self._object_ids[enlarged_argmax(probabilities.numpy(), image.shape[:2])]


def check_saved_model(path: str | os.PathLike[str]) -> None:
    """Raises InputError unless the folder looks like a SavedModel."""
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder of a SavedModel, found no such folder")
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            f"{folder}: expected a SavedModel (write one with python -m feelvos_tf.export), found "
            "a folder without saved_model.pb"
        )


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Returns 16 hexadecimal digits that change with a SavedModel's graph or weights.

    The index of the variables holds a checksum of every weight, so the weights are not read.
    """
    digest = hashlib.sha256()
    for name in ("saved_model.pb", "variables/variables.index"):
        file = pathlib.Path(path) / name
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:16]


def scaled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the image at [height, width] `size`, averaged where it shrinks."""
    if size == image.shape[:2]:
        return image
    shrinks = size[0] < image.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation)


def downsample_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask at [height, width] `size`, uint8, in which no object of `mask` is lost.

    Nearest neighbour; an object too small for the grid keeps the one pixel that holds its middle.
    """
    if size == mask.shape:
        return mask
    result = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    for lost in np.setdiff1d(mask, [*np.unique(result), VOID]):
        rows, columns = np.nonzero(mask == lost)
        middle = len(rows) // 2
        row = rows[middle] * size[0] // mask.shape[0]
        column = columns[middle] * size[1] // mask.shape[1]
        result[row, column] = lost
    return result


def enlarged_argmax(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the most probable channel at [height, width] `size`, uint8.

    Channels are enlarged bilinearly and one at a time, so that memory does not grow with objects.

    Args:
      probabilities: float32 [height, width, num_objects].
      size: height and width of the result.
    """
    best = np.full(size, -np.inf, np.float32)
    winner = np.zeros(size, np.uint8)
    for channel in range(probabilities.shape[-1]):
        plane = np.ascontiguousarray(probabilities[..., channel])
        plane = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR)
        better = plane > best
        best[better] = plane[better]
        winner[better] = channel
    return winner


def _load(path: str | os.PathLike[str]) -> Any:
    """Returns the loaded SavedModel after checking that it is one of this project."""
    check_saved_model(path)
    import tensorflow as tf  # Here, so that a wrong flag is told without seconds of waiting.

    try:
        model = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be loaded as a SavedModel ({reason})") from error
    if not hasattr(model, "start") or not hasattr(model, "step"):
        raise InputError(
            f"{path}: expected a SavedModel written by feelvos_tf.export, found one without its "
            "functions start and step"
        )
    return model

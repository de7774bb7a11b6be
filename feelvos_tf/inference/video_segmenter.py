"""Segments videos with a model or SavedModel that may run at another size than the frames'."""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any, Callable, Protocol

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.inference_size import (
    downsample_mask,
    model_size,
    scaled,
    upsampled_argmax,
)
from feelvos_tf.media import masks

_FRAME_SIZE, _MODEL_SIZE = "frame_size", "model_size"


class VideoState(Protocol):
    """Interface: the state of one video, whose objects are followed frame by frame."""

    def step(self, image: np.ndarray) -> np.ndarray:
        """Returns the object ids of the next frame, uint8 [height, width].

        Args:
          image: uint8 [height, width, 3] RGB, of the first frame's size.
        """

    def add_objects(self, mask: np.ndarray) -> None:
        """Takes further objects that the last frame shows; from now on they are followed as well.

        Args:
          mask: their ids, uint8 [height, width]; 0 and 255 leave the last frame's ids as they are.
        """

    def snapshot(self) -> Callable[[], dict[str, np.ndarray]]:
        """Returns a function that gives the state as it is now, however late it is called.

        `VideoSegmenter.restore` takes what it gives.
        """


class VideoSegmenter(Protocol):
    """Interface: what segments any number of videos; a model, or a baseline."""

    def start(self, image: np.ndarray, mask: np.ndarray) -> VideoState:
        """Returns the state of a new video.

        Args:
          image: the first frame, uint8 [height, width, 3] RGB.
          mask: its object ids, uint8 [height, width]; 0 is background, 255 void.
        """

    def restore(self, arrays: dict[str, np.ndarray]) -> VideoState:
        """Returns the state that `VideoState.snapshot` has given, in another process perhaps."""


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

    def start(self, image: np.ndarray, mask: np.ndarray) -> ModelVideoState:
        """Returns the state of a new video. See `VideoSegmenter`.

        Raises:
          InputError: the mask holds no object or has another size than the image.
        """
        check_mask(mask, image.shape[:2])
        size = model_size(mask.shape, self._inference_size)
        state = self._model.start(scaled(image, size), downsample_mask(mask, size))
        return ModelVideoState(self._model, state, mask.shape, size)

    def restore(self, arrays: dict[str, np.ndarray]) -> ModelVideoState:
        """Returns a state as it was. See `VideoSegmenter`."""
        arrays = dict(arrays)
        sizes = [tuple(map(int, arrays.pop(name))) for name in (_FRAME_SIZE, _MODEL_SIZE)]
        return ModelVideoState(self._model, arrays, *sizes)


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
        super().__init__(load_saved_model(path), inference_size)


class ModelVideoState:
    """A `VideoState` that stays on the device between frames."""

    def __init__(
        self,
        model: Any,
        state: dict[str, Any],
        frame_size: tuple[int, int],
        model_size: tuple[int, int],
    ):
        self._model = model
        self._state = state
        self._frame_size = frame_size
        self._model_size = model_size

    @property
    def embeddings(self) -> np.ndarray:
        """The last frame's embedding vectors, float32 [h, w, channels], at stride 4."""
        return np.asarray(self._state["previous_embeddings"])

    @property
    def object_ids(self) -> np.ndarray:
        """The ids that are followed, ascending, uint8 [objects]; 0 is the background."""
        return np.asarray(self._state["object_ids"]).astype(np.uint8)

    def step(self, image: np.ndarray) -> np.ndarray:
        """Returns the ids of the next frame. See `VideoState`.

        Where the model ran at another size, its probabilities are scaled back, not its ids, so
        that outlines stay smooth.
        """
        ids, probabilities, self._state = self._model.step(
            scaled(image, self._model_size), self._state
        )
        if self._model_size == image.shape[:2]:
            return ids.numpy()
        return self.object_ids[upsampled_argmax(probabilities.numpy(), image.shape[:2])]

    def add_objects(self, mask: np.ndarray) -> None:
        """Takes further objects that the last frame shows. See `VideoState`.

        The network does not run again. An id that is followed already keeps its reference; the mask
        corrects its pixels in the last frame.

        Raises:
          InputError: the mask holds no object or has another size than the frames, or the
            SavedModel is too old.
        """
        check_mask(mask, self._frame_size)
        if not hasattr(self._model, "add_objects"):
            raise InputError(
                "this SavedModel cannot take objects that appear after the first frame: it has no "
                "function add_objects; write it again with python -m feelvos_tf.export"
            )
        self._state = self._model.add_objects(downsample_mask(mask, self._model_size), self._state)

    def snapshot(self) -> Callable[[], dict[str, np.ndarray]]:
        """Returns a function that gives the state as it is now. See `VideoState`."""
        state = self._state
        sizes = {
            _FRAME_SIZE: np.array(self._frame_size),
            _MODEL_SIZE: np.array(self._model_size),
        }
        return lambda: {**{name: np.asarray(value) for name, value in state.items()}, **sizes}


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


def check_mask(mask: np.ndarray, frame_size: tuple[int, ...]) -> None:
    """Raises InputError unless the mask holds an object and has the frames' size."""
    if mask.shape != tuple(frame_size):
        raise InputError(
            f"expected a mask [height, width] of the frames' size {list(frame_size)}, found "
            f"{list(mask.shape)}"
        )
    if not masks.object_ids(mask):
        raise InputError("expected a mask with at least one object, found none (0 is background)")


def load_saved_model(path: str | os.PathLike[str]) -> Any:
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

"""Segments videos with a model or SavedModel that may run at another size than the frames'."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Protocol

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.numpy_predictor import NumpyPredictor


class VideoState(Protocol):
    """Interface: the state of one video, whose objects are followed frame by frame.

    Attributes:
      object_ids: the ids that are followed; 0 is the background.
    """

    object_ids: Sequence[int]

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

    def correct(self, mask: np.ndarray, background: bool = False) -> None:
        """Puts the last frame's ids right, which also helps to follow the objects from now on.

        Args:
          mask: ids that are followed, uint8 [height, width]; 255 leaves the last frame's ids as
            they are, and so does 0, unless:
          background: 0 means that a pixel is background.
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

    def start(self, image: np.ndarray, mask: np.ndarray) -> NumpyPredictor:
        """Returns the state of a new video. See `VideoSegmenter`.

        Raises:
          InputError: the mask holds no object or has another size than the image.
        """
        predictor = NumpyPredictor(self._model, self._inference_size)
        predictor.start(image, mask)
        return predictor

    def restore(self, arrays: dict[str, np.ndarray]) -> NumpyPredictor:
        """Returns a state as it was. See `VideoSegmenter`.

        Raises:
          InputError: it is of another model or size, or damaged.
        """
        predictor = NumpyPredictor(self._model, self._inference_size)
        predictor.restore(arrays)
        return predictor


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
    from feelvos_tf.inference.predictor import check_finite

    variables = getattr(model, "_model_variables", {})
    if not isinstance(variables, Mapping):
        variables = {variable.name: variable for variable in variables}  # Written by version 0.1.
    check_finite(variables, str(path))
    return model

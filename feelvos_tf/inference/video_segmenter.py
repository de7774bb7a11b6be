"""What segments any number of videos, frame by frame: the interface, and a model behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Protocol

import numpy as np

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
    """A model as a `VideoSegmenter`; all of its videos share the network."""

    def __init__(self, predictor: NumpyPredictor):
        """Stores the model.

        Args:
          predictor: of which every video gets another one.
        """
        self._predictor = predictor

    def start(self, image: np.ndarray, mask: np.ndarray) -> NumpyPredictor:
        """Returns the state of a new video. See `VideoSegmenter`.

        Raises:
          InputError: the mask holds no object or has another size than the image.
        """
        predictor = self._predictor.another()
        predictor.start(image, mask)
        return predictor

    def restore(self, arrays: dict[str, np.ndarray]) -> NumpyPredictor:
        """Returns a state as it was. See `VideoSegmenter`.

        Raises:
          InputError: it is of another model or size, or damaged.
        """
        predictor = self._predictor.another()
        predictor.restore(arrays)
        return predictor

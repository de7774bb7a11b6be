"""Segments a video given as NumPy arrays, with the functions of the SavedModel.

The model may run at another size than the frames'. This is what `feelvos_tf.load` returns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.inference.inference_size import downsample_mask, model_size, scaled, upsampled
from feelvos_tf.inference.video_segmenter import check_mask

State = dict[str, Any]
_FRAME_SIZE = "frame_size"


class NumpyPredictor:
    """A model whose functions take and give NumPy arrays of the frames' size.

    Attributes:
      inference_size: pixels of the short side of the frames while the model runs; None for the
        frames' own.
    """

    def __init__(self, model: Any, inference_size: int | None = None):
        """Stores the model.

        Args:
          model: a `Predictor`, or a SavedModel of one.
          inference_size: see above.
        """
        if inference_size is not None and inference_size < 1:
            raise InputError(f"inference_size: expected at least 1, found {inference_size}")
        self._model = model
        self.inference_size = inference_size

    def start(self, image: np.ndarray, mask: np.ndarray) -> State:
        """Returns the state after the first frame.

        Args:
          image: uint8 [height, width, 3] RGB.
          mask: uint8 [height, width] object ids; 0 is background, 255 void, gaps are fine.

        Raises:
          InputError: an array has another shape or type, or the mask holds no object.
        """
        _check_image(image)
        _check_ids(mask)
        check_mask(mask, image.shape[:2])
        size = self._size(image.shape[:2])
        state = self._model.start(scaled(image, size), downsample_mask(mask, size))
        return {**state, _FRAME_SIZE: image.shape[:2]}

    def step(self, image: np.ndarray, state: State) -> tuple[np.ndarray, np.ndarray, State]:
        """Returns the segmentation of the next frame.

        Args:
          image: uint8 [height, width, 3] RGB, of the first frame's size.
          state: from `start`, `step` or `add_objects`.

        Returns:
          ids: uint8 [height, width], the mask's own object ids.
          probabilities: float32 [height, width, objects], 0..1, in the order of
            `state["object_ids"]`, of which the first is the background.
          state: to be handed to the next call.

        Raises:
          InputError: the image has another shape or type than the first.
        """
        _check_image(image)
        frame_size = state[_FRAME_SIZE]
        if image.shape[:2] != frame_size:
            raise InputError(
                f"expected an image of the first one's size {list(frame_size)}, found "
                f"{list(image.shape[:2])}"
            )
        _, probabilities, after = self._model.step(
            scaled(image, self._size(frame_size)), _of_model(state)
        )
        probabilities = upsampled(probabilities.numpy(), frame_size)
        object_ids = np.asarray(after["object_ids"]).astype(np.uint8)
        ids = object_ids[probabilities.argmax(-1)]
        return ids, probabilities, {**after, _FRAME_SIZE: frame_size}

    def add_objects(self, mask: np.ndarray, state: State) -> State:
        """Returns the state with the objects of a mask that was drawn on the last frame.

        Args:
          mask: uint8 [height, width] object ids; 0 and 255 leave the last frame's as they are.
          state: from `start`, `step` or `add_objects`.

        Raises:
          InputError: the mask has another shape or type, or holds no object.
        """
        frame_size = state[_FRAME_SIZE]
        _check_ids(mask)
        check_mask(mask, frame_size)
        after = self._model.add_objects(
            downsample_mask(mask, self._size(frame_size)), _of_model(state)
        )
        return {**after, _FRAME_SIZE: frame_size}

    def segment_clip(self, images: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Returns uint8 [frames, height, width] ids; the first frame's are `mask`.

        Args:
          images: uint8 [frames, height, width, 3] RGB, or a list of such images.
          mask: uint8 [height, width] object ids of the first frame.

        Raises:
          InputError: as in `start` and `step`, or there is no image.
        """
        if not len(images):
            raise InputError("expected at least one image, found none")
        state, masks = self.start(images[0], mask), [mask]
        for image in images[1:]:
            ids, _, state = self.step(image, state)
            masks.append(ids)
        return np.stack(masks)

    def _size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        return model_size(frame_size, self.inference_size)


def _of_model(state: State) -> State:
    """Returns the part of the state that is the model's own."""
    return {name: value for name, value in state.items() if name != _FRAME_SIZE}


def _check_image(image: np.ndarray) -> None:
    """Raises InputError unless `image` is one."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise InputError(
            f"expected an image, uint8 [height, width, 3], found {image.dtype} {list(image.shape)}"
        )


def _check_ids(mask: np.ndarray) -> None:
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise InputError(
            f"expected a mask, uint8 [height, width], found {mask.dtype} {list(mask.shape)}"
        )

"""Segments a video given as NumPy arrays, with the functions of a `Predictor` or a SavedModel.

The model may run at another size than the frames'. This is what `feelvos_tf.load` returns and what
the programs run; README.md beside this file shows it at work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import saved_state
from feelvos_tf.inference.inference_size import (
    downsample_mask,
    model_size,
    scaled,
    upsampled,
    upsampled_argmax,
)
from feelvos_tf.media import masks


class NumpyPredictor:
    """Follows the objects of one video, frame by frame; arrays have the frames' size.

    Example:
      predictor = feelvos_tf.load()
      predictor.start(frames[0], mask)
      for frame in frames[1:]:
          ids = predictor.step(frame)

    The frame that `start` or `step` saw last is the current one: `add_objects`, `correct` and
    `remove` are about it, and the network does not run for them. The next frame may be any: its
    successor or, to go backwards, its predecessor.

    Attributes:
      inference_size: pixels of the short side of the frames while the model runs; None for the
        frames' own.
    """

    def __init__(
        self,
        model: Any,
        inference_size: int | None = None,
        max_total_reference_pixels: int | None = None,
        identity: str = "",
    ):
        """Stores the model.

        Args:
          model: a `Predictor`, or a SavedModel of one.
          inference_size: see above.
          max_total_reference_pixels: pixels (of the model's stride-4 grid) that an object keeps of
            all its reference frames, however often its mask is corrected; 0 for no bound, None for
            the model's setting.
          identity: changes with the model's settings or weights; what `restore` compares.

        Raises:
          InputError: a number is out of range.
        """
        if inference_size is not None and inference_size < 1:
            raise InputError(f"inference_size: expected at least 1, found {inference_size}")
        if max_total_reference_pixels is not None and max_total_reference_pixels < 0:
            raise InputError(
                "max_total_reference_pixels: expected 0 (no bound) or a number of pixels, found "
                f"{max_total_reference_pixels}"
            )
        self.inference_size = inference_size
        self._model = model
        self._max_total_reference_pixels = max_total_reference_pixels
        self._identity = identity
        self._frame_size: tuple[int, int] | None = None
        self._state: dict[str, Any] = {}
        self._last: tuple[list[int], Any] | None = None

    def another(self) -> NumpyPredictor:
        """Returns a predictor for another video; they share the network and nothing else."""
        return type(self)(
            self._model, self.inference_size, self._max_total_reference_pixels, self._identity
        )

    @property
    def object_ids(self) -> list[int]:
        """The ids that are followed, ascending; 0 is the background.

        Raises:
          InputError: no video was started.
        """
        self._check_started()
        return np.asarray(self._state["object_ids"]).tolist()

    @property
    def embeddings(self) -> np.ndarray:
        """The current frame's embedding vectors, float32 [h, w, channels], at stride 4."""
        self._check_started()
        return np.asarray(self._state["previous_embeddings"])

    def start(self, image: np.ndarray, mask: np.ndarray) -> None:
        """Begins a video; what was known of another one is forgotten.

        Args:
          image: uint8 [height, width, 3] RGB.
          mask: uint8 [height, width] object ids; 0 is background, 255 void, gaps are fine.

        Raises:
          InputError: an array has another shape or type, or the mask holds no object.
        """
        _check_image(image)
        check_mask(mask, image.shape[:2])
        size = model_size(image.shape[:2], self.inference_size)
        self._state = self._model.start(scaled(image, size), downsample_mask(mask, size))
        self._frame_size = image.shape[:2]
        self._last = None

    def step(self, image: np.ndarray) -> np.ndarray:
        """Returns the object ids of the next frame, uint8 [height, width].

        Where the model runs at another size, its probabilities are scaled back, not its ids, so
        that outlines stay smooth.

        Args:
          image: uint8 [height, width, 3] RGB, of the first frame's size.

        Raises:
          InputError: the image has another shape or type, or no video was started.
        """
        self._check_started()
        _check_image(image)
        if image.shape[:2] != self._frame_size:
            raise InputError(
                f"expected an image of the first one's size {list(self._frame_size)}, found "
                f"{list(image.shape[:2])}"
            )
        size = self._model_size()
        ids, probabilities, self._state = self._model.step(scaled(image, size), self._state)
        self._last = (self.object_ids, probabilities)
        if size == self._frame_size:
            return np.array(ids)
        winners = upsampled_argmax(probabilities.numpy(), self._frame_size)
        return np.array(self.object_ids, np.uint8)[winners]

    def probability(self, object_id: int) -> np.ndarray:
        """Returns where an object is in the frame that `step` saw last, float32 [height, width].

        Probabilities are 0..1; those of all `object_ids`, background included, add up to 1.

        Args:
          object_id: one of `object_ids` at the time.

        Raises:
          InputError: the id was not followed, or `step` was not called yet.
        """
        if self._last is None:
            raise InputError("expected a call of step(image) before probability(object_id)")
        ids, probabilities = self._last
        _check_known([object_id], ids)
        channel = ids.index(object_id)
        plane = np.asarray(probabilities[..., channel : channel + 1])
        return upsampled(plane, self._frame_size)[..., 0]

    def add_objects(self, mask: np.ndarray) -> None:
        """Takes further objects that the current frame shows; they are followed from now on.

        Args:
          mask: their ids, uint8 [height, width]; 0 and 255 leave the frame's labels as they are.

        Raises:
          InputError: the mask has another shape or type, or holds no object or one that is
            followed already; or the SavedModel is too old.
        """
        self._check_started()
        check_mask(mask, self._frame_size)
        add_objects = self._function("add_objects")
        twice = sorted(set(masks.object_ids(mask)) & set(self.object_ids))
        if twice:
            raise InputError(
                f"add_objects: expected new ids, found {_listed(twice)}, followed already: "
                "correct(mask) takes further pixels of it"
            )
        self._state = add_objects(downsample_mask(mask, self._model_size()), self._state)

    def correct(self, mask: np.ndarray, background: bool = False) -> None:
        """Puts the current frame's labels right; its marked pixels join their objects' references.

        In the frame that was given to `start` it is as if the corrected mask had been given.

        Args:
          mask: uint8 [height, width] ids that are followed; 255 leaves the frame's labels as they
            are, and so does 0, unless:
          background: 0 means that a pixel is background.

        Raises:
          InputError: the mask has another shape or type, marks nothing, or holds an id that is not
            followed; or the SavedModel is too old.
        """
        self._check_started()
        check_mask(mask, self._frame_size, background)
        correct = self._function("correct")
        _check_known(masks.object_ids(mask), self.object_ids, "add_objects(mask) takes new ones")
        mask = downsample_mask(mask, self._model_size())
        if not background:
            mask = np.where(mask == 0, np.uint8(VOID), mask)
        bound = self._max_total_reference_pixels
        self._state = correct(mask, self._state, np.int32(-1 if bound is None else bound))

    def remove(self, object_id: int) -> None:
        """Takes an object out: from now on it is background.

        Args:
          object_id: one of `object_ids`, not 0.

        Raises:
          InputError: the id is not followed, or nothing would be left; or the SavedModel is too
            old.
        """
        self._check_started()
        remove = self._function("remove")
        _check_known([object_id], [i for i in self.object_ids if i])
        if len(self.object_ids) == 1:
            raise InputError(f"remove: expected objects beside {object_id}, found none")
        self._state = remove(np.int32(object_id), self._state)

    def state(self) -> dict[str, np.ndarray]:
        """Returns all that is known of the video, as arrays of its own.

        `np.savez(path, **predictor.state())` writes it to a file, which `restore(np.load(path))`
        reads. Probabilities are not part of it.

        Raises:
          InputError: no video was started.
        """
        return self.snapshot()()

    def snapshot(self) -> Callable[[], dict[str, np.ndarray]]:
        """Returns a function that gives `state()` as it is now, however late it is called.

        Nothing is copied before.
        """
        self._check_started()
        now = (self._state, self._frame_size, self.inference_size, self._identity)
        return lambda: saved_state.pack(*now)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes back to a state; what follows is the same, bit by bit, as it was after it.

        Args:
          state: of `state()`, of this predictor or another one of the same model and size.

        Raises:
          InputError: it is of another model or size, or damaged.
        """
        unpacked, frame_size = saved_state.unpack(
            state, self._model, self._frame_size, self.inference_size, self._identity
        )
        self._state, self._frame_size, self._last = unpacked, frame_size, None

    def segment_clip(
        self, images: Sequence[np.ndarray] | np.ndarray, mask: np.ndarray, position: int = 0
    ) -> np.ndarray:
        """Returns uint8 [frames, height, width] ids of a whole clip, from one mask in both ways.

        Args:
          images: uint8 [frames, height, width, 3] RGB, or a list of such images.
          mask: uint8 [height, width] object ids of one frame; its own result is `mask`.
          position: of that frame.

        Raises:
          InputError: as in `start` and `step`, or there is no image at `position`.
        """
        if not 0 <= position < len(images):
            raise InputError(
                f"segment_clip: expected an image at position {position} of the mask, found "
                f"{len(images)} images"
            )
        self.start(images[position], mask)
        start = self.state()
        after = [self.step(image) for image in images[position + 1 :]]
        self.restore(start)
        before = [self.step(image) for image in images[:position][::-1]]
        return np.stack([*before[::-1], mask, *after])

    def _model_size(self) -> tuple[int, int]:
        return model_size(self._frame_size, self.inference_size)

    def _check_started(self) -> None:
        if self._frame_size is None:
            raise InputError("expected a call of start(image, mask) first")

    def _function(self, name: str) -> Any:
        """Returns a function that SavedModels written earlier lack."""
        if not hasattr(self._model, name):
            raise InputError(
                f"this SavedModel is too old: it has no function {name}; write it again with "
                "python -m feelvos_tf.export"
            )
        return getattr(self._model, name)


def check_mask(
    mask: np.ndarray, frame_size: tuple[int, ...], background_counts: bool = False
) -> None:
    """Raises InputError unless it is a mask of the frames' size that marks something.

    Args:
      mask: to be checked.
      frame_size: height and width.
      background_counts: whether 0 marks something, or objects alone do.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise InputError(
            f"expected a mask, uint8 [height, width], found {mask.dtype} {list(mask.shape)}"
        )
    if mask.shape != tuple(frame_size):
        raise InputError(
            f"expected a mask [height, width] of the frames' size {list(frame_size)}, found "
            f"{list(mask.shape)}"
        )
    if not masks.object_ids(mask) and not (background_counts and (mask == 0).any()):
        raise InputError("expected a mask with at least one object, found none (0 is background)")


def _check_image(image: np.ndarray) -> None:
    """Raises InputError unless `image` is one."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise InputError(
            f"expected an image, uint8 [height, width, 3], found {image.dtype} {list(image.shape)}"
        )


def _check_known(ids: Sequence[int], known: Sequence[int], hint: str = "") -> None:
    """Raises InputError unless all ids are known ones."""
    unknown = sorted(set(ids) - set(known))
    if unknown:
        hint = f" ({hint})" if hint else ""
        raise InputError(
            f"expected ids that are followed, {_listed(known) or 'of which there are none'}, found "
            f"{_listed(unknown)}{hint}"
        )


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))

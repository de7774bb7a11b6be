"""The predictor for applications: NumPy arrays in, masks out, the video's state in between.

`feelvos_tf.load` returns one, and the programs use it too. It runs a `Predictor` or a SavedModel on
rescaled frames, or on the part of a frame around the objects (see window.py). README.md in this
folder shows it in use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.inference import saved_state
from feelvos_tf.inference import window as windows
from feelvos_tf.inference.arguments import (
    ImageLike,
    MaskLike,
    as_frames,
    as_image,
    as_mask,
    as_pair,
    check_marks,
)
from feelvos_tf.inference.prompt import Prompter
from feelvos_tf.inference.window import Seen, Window
from feelvos_tf.media import masks


class VideoPredictor:
    """Follows the objects of one video, frame by frame; arrays have the frames' size.

    Images and masks may be of any type in `arguments.ImageLike` and `MaskLike`: arrays, lists,
    tensors, PIL images, paths. Results are arrays.

    Example:
      predictor = feelvos_tf.load()
      predictor.step(frames[0], mask)
      for frame in frames[1:]:
          ids = predictor.step(frame)

    The current frame is the last one given to `start` or `step`. `add_objects`, `correct` and
    `remove` edit it; the network does not run unless a mask reaches beyond the window. The next
    frame may be any frame: the one after or, to go backward, the one before.

    Attributes:
      inference_size: pixels on the short side of the frames while the model runs; None for the
        frames' own size.
      window: share of a frame's pixels that the model processes, around the objects; more only if
        they need more; 0 for whole frames.
    """

    def __init__(
        self,
        model: Any,
        inference_size: int | None = None,
        max_total_reference_pixels: int | None = None,
        identity: str = "",
        window: float = 0.0,
    ):
        """Stores the model.

        Args:
          model: a `Predictor`, or a SavedModel of one.
          inference_size: see above.
          max_total_reference_pixels: pixels (of the model's stride-4 grid) that an object keeps
            from all its reference frames when its mask is corrected, however often; 0 for no bound,
            None for the model's own setting, which also applies to added objects.
          identity: changes with the model's settings or weights; `restore` compares it.
          window: see above.

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
        if not 0 <= window <= 1:
            raise InputError(f"window: expected a share of 0 (whole frames) to 1, found {window}")
        self.inference_size = inference_size
        self.window = window
        self._model = model
        self._max_total_reference_pixels = max_total_reference_pixels
        self._identity = identity
        self._state: dict[str, Any] = {}
        self._seen: Seen | None = None
        self._position: int | None = None
        self._last: tuple[list[int], Callable[[int], np.ndarray]] | None = None
        self._prompter = Prompter(model, inference_size)
        self._step_states: tuple[dict[str, Any], dict[str, Any], Window] | None = None

    def __repr__(self) -> str:
        """Shows the model, its settings and the current frame."""
        parts = [
            f"model={self._identity[:12]!r}",
            f"inference_size={self.inference_size}",
            f"window={self.window:g}",
        ]
        if self._seen is not None:
            parts.append(f"object_ids={self.object_ids}")
        if self._position is not None:
            parts.append(f"frame={self._position}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def another(self) -> VideoPredictor:
        """Returns a predictor for another video; the two share only the network."""
        return type(self)(
            self._model,
            self.inference_size,
            self._max_total_reference_pixels,
            self._identity,
            self.window,
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
        if not self.window:
            return np.asarray(self._state["previous_embeddings"])
        everything = windows.whole(self._seen.window.frame_size, self.inference_size)
        return np.asarray(self._looked_at(everything)["previous_embeddings"])

    def start(self, image: ImageLike, mask: MaskLike) -> None:
        """Starts a video and forgets any earlier one.

        Args:
          image: uint8 [height, width, 3] RGB.
          mask: uint8 [height, width] object ids; 0 is background, 255 void, gaps are fine.

        Raises:
          InputError: an array has the wrong shape or type, the mask holds no object, or the model
            has several scales and a window.
        """
        image, mask = as_pair(image, mask)
        seen = Seen.of(image, mask, self.inference_size, self.window)
        state = self._model.start(seen.window.image(image), seen.window.mask(mask))
        if self.window:
            windows.check_one_scale(state)
        self._state, self._seen = state, seen
        self._position, self._step_states = 0, None
        ids, given = self.object_ids, np.array(mask)

        def probability(index: int) -> np.ndarray:
            return np.where(given == VOID, 1 / len(ids), given == ids[index]).astype(np.float32)

        self._last = (ids, probability)

    def step(self, image: ImageLike, mask: MaskLike | None = None) -> np.ndarray:
        """Returns the object ids of the next frame, uint8 [height, width].

        With a mask, the first frame starts the video; in a later frame the mask adds objects with
        new ids and corrects known ones. Objects that the mask does not show are propagated as
        usual.

        Args:
          image: uint8 [height, width, 3] RGB, of the first frame's size.
          mask: uint8 [height, width] object ids; 0 is background, 255 void.

        Raises:
          InputError: an array has the wrong shape or type, the mask holds no object, or no video
            was started.
        """
        if mask is None:
            return self._propagated(image)
        if self._seen is None:
            return self._started(image, mask)
        image, mask = as_pair(image, mask)
        return take_mask(self, mask, self._propagated(image))

    def propagate(
        self,
        frames: Iterable[ImageLike] | str | os.PathLike[str],
        mask: MaskLike | None = None,
    ) -> Iterator[np.ndarray]:
        """Yields the object ids of one frame after another, uint8 [height, width].

        Args:
          frames: uint8 [height, width, 3] RGB each, read one at a time; or the path of a video or
            of a folder of frames.
          mask: starts a new video: the object ids of the first frame, which are its result.

        Raises:
          InputError: as in `start` and `step`.
        """
        for image in as_frames(frames):
            yield self._propagated(image) if mask is None else self._started(image, mask)
            mask = None

    def _started(self, image: ImageLike, mask: MaskLike) -> np.ndarray:
        """Starts a video and returns its first ids."""
        image, mask = as_pair(image, mask)
        self.start(image, mask)
        return np.array(mask)

    def _propagated(self, image: ImageLike) -> np.ndarray:
        """Returns the object ids of the next frame, uint8 [height, width].

        If the model runs at another size, its probabilities are scaled back rather than its ids,
        so that outlines stay smooth.
        """
        self._check_started()
        image = as_image(image)
        size = self._seen.window.frame_size
        if image.shape[:2] != size:
            raise InputError(
                f"expected an image of the first frame's size {list(size)}, found "
                f"{list(image.shape[:2])}"
            )
        self._aim(self._seen.next_window(self.object_ids, self.inference_size, self.window))
        window, before = self._seen.window, self._state
        ids, probabilities, self._state = self._model.step(window.image(image), before)
        object_ids = self.object_ids

        def probability(index: int) -> np.ndarray:
            plane = np.asarray(probabilities[..., index])
            return window.upsampled(plane, float(object_ids[index] == 0))

        self._last = (object_ids, probability)
        self._step_states = (before, self._state, window)
        if self._position is not None:
            self._position += 1
        if window == windows.whole(size, None):  # The network saw the frame as it is.
            ids = np.array(ids)
        else:
            winners = window.upsampled_argmax(np.asarray(probabilities))
            ids = np.array(object_ids, np.uint8)[winners]
        if self.window:
            self._seen = self._seen.updated(ids, self.object_ids, image)
        return ids

    def _aim(self, window: Window) -> None:
        """Moves the last frame's part of the state to another window."""
        now = self._seen.window
        if window.scaled_size != now.scaled_size:
            self._state = self._looked_at(window, remember=True)
        elif window != now:
            self._state = windows.moved(self._state, now, window)
        self._seen = self._seen._replace(window=window)

    def _looked_at(self, window: Window, remember: bool = False) -> dict[str, Any]:
        """Returns the state after another look at the last frame, through a window."""
        return windows.looked_at(self._model, self._state, self._seen, window, remember)

    def _show(self, mask: np.ndarray) -> np.ndarray:
        """Returns the window's part of a current frame's mask, all of whose objects it shows."""
        if self.window:
            wider = self._seen.window_with(mask, self.inference_size, self.window)
            if wider != self._seen.window:
                self._state = self._looked_at(wider)
                self._seen = self._seen._replace(window=wider)
        return self._seen.window.mask(mask)

    def _record(self, edited: Callable[[np.ndarray], np.ndarray]) -> None:
        """Records an edit of the current frame's ids: a function of those before it."""
        if self.window:
            self._seen = self._seen.updated(edited(self._seen.ids), self.object_ids)

    def probability(self, object_id: int) -> np.ndarray:
        """Returns an object's probability in the current frame, float32 [height, width].

        Probabilities are 0..1; those of all `object_ids`, background included, add up to 1.

        Args:
          object_id: one of `object_ids` in that frame.

        Raises:
          InputError: the id was not followed, or there is no frame yet.
        """
        ids, plane = self._last_probabilities()
        _check_known([object_id], ids)
        return plane(ids.index(object_id))

    def probabilities(self) -> np.ndarray:
        """Returns all probabilities in the current frame, float32 [objects, height, width].

        They are in the order of `object_ids` in that frame, background included, and add up to 1.
        After `start` they are 0 or 1, as its mask says, and equal for all objects where it is void.

        Raises:
          InputError: there is no frame yet.
        """
        ids, plane = self._last_probabilities()
        return np.stack([plane(index) for index in range(len(ids))])

    def _last_probabilities(self) -> tuple[list[int], Callable[[int], np.ndarray]]:
        if self._last is None:
            raise InputError("expected a call to start or step before probabilities are read")
        return self._last

    def distance_maps(self) -> dict[str, dict[int, np.ndarray]]:
        """Returns the distances that the network saw in the last `step`.

        Figure 2 of the paper shows such maps. Only matching runs again. A network without global or
        without local matching has no map for it.

        Returns:
          "global" and "local": object id -> float32 [h, w], 0 (equal) to 1, to the nearest pixel of
          the object in the reference and in the previous frame, at stride 4 of the size the model
          runs at.

        Raises:
          InputError: no frame has been propagated yet, or the model is a SavedModel.
        """
        if self._step_states is None:
            raise InputError("expected a call to step(image) before distance_maps()")
        if getattr(self._model, "distance_maps", None) is None:
            raise InputError(
                "distance maps: expected the bundled model or the folder of a training run, found "
                "a SavedModel, which returns only masks"
            )
        *states, window = self._step_states
        maps = self._model.distance_maps(*states)
        ids = np.asarray(states[0]["object_ids"]).tolist()
        return {
            name: {
                object_id: window.whole_grid(plane, 1.0)
                for object_id, plane in zip(ids, np.asarray(planes))
            }
            for name, planes in maps.items()
        }

    def add_objects(self, mask: MaskLike) -> None:
        """Adds objects in the current frame, to be followed from now on.

        Args:
          mask: their ids, uint8 [height, width]; 0 and 255 leave the frame's labels unchanged.

        Raises:
          InputError: the mask has the wrong shape or type, or holds no object or one that is
            already followed.
        """
        mask = self._marks(mask)
        twice = sorted(set(masks.object_ids(mask)) & set(self.object_ids))
        if twice:
            raise InputError(
                f"add_objects: expected new ids, found {_listed(twice)}, already followed: mark "
                "more pixels with correct(mask)"
            )
        self._state = self._model.add_objects(self._show(mask), self._state)
        self._record(lambda ids: np.where(masks.is_object(mask), mask, ids))

    def correct(self, mask: MaskLike, background: bool = False) -> None:
        """Corrects the current frame's labels; the marked pixels become additional references.

        In the frame that was given to `start`, the corrected mask replaces the first one.

        Args:
          mask: uint8 [height, width] ids that are followed; 255 leaves the frame's labels
            unchanged, and so does 0 unless `background` is true.
          background: whether 0 marks pixels as background.

        Raises:
          InputError: the mask has the wrong shape or type, marks nothing, or holds an id that is
            not followed.
        """
        mask = self._marks(mask, background)
        _check_known(
            masks.object_ids(mask), self.object_ids, " (use add_objects(mask) for new ones)"
        )
        if background and 0 not in self.object_ids and (mask == 0).any():
            raise InputError(
                "expected a mask without background, as the video's first one, found pixels of 0"
            )
        shown = self._show(mask)
        if not background:
            mask, shown = (np.where(each == 0, np.uint8(VOID), each) for each in (mask, shown))
        bound = self._max_total_reference_pixels
        self._state = self._model.correct(
            shown, self._state, np.int32(-1 if bound is None else bound)
        )
        self._record(lambda ids: np.where(mask != VOID, mask, ids))

    def remove(self, object_id: int) -> None:
        """Removes an object: from now on it is background.

        Args:
          object_id: one of `object_ids`, not 0.

        Raises:
          InputError: the id is not followed, or nothing would be left.
        """
        self._check_started()
        _check_known([object_id], [i for i in self.object_ids if i])
        if len(self.object_ids) == 1:
            raise InputError(f"remove: expected objects besides {object_id}, found none")
        self._state = self._model.remove(np.int32(object_id), self._state)
        self._record(lambda ids: np.where(ids == object_id, np.uint8(0), ids))

    def prompt(
        self,
        image: ImageLike,
        points: Sequence[Sequence[float]] | np.ndarray = (),
        labels: Sequence[int] | np.ndarray = (),
        box: Sequence[float] | np.ndarray | None = None,
        mask: MaskLike | None = None,
    ) -> np.ndarray:
        """Returns an object's mask from clicks, a scribble or a box, uint8 [height, width], 0 or 1.

        See `prompt.Prompter` for the arguments. The video in progress does not change: pass the
        mask to `start`, `step`, `add_objects` or `correct`.
        """
        return self._prompter(image, points, labels, box, mask)

    def prompter(self) -> Prompter:
        """Returns the function behind `prompt`, which keeps the features of the latest image."""
        return self._prompter

    def state(self) -> dict[str, np.ndarray]:
        """Returns a copy of everything known about the video.

        `np.savez(path, **predictor.state())` writes it to a file and `restore(np.load(path))` reads
        it. Probabilities are not part of it.

        Raises:
          InputError: no video was started.
        """
        return self.snapshot()()

    def snapshot(self) -> Callable[[], dict[str, np.ndarray]]:
        """Returns a function that returns `state()` as of now.

        Nothing is copied until it is called.
        """
        self._check_started()
        now = (self._state, self._seen, self.inference_size, self._identity, self.window)
        return lambda: saved_state.pack(*now)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Returns to a saved state; later results are bit-identical to those that followed it.

        Args:
          state: from `state()` of this predictor or of one with the same model and sizes.

        Raises:
          InputError: the state belongs to another model or size, or is damaged.
        """
        self._state, self._seen = saved_state.unpack(
            state, self._model, self._seen, self.inference_size, self._identity, self.window
        )
        self._last = self._step_states = None
        frames = self._state.get("frames")  # Only models with a memory count frames.
        self._position = None if frames is None else int(frames)

    def segment_clip(
        self,
        images: Iterable[ImageLike] | str | os.PathLike[str],
        mask: MaskLike,
        position: int = 0,
    ) -> np.ndarray:
        """Returns the ids of a whole clip, uint8 [frames, height, width], from a mask of one frame.

        Args:
          images: uint8 [height, width, 3] RGB each: a list, an array, a generator, the result of
            `video.open_frames`, or the path of a video or of a folder of frames.
          mask: uint8 [height, width] object ids of one frame; they are its result.
          position: of that frame; the frames before it are segmented backward.

        Raises:
          InputError: as in `start` and `step`, or there is no image at `position`.
        """
        images = list(as_frames(images))
        if not 0 <= position < len(images):
            raise InputError(
                f"segment_clip: expected an image at the position {position} of the mask, found "
                f"{len(images)} images"
            )
        mask = self._started(images[position], mask)
        start = self.state()
        after = list(self.propagate(images[position + 1 :]))
        # Subclasses may refuse states of other runs; this one is of the same run.
        VideoPredictor.restore(self, start)
        before = list(self.propagate(images[:position][::-1]))
        return np.stack([*before[::-1], mask, *after])

    def _marks(self, mask: MaskLike, background_counts: bool = False) -> np.ndarray:
        """Returns a mask of the current frame, uint8 [height, width], that marks something."""
        self._check_started()
        mask = as_mask(mask, self._seen.window.frame_size)
        check_marks(mask, background_counts)
        return mask

    def _check_started(self) -> None:
        if self._seen is None:
            raise InputError("expected a call to start(image, mask) first")


def take_mask(predictor: Any, mask: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Applies a given mask of the current frame to a predictor and returns the frame's new ids.

    New objects are added. Known objects are corrected: the mask shows all of each one it contains.
    Objects that it does not contain keep their pixels.

    Args:
      predictor: a `VideoPredictor`, or anything with its `object_ids`, `correct` and `add_objects`.
      mask: uint8 [height, width].
      ids: uint8 [height, width], the result of `step` for this frame.
    """
    marked = masks.is_object(mask)
    is_known = np.isin(mask, predictor.object_ids) & marked
    if is_known.any():
        lost = np.isin(ids, mask[is_known]) & (mask == 0)
        correction = np.where(is_known, mask, VOID).astype(np.uint8)
        predictor.correct(np.where(lost, np.uint8(0), correction), background=True)
        ids = np.where(lost, np.uint8(0), ids)
    if (marked & ~is_known).any():
        predictor.add_objects(np.where(is_known, np.uint8(0), mask))
    return np.where(marked, mask, ids)


def _check_known(ids: Sequence[int], known: Sequence[int], hint: str = "") -> None:
    """Raises InputError unless all ids are known; `hint` ends the sentence."""
    unknown = [value for value in ids if value not in known]
    if unknown:
        raise InputError(
            f"expected ids that are followed ({_listed(known) or 'none'}), found "
            f"{_listed(unknown)}{hint}"
        )


def _listed(ids: Sequence[int]) -> str:
    # Text is quoted: '1' is not 1.
    return ", ".join(repr(value) if isinstance(value, str) else str(value) for value in ids)

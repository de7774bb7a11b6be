"""Draws clips from a photograph, or from a video's frames, and objects that move over them.

A photograph becomes a clip in one of three ways: the whole picture moves; its objects move against
the background, with the holes filled; or its objects move over another picture. Frames of a video
keep their own motion. Objects from other pictures can pass over all of them, either followed as
well or as distractors. Finally, lighting and camera faults vary from frame to frame.

Everything is NumPy and OpenCV, run by `tf.data` (`tf.numpy_function`): a clip of four frames takes
a few hundredths of a second, a fraction of what TensorFlow's own operations would take.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from feelvos_tf.core import settings
from feelvos_tf.core.constants import PREVIOUS, VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import mask_damage, synthetic_motion
from feelvos_tf.data.synthetic_motion import Cutout, View
from feelvos_tf.media import masks

_MIRRORED_SHARE = 0.5
# A distractor can be a copy of a followed object, so that only its position differs.
_COPY_SHARE = 0.15
# A followed object needs this many pixels in the reference: about 12 at stride 4.
_FOLLOWED_PIXELS = 192
# While the clip is made, ids below are the picture's own objects, the others those of donors.
_FIRST_PASTED_ID = 100
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@settings.register
@dataclasses.dataclass(frozen=True)
class MovingScenes:
    """How the clips of a data set are made; probabilities are per clip.

    Attributes:
      min_scale: smallest factor on the size of the picture.
      max_scale: largest factor.
      motion: factor on all synthetic motion of photographs.
      camera_motion: the same for frames of videos, which have motion of their own.
      max_frame_gap: successive frames of a clip are 1 to this many frames of the video apart.
      still_probability: of using one frame of a video as if it were a photograph.
      cut_probability: of moving a photograph's objects against its background.
      transplant_probability: of moving them over another picture.
      paste_probability: of objects from other pictures passing over the frames.
      count_shares: how often 1, 2, ... objects are followed, if there are that many; all others
        are background.
      light: strength of the color changes of a clip, 0 for none; changes between its frames are
        about a third as strong.
      fault_probability: of each of blur, noise and JPEG artifacts in a frame.
      prediction_error_probability: of an error in the previous mask, see
        `mask_damage.draw_error`.
    """

    min_scale: float = 1.0
    max_scale: float = 1.6
    motion: settings.NonNegative = 1.0
    camera_motion: settings.NonNegative = 0.25
    max_frame_gap: settings.PositiveInt = 6
    still_probability: settings.Probability = 0.0
    cut_probability: settings.Probability = 0.35
    transplant_probability: settings.Probability = 0.3
    paste_probability: settings.Probability = 0.4
    count_shares: Sequence[settings.NonNegative] = (0.6, 0.3, 0.1)
    light: settings.NonNegative = 0.7
    fault_probability: settings.Probability = 0.25
    prediction_error_probability: settings.Probability = 0.4

    def __post_init__(self) -> None:
        settings.check_scales("MovingScenes", self.min_scale, self.max_scale)
        if self.cut_probability + self.transplant_probability > 1.0:
            raise InputError(
                "MovingScenes: expected cut_probability and transplant_probability to sum to at "
                f"most 1, found {self.cut_probability} and {self.transplant_probability}"
            )
        if not sum(self.count_shares) > 0:
            raise InputError(
                "MovingScenes.count_shares: expected numbers with a positive sum, found "
                f"{self.count_shares}"
            )


class Picture(NamedTuple):
    """An image, uint8 [h, w, 3], and its object ids, uint8 [h, w]."""

    image: np.ndarray
    ids: np.ndarray


def make_clip(
    frames: Sequence[Picture],
    donors: Sequence[Picture],
    size: tuple[int, int],
    clip_frames: int,
    rng: np.random.Generator,
    scenes: MovingScenes,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a random clip.

    Args:
      frames: `clip_frames` frames of a video, or one photograph.
      donors: pictures that objects are taken from.
      size: (height, width) of the clip.
      clip_frames: length of the clip.
      rng: the only source of randomness.
      scenes: settings.

    Returns:
      images: uint8 [frames, height, width, 3].
      labels: object indices, uint8 [frames, height, width]; 0 is background, 255 void.
      previous: the previous frame's labels as fed to the network, possibly with an error, uint8
        [height, width].
    """
    if rng.random() < _MIRRORED_SHARE:
        frames = [Picture(cv2.flip(frame.image, 1), cv2.flip(frame.ids, 1)) for frame in frames]
    stage = _Stage(size, clip_frames, rng, scenes)
    if len(frames) > 1:
        stage.play(frames)
    else:
        stage.animate(frames[0], donors[0])
    if rng.random() < scenes.paste_probability:
        for donor in donors[: int(rng.integers(1, len(donors) + 1))]:
            stage.paste_one_of(donor)
    return stage.finish()


class _Stage:
    """The frames of one clip while they are drawn, from back to front."""

    def __init__(self, size, clip_frames: int, rng: np.random.Generator, scenes: MovingScenes):
        self._size = size
        self._count = clip_frames
        self._rng = rng
        self._scenes = scenes
        self._images: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []
        self._pasted = 0
        self._cutouts: list[Cutout] = []

    def play(self, frames: Sequence[Picture]) -> None:
        """Draws the frames of a video; the camera moves little, except to the reference."""
        rng, scenes = self._rng, self._scenes
        seen = self._view_of(frames[PREVIOUS])
        views = synthetic_motion.path(seen, rng, self._count, scenes.camera_motion)
        views[0] = synthetic_motion.differing(self._view_of(frames[0]), rng, scenes.camera_motion)
        self._show(frames, views)

    def animate(self, still: Picture, donor: Picture) -> None:
        """Draws a photograph, set in motion in one of the three ways."""
        rng, scenes = self._rng, self._scenes
        objects = synthetic_motion.object_masks(still.ids)
        way = rng.random() if objects else 1.0
        view = seen = self._view_of(still)
        ground = still
        if way < scenes.cut_probability:
            filled = synthetic_motion.fill(still.image, still.ids > 0)
            ground = Picture(filled, np.zeros_like(still.ids))
        elif way < scenes.cut_probability + scenes.transplant_probability:
            # Numbered anew, since any id may occur in the donor. Void becomes background.
            own = masks.object_ids(donor.ids)
            table = np.zeros(VOID + 1, np.uint8)
            table[own] = np.minimum(_FIRST_PASTED_ID + 50 + np.arange(len(own)), VOID - 1)
            ground = Picture(donor.image, table[donor.ids])
            seen = self._view_of(ground)
        views = synthetic_motion.path(seen, rng, self._count, scenes.motion)
        self._show([ground] * self._count, views)
        if ground is not still:
            self._move_objects(still, objects, view)

    def paste_one_of(self, donor: Picture) -> None:
        """Draws a passing object from another picture, or a copy of one already in the clip."""
        rng = self._rng
        if self._cutouts and rng.random() < _COPY_SHARE:
            cutout = self._cutouts[int(rng.integers(len(self._cutouts)))]
            cutout = synthetic_motion.mirrored(cutout)
        else:
            objects = synthetic_motion.object_masks(donor.ids)
            if not objects:
                return
            _, inside = objects[int(rng.integers(len(objects)))]
            cutout = synthetic_motion.cut(donor.image, inside)
            if rng.random() < _MIRRORED_SHARE:
                cutout = synthetic_motion.mirrored(cutout)
        extent = min(self._size) * rng.uniform(0.15, 0.5)
        view = View(
            anchor=cutout.center,
            position=rng.uniform(0.05, 0.95, 2) * self._size[::-1],
            scale=float(extent / cutout.extent),
            rotation=float(rng.normal(0.0, 0.15)),
        )
        self._paste(cutout, view, _FIRST_PASTED_ID + self._pasted)
        self._pasted += 1

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the clip after drawing followed objects, light, faults and the previous mask."""
        rng, scenes = self._rng, self._scenes
        followed = self._choose_followed()
        table = np.zeros(VOID + 1, np.uint8)
        table[VOID] = VOID
        table[followed] = np.arange(1, len(followed) + 1)
        ids = np.stack(self._ids)
        labels = table[ids]
        previous = labels[PREVIOUS]
        if rng.random() < scenes.prediction_error_probability:
            others = masks.is_object(ids[PREVIOUS]) & (previous == 0)
            previous = mask_damage.draw_error(previous, len(followed) + 1, others, rng)
        return np.stack(self._in_light()), labels, previous

    def _choose_followed(self) -> list[int]:
        """Returns the ids to follow, all visible in the reference; the picture's own come first."""
        visible = masks.object_ids(self._ids[0], _FOLLOWED_PIXELS)
        own = self._rng.permutation([i for i in visible if i < _FIRST_PASTED_ID])
        pasted = self._rng.permutation([i for i in visible if i >= _FIRST_PASTED_ID])
        shares = np.array(self._scenes.count_shares, np.float64)
        wanted = 1 + int(self._rng.choice(len(shares), p=shares / shares.sum()))
        return [int(i) for i in [*own, *pasted]][:wanted]

    def _in_light(self) -> list[np.ndarray]:
        rng, scenes = self._rng, self._scenes
        overall = draw_light(rng, scenes.light)
        images = []
        for image in self._images:
            image = relight(image, *overall)
            image = relight(image, *draw_light(rng, 0.35 * scenes.light))
            images.append(draw_camera_faults(image, rng, scenes.fault_probability))
        return images

    def _show(self, pictures: Sequence[Picture], views: Sequence[View]) -> None:
        """Draws pictures that fill the frames."""
        for picture, view in zip(pictures, views):
            image, ids = synthetic_motion.sample_picture(*picture, view, self._size, VOID)
            self._images.append(image)
            self._ids.append(ids)

    def _move_objects(self, still: Picture, objects, view: View) -> None:
        """Draws every object of a photograph, placed by `view`, with a motion of its own."""
        rng, side = self._rng, min(self._size)
        for number in rng.permutation(len(objects)):
            object_id, inside = objects[number]
            cutout = synthetic_motion.cut(still.image, inside)
            self._cutouts.append(cutout)
            rows, columns = np.nonzero(inside)
            center = np.array([columns.mean(), rows.mean()])
            position = view.position + view.scale * (center - np.array(view.anchor))
            placed = View(
                anchor=cutout.center,
                position=np.clip(
                    position + rng.normal(0.0, 12.0, 2), 0, np.array(self._size[::-1]) - 1
                ),
                # Neither tiny nor larger than the frame.
                scale=float(
                    np.clip(view.scale, 0.15 * side / cutout.extent, 0.9 * side / cutout.extent)
                ),
            )
            self._paste(cutout, placed, object_id)

    def _paste(self, cutout: Cutout, view: View, label: int) -> None:
        views = synthetic_motion.path(view, self._rng, self._count, self._scenes.motion)
        for t, seen in enumerate(views):
            self._images[t], self._ids[t] = synthetic_motion.paste(
                self._images[t], self._ids[t], cutout, seen, label
            )

    def _view_of(self, picture: Picture) -> View:
        """Returns a random view that puts a point of an object, if any, near the frame's center."""
        rng, scenes = self._rng, self._scenes
        height, width = picture.ids.shape
        rows, columns = np.nonzero(masks.is_object(picture.ids))
        if len(rows):
            pick = int(rng.integers(len(rows)))
            anchor = np.array([columns[pick], rows[pick]], np.float64)
        else:
            anchor = rng.uniform(0.0, 1.0, 2) * (width - 1, height - 1)
        scale = np.exp(rng.uniform(np.log(scenes.min_scale), np.log(scenes.max_scale)))
        frame = np.array(self._size[::-1], np.float64)
        position = rng.uniform(0.25, 0.75, 2) * frame
        # A picture that is large enough should fill the frame.
        lowest = frame - 1 - scale * (np.array([width, height]) - 1 - anchor)
        highest = scale * anchor
        inside = np.clip(position, np.minimum(lowest, highest), np.maximum(lowest, highest))
        return View(anchor=tuple(anchor), position=inside, scale=float(scale))


def draw_light(rng: np.random.Generator, strength: float) -> tuple[float, float, np.ndarray]:
    """Returns a random change of colors for `relight`; `strength` 1 is large, 0 none."""
    shift = rng.normal(0.0, 18.0 * strength) + rng.normal(0.0, 6.0 * strength, 3)
    saturation = float(np.exp(rng.normal(0.0, 0.3 * strength)))
    contrast = float(np.exp(rng.normal(0.0, 0.18 * strength)))
    return saturation, contrast, shift.astype(np.float32)


def relight(image: np.ndarray, saturation: float, contrast: float, shift: np.ndarray) -> np.ndarray:
    """Returns the image in another light: saturation, then contrast, then shift.

    Args:
      image: uint8 [height, width, 3].
      saturation: factor on the distance to gray.
      contrast: factor on the distance to middle gray.
      shift: added to R, G and B, float32 [3].
    """
    grey = contrast * (1.0 - saturation) * np.outer(np.ones(3, np.float32), _LUMA)
    matrix = grey + contrast * saturation * np.eye(3, dtype=np.float32)
    shift = shift + 127.5 * (1.0 - contrast)
    return cv2.transform(image, np.column_stack([matrix, shift]))


def draw_camera_faults(
    image: np.ndarray, rng: np.random.Generator, probability: float
) -> np.ndarray:
    """Returns the image with random blur, noise and JPEG artifacts, uint8 [height, width, 3].

    Args:
      image: uint8 [height, width, 3].
      rng: the only source of randomness.
      probability: of each of the three.
    """
    blurred, noisy, compressed = rng.random(3) < probability
    if blurred:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    if noisy:
        noise = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise, 0, rng.uniform(1.0, 7.0))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if compressed:
        quality = int(rng.integers(30, 90))
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return image

"""Training clips made of a photograph, or of a video's frames, and of objects that move over them.

A clip of a photograph comes about in one of three ways: the whole picture moves; its objects move
against the rest, with what they leave behind filled; or its objects move over another picture.
Frames of a video keep their own motion. Over all of them further objects of other pictures can
pass, to be followed as well or as distractors that must not be.

Everything is NumPy and OpenCV, run by `tf.data` (`tf.numpy_function`): a clip of four frames takes
a few hundredths of a second, a fraction of what TensorFlow's own operations would take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from feelvos_tf.core.constants import PREVIOUS, VOID
from feelvos_tf.data import appearance_changes, prediction_errors, object_pasting, synthetic_motion
from feelvos_tf.data.moving_scenes import MovingScenes
from feelvos_tf.data.object_pasting import Cutout
from feelvos_tf.data.synthetic_motion import View

DONORS = 2
"""Pictures that go into a clip beside its own."""
_MIRRORED_SHARE = 0.5
# A distractor can be the copy of an object that is followed: only its place tells them apart.
_COPY_SHARE = 0.15
# An object that is followed needs this many pixels in the reference: about 12 at stride 4.
_FOLLOWED_PIXELS = 192
# Ids, while the clip is made: objects that the picture has come first, then what is pasted.
_FIRST_PASTED_ID = 100


class Picture(NamedTuple):
    """An image, uint8 [h, w, 3], and its object ids, uint8 [h, w]."""

    image: np.ndarray
    ids: np.ndarray


class Clip(NamedTuple):
    """What a network is trained on.

    Attributes:
      images: uint8 [frames, height, width, 3].
      labels: uint8 [frames, height, width] object indices, 0 background, 255 void.
      previous: uint8 [height, width], the previous frame's labels as they are handed to the
        network, with a mistake or without.
    """

    images: np.ndarray
    labels: np.ndarray
    previous: np.ndarray


def make_clip(
    frames: Sequence[Picture],
    donors: Sequence[Picture],
    size: tuple[int, int],
    clip_frames: int,
    rng: np.random.Generator,
    scenes: MovingScenes,
) -> Clip:
    """Returns a clip.

    Args:
      frames: `clip_frames` frames of a video, or one photograph.
      donors: pictures to take further objects from.
      size: (height, width) of the clip.
      clip_frames: length of the clip.
      rng: the only source of randomness.
      scenes: settings.
    """
    if rng.random() < _MIRRORED_SHARE:
        frames = [_mirrored(frame) for frame in frames]
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
    """The frames of one clip while things are put into them, the farthest first."""

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
        """Puts the frames of a video in, under a camera that hardly moves but for the reference."""
        rng, scenes = self._rng, self._scenes
        seen = self._view_of(frames[PREVIOUS])
        views = synthetic_motion.path(seen, rng, self._count, scenes.camera_motion)
        views[0] = synthetic_motion.differing(self._view_of(frames[0]), rng, scenes.camera_motion)
        self._show(frames, views)

    def animate(self, still: Picture, donor: Picture) -> None:
        """Puts a photograph in and sets it in motion in one of the three ways."""
        rng, scenes = self._rng, self._scenes
        objects = object_pasting.object_masks(still.ids)
        way = rng.random() if objects else 1.0
        view = self._view_of(still)
        if way < scenes.cut_probability:
            hidden = still.ids > 0
            empty = Picture(object_pasting.fill(still.image, hidden), np.zeros_like(still.ids))
            views = synthetic_motion.path(view, rng, self._count, scenes.motion)
            self._show([empty] * self._count, views)
            self._move_objects(still, objects, view)
        elif way < scenes.cut_probability + scenes.transplant_probability:
            ids = np.where(donor.ids == VOID, 0, donor.ids)
            ids = np.where(ids > 0, ids + (_FIRST_PASTED_ID + 50), 0).astype(np.uint8)
            ground = Picture(donor.image, ids)
            views = synthetic_motion.path(self._view_of(ground), rng, self._count, scenes.motion)
            self._show([ground] * self._count, views)
            self._move_objects(still, objects, view)
        else:
            views = synthetic_motion.path(view, rng, self._count, scenes.motion)
            self._show([still] * self._count, views)

    def paste_one_of(self, donor: Picture) -> None:
        """Lets an object of another picture pass, or a copy of one that is there already."""
        rng = self._rng
        if self._cutouts and rng.random() < _COPY_SHARE:
            cutout = self._cutouts[int(rng.integers(len(self._cutouts)))]
            cutout = object_pasting.mirrored(cutout)
        else:
            objects = object_pasting.object_masks(donor.ids)
            if not objects:
                return
            _, inside = objects[int(rng.integers(len(objects)))]
            cutout = object_pasting.cut(donor.image, inside)
            if rng.random() < _MIRRORED_SHARE:
                cutout = object_pasting.mirrored(cutout)
        extent = min(self._size) * rng.uniform(0.15, 0.5)
        view = View(
            anchor=cutout.center,
            position=rng.uniform(0.05, 0.95, 2) * self._size[::-1],
            scale=float(extent / cutout.extent),
            rotation=float(rng.normal(0.0, 0.15)),
        )
        self._paste(cutout, view, _FIRST_PASTED_ID + self._pasted, self._scenes.motion)
        self._pasted += 1

    def finish(self) -> Clip:
        """Returns the clip: which objects are followed, light, faults, the previous mask."""
        rng, scenes = self._rng, self._scenes
        followed = self._choose_followed()
        table = np.zeros(VOID + 1, np.uint8)
        table[VOID] = VOID
        table[followed] = np.arange(1, len(followed) + 1)
        ids = np.stack(self._ids)
        labels = table[ids]
        previous = labels[PREVIOUS]
        if rng.random() < scenes.prediction_error_probability:
            others = (ids[PREVIOUS] > 0) & (ids[PREVIOUS] != VOID) & (previous == 0)
            previous = prediction_errors.draw_error(previous, len(followed) + 1, others, rng)
        return Clip(np.stack(self._in_light()), labels, previous)

    def _choose_followed(self) -> list[int]:
        """Returns the ids to be followed: the picture's own first, all in the reference."""
        counts = np.bincount(self._ids[0].ravel(), minlength=VOID + 1)
        there = [i for i in range(1, VOID) if counts[i] >= _FOLLOWED_PIXELS]
        own = self._rng.permutation([i for i in there if i < _FIRST_PASTED_ID])
        pasted = self._rng.permutation([i for i in there if i >= _FIRST_PASTED_ID])
        shares = np.array(self._scenes.count_shares, np.float64)
        wanted = 1 + int(self._rng.choice(len(shares), p=shares / shares.sum()))
        return [int(i) for i in [*own, *pasted]][:wanted]

    def _in_light(self) -> list[np.ndarray]:
        rng, scenes = self._rng, self._scenes
        overall = appearance_changes.draw_light(rng, scenes.light)
        images = []
        for image in self._images:
            image = appearance_changes.relight(image, overall)
            own = appearance_changes.draw_light(rng, 0.35 * scenes.light)
            image = appearance_changes.relight(image, own)
            faults = scenes.fault_probability
            images.append(appearance_changes.draw_camera_faults(image, rng, faults))
        return images

    def _show(self, pictures: Sequence[Picture], views: Sequence[View]) -> None:
        """Puts pictures in that fill the frames."""
        for picture, view in zip(pictures, views):
            image, ids = synthetic_motion.sample_picture(*picture, view, self._size, VOID)
            self._images.append(image)
            self._ids.append(ids)

    def _move_objects(self, still: Picture, objects, view: View) -> None:
        """Lets every object of a photograph, which lies as `view` says, go its own way."""
        rng = self._rng
        for number in rng.permutation(len(objects)):
            object_id, inside = objects[number]
            cutout = object_pasting.cut(still.image, inside)
            self._cutouts.append(cutout)
            rows, columns = np.nonzero(inside)
            center = np.array([columns.mean(), rows.mean()])
            position = view.position + view.scale * (center - np.array(view.anchor))
            placed = View(
                anchor=cutout.center,
                position=np.clip(
                    position + rng.normal(0.0, 12.0, 2), 0, np.array(self._size[::-1]) - 1
                ),
                scale=self._sensible_scale(view.scale, cutout.extent),
            )
            self._paste(cutout, placed, object_id, self._scenes.motion)

    def _paste(self, cutout: Cutout, view: View, label: int, strength: float) -> None:
        views = synthetic_motion.path(view, self._rng, self._count, strength)
        for t, seen in enumerate(views):
            self._images[t], self._ids[t] = object_pasting.paste(
                self._images[t], self._ids[t], cutout, seen, label
            )

    def _view_of(self, picture: Picture) -> View:
        """Returns a view with a point of an object, if any, in the inner part of the frame."""
        rng, scenes = self._rng, self._scenes
        height, width = picture.ids.shape
        rows, columns = np.nonzero((picture.ids > 0) & (picture.ids != VOID))
        if len(rows):
            pick = int(rng.integers(len(rows)))
            anchor = np.array([columns[pick], rows[pick]], np.float64)
        else:
            anchor = rng.uniform(0.0, 1.0, 2) * (width - 1, height - 1)
        scale = np.exp(rng.uniform(np.log(scenes.min_scale), np.log(scenes.max_scale)))
        frame = np.array(self._size[::-1], np.float64)
        position = rng.uniform(0.25, 0.75, 2) * frame
        # The picture should reach the frame's borders where it is large enough to.
        lowest = frame - 1 - scale * (np.array([width, height]) - 1 - anchor)
        highest = scale * anchor
        inside = np.clip(position, np.minimum(lowest, highest), np.maximum(lowest, highest))
        return View(anchor=tuple(anchor), position=inside, scale=float(scale))

    def _sensible_scale(self, scale: float, extent: float) -> float:
        """Returns the scale, changed where the object would be tiny or larger than the frame."""
        side = min(self._size)
        return float(np.clip(scale, 0.15 * side / extent, 0.9 * side / extent))


def _mirrored(picture: Picture) -> Picture:
    return Picture(cv2.flip(picture.image, 1), cv2.flip(picture.ids, 1))

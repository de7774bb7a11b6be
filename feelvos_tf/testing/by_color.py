"""A predictor that follows colors and needs no model, and runs of it on drawn videos."""

from __future__ import annotations

import numpy as np

from feelvos_tf.data import datasets
from feelvos_tf.inference import input_video
from feelvos_tf.inference.propagation import Outputs, propagate_videos
from feelvos_tf.media.result_files import OverlayFiles


class ByColor:
    """A `Propagator` that follows the objects of `drawn_videos.draw` by their initial colors."""

    def another(self):
        return type(self)()

    def start(self, image, mask):
        self._ids, self._colors, self._last = [], [], image
        self._learn(mask, np.unique(mask))

    def restore(self, state):
        self._ids, self._colors = list(state["ids"]), list(state["colors"])
        self._last = state["last"]

    @property
    def object_ids(self):
        """The ids that are followed."""
        return self._ids

    def correct(self, mask, background=False):
        """Learns the colors of known objects again."""
        for value in np.setdiff1d(mask, [0, 255]):
            self._colors[self._ids.index(value)] = self._last[mask == value].mean(axis=0)
        self.corrected = mask

    def snapshot(self):
        """Returns a function that returns the state as it is now."""
        arrays = {"ids": np.array(self._ids), "colors": np.stack(self._colors), "last": self._last}
        return lambda: arrays

    def step(self, image):
        """Returns the ids of the next frame."""
        self._last = image
        distances = ((image[:, :, None] - np.stack(self._colors)) ** 2).sum(axis=-1)
        return np.array(self._ids, np.uint8)[distances.argmin(axis=-1)]

    def add_objects(self, mask):
        """Adds objects."""
        self._learn(mask, np.setdiff1d(mask, [0, 255]))

    def _learn(self, mask, ids):
        self._ids += list(ids)
        self._colors += [self._last[mask == value].mean(axis=0) for value in ids]


def davis_videos(root):
    return input_video.from_dataset(datasets.list_sequences(root, require_masks="first"))


def run(found, output, settings=None, overwrite=False, make_predictor=ByColor, look=None):
    def outputs_of(video):
        overlays = look and OverlayFiles(look / f"{video.name}.mp4", look / f"{video.name}.jpg")
        return Outputs(output / video.name, (overlays,) if look else ())

    return propagate_videos(make_predictor, found, outputs_of, settings or {}, overwrite)

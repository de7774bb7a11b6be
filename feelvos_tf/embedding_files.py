"""The embedding vectors of a video's frames on disk, one .npz per frame."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np

from feelvos_tf import files
from feelvos_tf.clips import Clip
from feelvos_tf.segmenter import ModelTrack


class Writer:
    """Writes `<folder of the clip>/<frame>.npz`, each with the array `embeddings`.

    It is float32 [h, w, channels] at stride 4 of the size the model runs at; its corner vectors
    belong to the corner pixels of the frame.
    """

    def __init__(self, folder_of: Callable[[Clip], pathlib.Path]):
        self._folder_of = folder_of

    def __call__(self, clip: Clip, position: int, track: ModelTrack) -> None:
        """Writes the embeddings of the frame that `track` saw last."""
        path = self._folder_of(clip) / f"{clip.frame_name(position)}.npz"
        with files.replacing(path) as temporary:
            np.savez(temporary, embeddings=track.embeddings)

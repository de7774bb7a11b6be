"""The embedding vectors of a video's frames on disk, one .npz per frame."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np

from feelvos_tf.core import atomic_files
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.video_segmenter import ModelVideoState


class Writer:
    """Writes `<folder of the clip>/<frame>.npz`, each with the array `embeddings`.

    It is float32 [h, w, channels] at stride 4 of the size the model runs at; its corner vectors
    belong to the corner pixels of the frame.
    """

    def __init__(self, folder_of: Callable[[InputVideo], pathlib.Path]):
        self._folder_of = folder_of

    def __call__(self, clip: InputVideo, position: int, track: ModelVideoState) -> None:
        """Writes the embeddings of the frame that `track` saw last."""
        path = self._folder_of(clip) / f"{clip.frame_name(position)}.npz"
        with atomic_files.replacing(path) as temporary:
            np.savez(temporary, embeddings=track.embeddings)

"""Writes the embedding vectors of a video's frames, one .npz per frame."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np

from feelvos_tf.core import atomic_files
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.numpy_predictor import NumpyPredictor


class Writer:
    """Writes `<folder of the video>/<frame>.npz`, each with the array `embeddings`.

    It is float32 [h, w, channels] at stride 4 of the size the model runs at; its corner vectors
    belong to the corner pixels of the frame.
    """

    def __init__(self, folder_of: Callable[[InputVideo], pathlib.Path]):
        self._folder_of = folder_of

    def __call__(self, video: InputVideo, position: int, state: NumpyPredictor) -> None:
        """Writes the embeddings of the frame that `state` saw last."""
        path = self._folder_of(video) / f"{video.frame_name(position)}.npz"
        with atomic_files.replacing(path) as temporary:
            np.savez(temporary, embeddings=state.embeddings)

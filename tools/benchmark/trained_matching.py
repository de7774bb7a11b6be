"""Cases of `tools/benchmark matching`: global matching on embeddings of the bundled model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from unittest import mock

import cv2
import numpy as np
import tensorflow as tf
from measure import Case

from feelvos_tf.data.datasets import VideoFiles
from feelvos_tf.inference import bundled_model
from feelvos_tf.media import masks, pictures
from feelvos_tf.models import global_matching
from feelvos_tf.models.global_matching import Reference, prepare_reference, sort_reference

# Frames between reference and query, and how many sequences are looked at.
_FRAMES_APART = 20
_MOST_SEQUENCES = 5
_FEW_PIXELS = 1024


def trained_cases(sequences: Sequence[VideoFiles], height: int, width: int) -> list[Case]:
    """Returns the cases: a later frame of each sequence against its first one.

    Args:
      sequences: of which the first few are taken.
      height: of the frames in pixels, whatever the files' size is.
      width: the same.
    """
    cases = []
    for sequence in sequences[:_MOST_SEQUENCES]:
        frames = functools.cache(functools.partial(_embeddings, sequence, height, width))
        group = f"global matching, embeddings of the bundled model, {sequence.name}"
        make = functools.partial(_match, frames)
        cases += [
            Case("ours", group, make),
            Case("ours without pruning", group, functools.partial(make, prune=False)),
            Case(
                f"ours, {_FEW_PIXELS} reference pixels per object",
                group,
                functools.partial(make, max_pixels=_FEW_PIXELS),
            ),
        ]
    return cases


def _embeddings(
    sequence: VideoFiles, height: int, width: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns embeddings of the first and a later frame, and the first one's object indices."""
    predictor = bundled_model.build()
    mask = _scaled(masks.read_mask(sequence.masks[0], sequence.binary_masks), height, width)

    def previous(frame: int) -> tuple[tf.Tensor, tf.Tensor]:
        image = _scaled(pictures.read_image(sequence.frames[frame]), height, width)
        state = predictor.start(tf.constant(image), tf.constant(mask))
        return state["previous_embeddings"], state["previous_indices"]

    first, indices = previous(0)
    query, _ = previous(min(_FRAMES_APART, len(sequence.frames) - 1))
    return first, query, indices


def _scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)


def _match(
    frames: Callable[[], tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
    prune: bool = True,
    max_pixels: int = 0,
) -> Callable[[], object]:
    first, query, indices = frames()
    reference = prepare_reference(first, indices, tf.reduce_max(indices) + 1, max_pixels)
    reference = sort_reference(reference)

    @tf.function
    def match(query: tf.Tensor, embeddings: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
        return global_matching.global_distances_inference(query, Reference(embeddings, offsets))

    if not prune:
        with mock.patch.object(global_matching, "_LEAST_PIXELS_TO_PRUNE", tf.int32.max):
            match(query, *reference)  # Traced here, once and for all.
    return functools.partial(match, query, *reference)

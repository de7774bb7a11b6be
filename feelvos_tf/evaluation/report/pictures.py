"""Draws a predicted mask over its frame, with the outline of the true one, as a data URI."""

from __future__ import annotations

import base64
import io
import pathlib

import cv2
import numpy as np
from PIL import Image

from feelvos_tf.evaluation import boundary, score_predictions
from feelvos_tf.evaluation.protocols import SequenceGroundTruth
from feelvos_tf.media import masks, overlay, pictures

_WIDTH = 520
_GRAY = 110


def frame_picture(ground_truth: SequenceGroundTruth, frame: str, predictions: pathlib.Path) -> str:
    """Returns a JPEG of one scored frame as a data URI.

    The prediction is tinted in the objects' colors, the outline of the ground truth is white.

    Args:
      ground_truth: the sequence.
      frame: name of the frame.
      predictions: the folder with the sequences' masks.
    """
    position = [path.stem for path in ground_truth.masks].index(frame)
    truth = masks.read_annotation(ground_truth.masks[position], ground_truth.binary)
    predicted = score_predictions.read_prediction(predictions, ground_truth, frame, truth.shape)
    width = min(truth.shape[1], _WIDTH)
    size = (width, max(1, round(truth.shape[0] * width / truth.shape[1])))
    truth, predicted = (
        cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in (truth, predicted)
    )
    picture = overlay.overlay(_background(ground_truth.images[position], size), predicted)
    picture[_outline(truth, ground_truth.objects)] = 255
    stream = io.BytesIO()
    # Thin outlines would bleed if their color were stored at half the size.
    Image.fromarray(picture).save(stream, format="JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _background(path: pathlib.Path | None, size: tuple[int, int]) -> np.ndarray:
    """Returns the frame at the size (width, height), or plain gray where there is none."""
    if path is None:
        return np.full([*size[::-1], 3], _GRAY, np.uint8)
    return cv2.resize(pictures.read_image(path), size, interpolation=cv2.INTER_AREA)


def _outline(truth: np.ndarray, objects: tuple[int, ...]) -> np.ndarray:
    """Returns the contours of the ground truth's objects, bool [height, width]."""
    edges = np.zeros(truth.shape, np.uint8)
    for object_id in objects:
        edges |= boundary.contour((truth == object_id).view(np.uint8))
    return edges.view(bool)

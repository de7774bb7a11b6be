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
    path = predictions / ground_truth.name / f"{frame}.png"
    predicted = score_predictions.read_prediction(path, ground_truth, truth.shape)
    image = _background(ground_truth.images[position], truth.shape)
    image, truth, predicted = _reduce(image, truth, predicted)
    picture = overlay.overlay(image, predicted)
    picture[_outline(truth, ground_truth.objects)] = 255
    return _data_uri(picture)


def _background(path: pathlib.Path | None, size: tuple[int, int]) -> np.ndarray:
    """Returns the frame in the mask's size, or plain gray where there is none."""
    if path is None:
        return np.full([*size, 3], _GRAY, np.uint8)
    image = pictures.read_image(path)
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def _reduce(image: np.ndarray, *ids: np.ndarray) -> list[np.ndarray]:
    """Returns the image and the masks, scaled down to the report's width if they are wider."""
    height, width = image.shape[:2]
    if width <= _WIDTH:
        return [image, *ids]
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    small = [cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in ids]
    return [cv2.resize(image, size, interpolation=cv2.INTER_AREA), *small]


def _outline(truth: np.ndarray, objects: tuple[int, ...]) -> np.ndarray:
    """Returns the contours of the ground truth's objects, bool [height, width]."""
    edges = np.zeros(truth.shape, np.uint8)
    for object_id in objects:
        edges |= boundary.contour((truth == object_id).view(np.uint8))
    return edges.view(bool)


def _data_uri(picture: np.ndarray) -> str:
    stream = io.BytesIO()
    # Thin outlines would bleed if their color were stored at half the size.
    Image.fromarray(picture).save(stream, format="JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")

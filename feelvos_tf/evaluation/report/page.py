"""Writes the self-contained HTML report of scores: tables, curves over time, pictures."""

from __future__ import annotations

import base64
import io
import os
import pathlib
from typing import Any

import cv2
import jinja2
import numpy as np
from PIL import Image

from feelvos_tf.core import atomic_files
from feelvos_tf.evaluation import region_and_contour, score_predictions, tables
from feelvos_tf.evaluation.protocols import SequenceGroundTruth
from feelvos_tf.evaluation.region_and_contour import SequenceScores
from feelvos_tf.evaluation.report import curves
from feelvos_tf.evaluation.score_predictions import Scores
from feelvos_tf.media import overlay, pictures

_PICTURE_WIDTH = 520
_GRAY = 110
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["number"] = tables.number


def write_report(
    path: str | os.PathLike[str],
    ground_truths: list[SequenceGroundTruth],
    shown: Scores,
    compared: Scores | None = None,
) -> None:
    """Writes the report atomically.

    Args:
      path: the HTML file.
      ground_truths: what was scored against.
      shown: scores of the predictions that the report is about.
      compared: those of other predictions of the same sequences, shown beside them.
    """
    by_name = {ground_truth.name: ground_truth for ground_truth in ground_truths}
    page = TEMPLATES.get_template("page.html").render(
        title=f"Scores of {shown.folder.name}",
        shown_name=shown.folder.name,
        compared_name=None if compared is None else compared.folder.name,
        cards=_cards(shown, compared),
        columns=[name.replace("-", " ") for name in tables.summary_row(shown.summary)],
        rows=_rows(shown, compared),
        total=list(tables.summary_row(shown.summary).values()),
        missing=[
            (one.folder.name, sentence)
            for one in filter(None, (shown, compared))
            for sentence in one.missing
        ],
        sections=[
            {
                "name": sequence.name,
                "legend": zip(
                    sequence.objects, map(curves.color, sequence.objects), sequence.by_object()
                ),
                "curves": _curves(sequence, compared and compared.find(sequence.name)),
                "pictures": _pictures(by_name[sequence.name], sequence, shown, compared),
            }
            for sequence in shown.sequences
        ],
    )
    with atomic_files.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _cards(shown: Scores, compared: Scores | None) -> list[tuple[str, float, float | None]]:
    """Returns (name, value, lead over the compared predictions) of the numbers at the top."""
    others = {} if compared is None else tables.summary_row(compared.summary)
    return [
        (key.replace("-Mean", " mean"), value, value - others[key] if others else None)
        for key, value in tables.summary_row(shown.summary).items()
        if key.endswith("-Mean")
    ]


def _rows(shown: Scores, compared: Scores | None) -> list[dict[str, Any]]:
    """Returns a row per sequence, the best and worst marked.

    `difference` is its lead over the compared predictions, NaN if it is not among these.
    """
    summaries = [region_and_contour.summarize([one]) for one in shown.sequences]
    others = {
        one.name: tables.ranking_value(region_and_contour.summarize([one]))
        for one in (compared.sequences if compared else ())
    }
    return [
        {
            "name": one.name,
            "cells": list(tables.summary_row(summary).values()),
            "remark": remark,
            "difference": tables.ranking_value(summary) - others.get(one.name, np.nan),
        }
        for one, summary, remark in zip(
            shown.sequences, summaries, tables.best_and_worst(summaries)
        )
    ]


def _curves(sequence: SequenceScores, other: SequenceScores | None) -> list[dict[str, Any]]:
    """Returns the values of J and F over time, as `curves.drawing` does."""
    drawings = []
    for measure in ("J", "F"):
        values = getattr(sequence, measure.lower())
        if values is not None:
            compared = other and _aligned(getattr(other, measure.lower()), other, sequence)
            drawings.append(
                curves.drawing(measure, sequence.frames, sequence.objects, values, compared)
            )
    return drawings


def _aligned(values: np.ndarray, scored: SequenceScores, shown: SequenceScores) -> np.ndarray:
    """Returns values [objects, frames] in the shown frames; NaN for those not scored there."""
    _, there, here = np.intersect1d(scored.frames, shown.frames, return_indices=True)
    result = np.full([len(values), len(shown.frames)], np.nan)
    result[:, here] = values[:, there]
    return result


def _pictures(
    ground_truth: SequenceGroundTruth,
    sequence: SequenceScores,
    shown: Scores,
    compared: Scores | None,
) -> list[tuple[str, str]]:
    """Returns the best and the worst frame, and the same frames of the compared predictions.

    Each is (data URI, caption).
    """
    values = _frame_values(sequence)
    if np.isnan(values).all():
        return []
    other = compared and compared.find(sequence.name)
    found = []
    for word, i in (("best", int(np.nanargmax(values))), ("worst", int(np.nanargmin(values)))):
        frame = sequence.frames[i]
        picture = _frame_picture(ground_truth, frame, shown.folder)
        found.append((picture, f"{word} frame {frame}: {tables.number(values[i])}"))
        if other is not None and frame in other.frames:
            value = _frame_values(other)[other.frames.index(frame)]
            picture = _frame_picture(ground_truth, frame, compared.folder)
            name = compared.folder.name
            found.append((picture, f"the same in {name}: {tables.number(value)}"))
    return found


def _frame_values(sequence: SequenceScores) -> np.ndarray:
    """Returns J&F of each frame, or J where F is not measured, averaged over its objects."""
    values = sequence.j if sequence.f is None else (sequence.j + sequence.f) / 2
    return np.ma.masked_invalid(values).mean(axis=0).filled(np.nan)


def _frame_picture(ground_truth: SequenceGroundTruth, frame: str, predictions: pathlib.Path) -> str:
    """Returns a JPEG of one scored frame as a data URI.

    The prediction is tinted in the objects' colors, the outline of the ground truth is white.

    Args:
      ground_truth: the sequence.
      frame: name of the frame.
      predictions: the folder with the sequences' masks.
    """
    position = [path.stem for path in ground_truth.masks].index(frame)
    truth, predicted = score_predictions.read_masks(predictions, ground_truth, position)
    width = min(truth.shape[1], _PICTURE_WIDTH)
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
        edges |= region_and_contour.contour((truth == object_id).view(np.uint8))
    return edges.view(bool)

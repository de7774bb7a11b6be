"""Draws J or F over time as an inline SVG, a curve per object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from feelvos_tf.media.masks import DAVIS_PALETTE

_WIDTH, _HEIGHT = 520, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, _WIDTH - 8, 8, _HEIGHT - 20
# Recall counts values above 0.5 as successes.
_GRID = (0, 0.5, 1)


def color(object_id: int) -> str:
    """Returns the CSS color of an object, that of its mask in pictures."""
    return "rgb({},{},{})".format(*DAVIS_PALETTE[object_id])


def drawing(
    title: str,
    frames: Sequence[str],
    objects: Sequence[int],
    values: np.ndarray,
    compared: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns the values from which `curves.svg` draws a curve per object.

    Args:
      title: name of the measure.
      frames: names of the frames, in order.
      objects: the ids.
      values: [objects, frames] in 0..1; NaN leaves a gap.
      compared: the same for other predictions, drawn dashed.
    """
    x = np.linspace(_LEFT, _RIGHT, max(len(frames), 2))[: len(frames)]
    drawn = [("curve", values)] if compared is None else [("compared", compared), ("curve", values)]
    return {
        "title": title,
        "size": (_WIDTH, _HEIGHT),
        "box": (_LEFT, _RIGHT, _TOP, _BOTTOM),
        "grid": [(_y(value), f"{value:g}") for value in _GRID],
        "names": _frame_names(frames, x),
        "paths": [
            (kind, color(object_id), _path(x, rows[i]))
            for i, object_id in enumerate(objects)
            for kind, rows in drawn
        ],
        "tooltips": _tooltips(title, frames, objects, values, x),
    }


def _y(value: float) -> float:
    return _BOTTOM - value * (_BOTTOM - _TOP)


def _frame_names(frames: Sequence[str], x: np.ndarray) -> list[tuple[float, str, str]]:
    """Returns (x, text anchor, name) of the first, middle and last frame."""
    # The first one last: with a single frame, at the left edge, it replaces the others.
    places = {len(frames) // 2: "middle", len(frames) - 1: "end", 0: "start"}
    return [(x[i], anchor, frames[i]) for i, anchor in places.items() if 0 <= i < len(frames)]


def _path(x: np.ndarray, values: np.ndarray) -> str:
    """Returns the commands of an SVG path that is interrupted where a value is missing."""
    commands, pen_down = [], False
    for place, value in zip(x, values):
        if np.isnan(value):
            pen_down = False
            continue
        # A zero-length line shows as a dot, so that a value between two gaps is visible.
        commands.append(
            f"L{place:.1f} {_y(value):.1f}" if pen_down else f"M{place:.1f} {_y(value):.1f}h0"
        )
        pen_down = True
    return "".join(commands)


def _tooltips(
    title: str, frames: Sequence[str], objects: Sequence[int], values: np.ndarray, x: np.ndarray
) -> list[tuple[float, float, str]]:
    """Returns (x, width, text) of an invisible column per frame, over which the text pops up."""
    width = (_RIGHT - _LEFT) / max(len(frames) - 1, 1)
    columns = []
    for i, frame in enumerate(frames):
        known = [(key, value) for key, value in zip(objects, values[:, i]) if not np.isnan(value)]
        text = ", ".join(f"object {key}: {value:.3f}" for key, value in known)
        columns.append((x[i] - width / 2, width, f"{title} of frame {frame}: {text}"))
    return columns

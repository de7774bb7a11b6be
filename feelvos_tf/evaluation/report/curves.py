"""J or F over time as an inline SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from feelvos_tf.media.masks import DAVIS_PALETTE

_WIDTH, _HEIGHT = 520, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 8, 8, 20


def colour(object_id: int) -> str:
    """Returns the CSS colour of an object, the one that its mask has in pictures."""
    return "rgb({},{},{})".format(*DAVIS_PALETTE[object_id])


def draw(
    title: str,
    frames: Sequence[str],
    objects: Sequence[int],
    values: np.ndarray,
    compared: np.ndarray | None = None,
) -> str:
    """Returns an SVG with one curve per object.

    Args:
      title: name of the measure.
      frames: names of the frames, in order.
      objects: the ids.
      values: [objects, frames] in 0..1; NaN leaves a gap.
      compared: the same of other predictions, drawn dashed.
    """
    x = np.linspace(_LEFT, _WIDTH - _RIGHT, max(len(frames), 2))[: len(frames)]
    parts = [_grid(), _frame_names(frames, x)]
    for row, object_id in enumerate(objects):
        if compared is not None:
            parts.append(_curve(x, compared[row], object_id, "compared"))
        parts.append(_curve(x, values[row], object_id, "curve"))
    parts += _tooltips(title, frames, objects, values, x)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)} over time">{"".join(parts)}</svg>'
    )


def _y(value: float) -> float:
    return _HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM)


def _grid() -> str:
    """Returns lines at 0, 0.5 (where recall counts a success) and 1 with their numbers."""
    lines = [
        f'<path class="grid" d="M{_LEFT} {_y(value):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 5}" y="{_y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value in (0, 0.5, 1)
    ]
    return "".join(lines)


def _frame_names(frames: Sequence[str], x: np.ndarray) -> str:
    """Returns the names of the first, middle and last frame below the curves."""
    places = {0: "start", len(frames) // 2: "middle", len(frames) - 1: "end"}
    return "".join(
        f'<text x="{x[i]:.1f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">'
        f"{html.escape(frames[i])}</text>"
        for i, anchor in places.items()
        if 0 <= i < len(frames)
    )


def _curve(x: np.ndarray, values: np.ndarray, object_id: int, kind: str) -> str:
    """Returns a path that is interrupted where a value is missing."""
    commands, pen_down = [], False
    for place, value in zip(x, values):
        if np.isnan(value):
            pen_down = False
            continue
        # A line of no length shows as a dot, so that a value between two gaps is seen.
        commands.append(
            f"L{place:.1f} {_y(value):.1f}" if pen_down else f"M{place:.1f} {_y(value):.1f}h0"
        )
        pen_down = True
    return f'<path class="{kind}" stroke="{colour(object_id)}" d="{"".join(commands)}"/>'


def _tooltips(
    title: str, frames: Sequence[str], objects: Sequence[int], values: np.ndarray, x: np.ndarray
) -> list[str]:
    """Returns an invisible column per frame that shows its values under the mouse."""
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(frames) - 1, 1)
    columns = []
    for i, frame in enumerate(frames):
        known = [(key, value) for key, value in zip(objects, values[:, i]) if not np.isnan(value)]
        text = ", ".join(f"object {key}: {value:.3f}" for key, value in known)
        columns.append(
            f'<rect class="hover" x="{x[i] - width / 2:.1f}" y="{_TOP}" width="{width:.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"><title>{html.escape(title)} of frame '
            f"{html.escape(frame)}: {text}</title></rect>"
        )
    return columns

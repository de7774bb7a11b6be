"""Previous masks with the mistakes that predictions really make: parts lost, leaks, wrong objects.

`mask_damage.py`, the release's damage, shifts and turns whole masks a little. A model that is fed
its own masks also meets objects that lack a part, that have spread over the background or caught a
bystander, and objects that are lost altogether. It must have seen that the reference puts them
right.
"""

from __future__ import annotations

import cv2
import numpy as np

_KINDS = ("part_lost", "leak", "outline", "bystander", "lost")
_SHARES = (0.3, 0.3, 0.2, 0.12, 0.08)


def draw_error(
    labels: np.ndarray, num_objects: int, bystanders: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns labels with one random mistake in one of the objects.

    Args:
      labels: object indices, uint8 [height, width]; 0 is background, 255 void.
      num_objects: indices are below this, background included.
      bystanders: bool [height, width], what could be taken for an object; may be empty.
      rng: the only source of randomness.
    """
    present = [i for i in range(1, num_objects) if (labels == i).any()]
    if not present:
        return labels
    index = int(rng.choice(present))
    inside = labels == index
    changed = _changed(inside, bystanders, str(rng.choice(_KINDS, p=_SHARES)), rng)
    result = np.where(inside, np.uint8(0), labels)
    return np.where(changed & (inside | (labels == 0)), np.uint8(index), result)


def _changed(
    inside: np.ndarray, bystanders: np.ndarray, kind: str, rng: np.random.Generator
) -> np.ndarray:
    """Returns the object's new mask, bool [height, width]; `inside`, its old one, is not empty."""
    size = float(np.sqrt(inside.sum()))
    if kind == "part_lost":
        return inside & ~_blob(inside, size * rng.uniform(0.2, 0.7), rng)
    if kind == "leak":
        return inside | _blob(_border(inside), size * rng.uniform(0.1, 0.4), rng)
    if kind == "outline":
        radius = int(rng.integers(1, max(2, min(8, int(0.12 * size)) + 1)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        change = cv2.dilate if rng.random() < 0.5 else cv2.erode
        return change(inside.astype(np.uint8), kernel).astype(bool)
    if kind == "bystander":
        return inside | bystanders
    return np.zeros_like(inside)


def _border(inside: np.ndarray) -> np.ndarray:
    border = inside & ~cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return border if border.any() else inside


def _blob(where: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Returns an ellipse about a random pixel of `where`, bool of its shape."""
    rows, columns = np.nonzero(where)
    pick = int(rng.integers(len(rows)))
    axes = tuple(max(1, int(radius * f)) for f in np.exp(rng.uniform(-0.5, 0.5, 2)))
    blob = np.zeros(where.shape, np.uint8)
    center = (int(columns[pick]), int(rows[pick]))
    cv2.ellipse(blob, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
    return blob.astype(bool)

"""Separates the objects of a drawing by their colors, and cuts soft edges at half.

Soft brushes, antialiasing, scaling and JPEG leave colors between that of an object and its
background; without care, each of them would become an object. A picture is a drawing if a few
colors cover areas, and every other pixel is a mixture of two adjacent ones and not part of a
separate spot; photographs are not drawings.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from feelvos_tf.media import masks

MOST_COLORS = 40
"""In one drawing, not counting those of soft edges."""
_NEAR = 24  # Colors that differ by less are the same: JPEG noise, the faint rim of a soft brush.
_SAME_AS_FRAME = 8  # For a drawing on the frame itself, whose colors copying may have changed.
_TO_MIX = 48  # Colors that differ by less, such as small ids in gray, do not mix.
_MOST_PEAKS = 4096  # Distinct colors of a drawing after JPEG has added its noise.
_MOST_MIXTURES = 1 << 27  # Pixels between areas, times colors: more are no drawing.
_WIDEST_RIM = 3.0  # Pixels of antialiasing around an object.
_FAR = 4.0  # Pixels: a second color this much farther away is not part of a mixture.
_MANY = 6  # Colors without an area.
_SURROUNDINGS = np.ones((9, 9), np.uint8)


class Drawing(NamedTuple):
    """The objects of a picture.

    Attributes:
      labels: int32 [height, width], 0 for background, n for the n-th color.
      colors: red, green, blue of each object.
      is_soft: whether there were mixtures, which have been cut at half.
    """

    labels: np.ndarray
    colors: list[tuple[int, int, int]]
    is_soft: bool


class _Mixtures(NamedTuple):
    """The composition of pixels between areas; all arrays have the shape [pixels].

    Attributes:
      labels: the predominant color, 0 for background.
      ratios: of the second of the two mixed colors, 0..1.
      shares: of objects, as opposed to background, 0..1.
      errors: distance from the best mixture, in channel values.
      distances: to the nearest color, in pixels.
    """

    labels: np.ndarray
    ratios: np.ndarray
    shares: np.ndarray
    errors: np.ndarray
    distances: np.ndarray


class _Rules(NamedTuple):
    """Limits that a drawing must meet.

    Attributes:
      behind: largest difference of the background from the picture behind the objects.
      tolerance: largest distance of a mixture from the line between two colors.
      fewest_pixels: least number of flat pixels of a color.
      most_mixed: largest share of mixtures in the picture.
    """

    behind: int
    tolerance: int
    fewest_pixels: int
    most_mixed: float


_PAINTED = _Rules(_NEAR, 32, 0, 0.5)
_JPEG = _Rules(_NEAR, 96, 16, 0.1)
_ON_FRAME = _PAINTED._replace(behind=_SAME_AS_FRAME)


def separate(
    picture: np.ndarray,
    most: int = MOST_COLORS,
    frame: np.ndarray | None = None,
    is_lossy: bool = False,
) -> Drawing | None:
    """Returns the objects of a drawing; None if the picture may be a photograph.

    Args:
      picture: uint8 [height, width, 3].
      most: largest number of object colors.
      frame: the frame that the objects were drawn on, of the same shape; black by default.
      is_lossy: whether it was saved as JPEG, so that colors are not exact.
    """
    is_flat = _flat(picture, 3)
    if frame is not None:
        is_peak = is_flat & (_difference(picture, frame) > _ON_FRAME.behind)
        return _soft(picture, frame, is_peak, is_flat, most, _ON_FRAME)
    drawing = None if is_lossy else _hard(picture, is_flat, most)
    if drawing is not None:
        return drawing
    brightness = picture.max(-1)
    is_peak = (brightness >= _TO_MIX) & (brightness == cv2.dilate(brightness, _SURROUNDINGS))
    for rules in (_JPEG,) if is_lossy else (_PAINTED, _JPEG):
        drawing = _soft(picture, np.zeros_like(picture), is_peak, is_flat, most, rules)
        if drawing is not None:
            return drawing._replace(is_soft=True)
    return None


def _soft(
    picture: np.ndarray,
    behind: np.ndarray,
    is_peak: np.ndarray,
    is_flat: np.ndarray,
    most: int,
    rules: _Rules,
) -> Drawing | None:
    """Returns the objects of a picture made of areas and mixtures; None for any other picture.

    Args:
      picture: uint8 [height, width, 3].
      behind: the background of the objects, of the same shape.
      is_peak: where an object, if present, shows its unmixed color, bool [height, width].
      is_flat: where all neighbors have the same color, bool [height, width].
      most: largest number of object colors.
      rules: further limits.
    """
    colors = _cores(picture, is_flat, is_peak, rules.fewest_pixels)
    if not 0 < len(colors) <= most:
        return None
    areas = np.full(picture.shape[:2], -1, np.int32)
    for label, color in enumerate(colors, 1):
        is_near = _difference(picture, color) <= _NEAR
        # A part without a peak belongs to another object's edge.
        areas[is_near & ~_outside(is_near, is_near & is_peak)] = label
    areas[_difference(picture, behind) <= rules.behind] = 0
    is_mixed = areas < 0
    count = np.count_nonzero(is_mixed)
    if count > rules.most_mixed * is_mixed.size or count * len(colors) > _MOST_MIXTURES:
        return None
    mixtures = _mixtures(picture, behind, areas, colors)
    few = 8 + 0.02 * count
    if np.count_nonzero(mixtures.errors > rules.tolerance) > few:
        return None
    if _spots(areas, is_mixed, mixtures.shares) > 3 * few:
        return None
    labels = areas.copy()
    labels[is_mixed] = mixtures.labels
    for label in range(1, len(colors) + 1):  # Specks that are not connected to an area vanish.
        labels[_outside(labels == label, areas == label)] = 0
    return Drawing(labels, list(map(tuple, colors.tolist())), bool(count))


def _hard(picture: np.ndarray, is_flat: np.ndarray, most: int) -> Drawing | None:
    """Returns the objects of a picture where every color is an object; None if some are mixtures.

    A color that covers no 3x3 square is an object as well, unless it lies between two others
    everywhere.
    """
    found, inverse, counts = np.unique(
        masks.packed(picture), return_inverse=True, return_counts=True
    )
    if len(found) > most + 1:
        return None
    inverse = inverse.reshape(is_flat.shape)
    is_area = np.zeros(len(found), bool)
    is_area[inverse[is_flat]] = True
    is_area[found == 0] = True
    if _is_noisy(found, counts, is_area):
        return None
    is_block = np.isin(np.arange(len(found)), inverse[_flat(picture, 2)])
    if np.count_nonzero(~is_area) >= _MANY and is_block[~is_area].mean() < 0.5:
        return None  # Specks, not thin objects.
    if not is_area.all() and is_area[found > 0].any():
        label_of = np.where(is_area, np.cumsum(is_area & (found > 0)), -1)
        areas = label_of[inverse].astype(np.int32)
        if np.count_nonzero(areas < 0) * np.count_nonzero(is_area) > _MOST_MIXTURES:
            return None
        mixtures = _mixtures(
            picture, np.zeros_like(picture), areas, _unpacked(found[is_area & (found > 0)])
        )
        # The more steps, the softer the brush.
        widest = _WIDEST_RIM + np.count_nonzero(~is_area) / 4
        is_rim = (
            (mixtures.errors <= _PAINTED.tolerance / 2)
            & (mixtures.distances <= widest)
            & (abs(mixtures.ratios - 0.5) < 0.4)
        )
        of_color = inverse[areas < 0]
        if (np.bincount(of_color, is_rim) > 0.9 * np.bincount(of_color) - 0.5)[of_color].any():
            return None
    label_of = np.cumsum(found > 0)
    return Drawing(
        label_of[inverse].astype(np.int32),
        list(map(tuple, _unpacked(found[found > 0]).tolist())),
        False,
    )


def _flat(picture: np.ndarray, side: int) -> np.ndarray:
    """Returns where the surrounding square of `side` pixels has one color, bool [height, width]."""
    square = np.ones((side, side), np.uint8)
    return (cv2.dilate(picture, square) == cv2.erode(picture, square)).all(-1)


def _is_noisy(found: np.ndarray, counts: np.ndarray, is_area: np.ndarray) -> bool:
    """Returns whether rare colors are noise around a frequent bright one, or around black.

    In gray, where close values may be successive ids, values that cover a 3x3 square are not noise.
    """
    colors = _unpacked(found).astype(int)
    is_gray = (colors == colors[:, :1]).all()
    if colors.max() < 128:
        return False  # Possibly ids.
    for color, count in zip(colors, counts):
        is_near = abs(colors - color).max(-1) <= _NEAR / 3
        is_rare = (counts < 0.05 * count) & ~(is_area & is_gray)
        has_noise = color.max() >= 128 or not (is_gray or color.any())
        if has_noise and (is_near & is_rare).any():
            return True
    return False


def _cores(
    picture: np.ndarray, is_flat: np.ndarray, is_peak: np.ndarray, fewest_pixels: int
) -> np.ndarray:
    """Returns the colors of objects, uint8 [colors, 3]; none for a photograph.

    Colors of areas come first, the largest area first, then those of lines, the brightest first.
    Dropped are colors near an earlier one, line colors that mix an earlier one with black, and
    colors with fewer than `fewest_pixels` flat pixels.
    """
    found, counts = np.unique(masks.packed(picture)[is_peak], return_counts=True)
    if len(found) > _MOST_PEAKS:
        return np.zeros((0, 3), np.uint8)
    areas, sizes = np.unique(masks.packed(picture)[is_peak & is_flat], return_counts=True)
    size_of = np.zeros(len(found), int)
    size_of[np.searchsorted(found, areas)] = sizes
    colors = _unpacked(found).astype(np.float32)
    kept = np.zeros((0, 3), np.float32)
    for index in np.lexsort((-counts, -colors.max(-1), -size_of)):
        color = colors[index]
        if size_of[index] < fewest_pixels or (abs(kept - color).max(-1) <= 2 * _NEAR).any():
            continue
        _, errors = _ratio(color[None], np.zeros_like(kept), kept)
        if size_of[index] or not (errors <= _PAINTED.tolerance).any():
            kept = np.concatenate([kept, color[None]])
        if len(kept) > MOST_COLORS:
            break
    return kept.astype(np.uint8)


def _mixtures(
    picture: np.ndarray, behind: np.ndarray, areas: np.ndarray, colors: np.ndarray
) -> _Mixtures:
    """Returns the composition of the pixels with -1 in `areas`, in the order of `np.nonzero`."""
    where = np.nonzero(areas < 0)
    pixels, background = picture[where].astype(np.float32), behind[where].astype(np.float32)
    distances = np.stack(
        [
            cv2.distanceTransform((areas != label).astype(np.uint8), cv2.DIST_L2, 3)[where]
            for label in range(1, len(colors) + 1)
        ]
    )
    nearest = np.argsort(distances, axis=0, kind="stable")[:2]
    first, second = nearest[0], nearest[-1]
    index = np.arange(len(pixels))
    is_near = distances[second, index] <= distances[first, index] + _FAR
    ends = colors.astype(np.float32)
    labels, ratios, shares = np.zeros(len(pixels), int), *np.zeros((2, len(pixels)))
    errors = np.full(len(pixels), np.inf)
    for start, start_label, end in (
        (background, 0, first),
        (ends[first], first + 1, second),
        (background, 0, second),
    ):
        ratio, error = _ratio(pixels, start, ends[end])
        is_better = (error + 2 < errors) & ((end is first) | is_near)
        errors[is_better], ratios[is_better] = error[is_better], ratio[is_better]
        labels[is_better] = np.where(ratio < 0.5, start_label, end + 1)[is_better]
        shares[is_better] = np.where(start_label, 1, ratio)[is_better]
    return _Mixtures(labels, ratios, shares, errors, distances[first, index])


def _ratio(pixels: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ratio of `end` in mixtures with `start`, 0..1, and the error in channel values.

    Two nearly equal colors, such as small ids in gray, do not mix: their error is infinite.
    """
    along = end - start
    squared = (along**2).sum(-1)
    ratio = np.clip(((pixels - start) * along).sum(-1) / np.maximum(squared, 1), 0, 1)
    error = abs(pixels - start - ratio[:, None] * along).max(-1)
    return ratio, np.where(abs(along).max(-1) < _TO_MIX, np.inf, error)


def _spots(areas: np.ndarray, is_mixed: np.ndarray, shares: np.ndarray) -> int:
    """Returns the number of pixels in spots: stronger or weaker than all around, without an area.

    Soft edges fade from the object to the background; photographed surfaces have texture.
    """
    strength = (areas > 0).astype(np.float32)
    strength[is_mixed] = shares
    return sum(
        _outside(strength >= level, areas > 0).sum() + _outside(strength < level, areas == 0).sum()
        for level in (0.25, 0.5, 0.75)
    )


def _outside(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Returns the connected parts of a mask that contain no seed, bool [height, width]."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    has_seed = np.zeros(count, bool)
    has_seed[parts[seeds]] = True
    return mask & ~has_seed[parts]


def _difference(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the largest difference over the three channels, uint8 [height, width]."""
    other = np.broadcast_to(np.asarray(other, np.uint8), picture.shape)
    return cv2.absdiff(picture, np.ascontiguousarray(other)).max(-1)


def _unpacked(packed: np.ndarray) -> np.ndarray:
    """Returns the colors of `masks.packed` values, uint8 [colors, 3]."""
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)

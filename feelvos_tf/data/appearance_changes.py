"""Frames as another light or another camera would show them: colors, blur, noise, JPEG."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Light(NamedTuple):
    """A change of colors: saturation, then contrast about the middle grey, then shifts.

    Attributes:
      saturation: factor on the distance to grey.
      contrast: factor on the distance to middle grey.
      shift: added to R, G and B, float32 [3].
    """

    saturation: float
    contrast: float
    shift: np.ndarray


def draw_light(rng: np.random.Generator, strength: float) -> Light:
    """Returns a random change; `strength` 1 is a large one, 0 none."""
    shift = rng.normal(0.0, 18.0 * strength) + rng.normal(0.0, 6.0 * strength, 3)
    return Light(
        saturation=float(np.exp(rng.normal(0.0, 0.3 * strength))),
        contrast=float(np.exp(rng.normal(0.0, 0.18 * strength))),
        shift=shift.astype(np.float32),
    )


def relight(image: np.ndarray, light: Light) -> np.ndarray:
    """Returns uint8 [height, width, 3] in another light, for `image` of the same kind."""
    grey = light.contrast * (1.0 - light.saturation) * np.outer(np.ones(3, np.float32), _LUMA)
    matrix = grey + light.contrast * light.saturation * np.eye(3, dtype=np.float32)
    shift = light.shift + 127.5 * (1.0 - light.contrast)
    return cv2.transform(image, np.column_stack([matrix, shift]))


def draw_camera_faults(
    image: np.ndarray, rng: np.random.Generator, probability: float
) -> np.ndarray:
    """Returns uint8 [height, width, 3] with blur, noise and JPEG artefacts, each by chance.

    Args:
      image: uint8 [height, width, 3].
      rng: the only source of randomness.
      probability: of each of the three.
    """
    blurred, noisy, compressed = rng.random(3) < probability
    if blurred:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    if noisy:
        noise = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise, 0, rng.uniform(1.0, 7.0))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if compressed:
        quality = int(rng.integers(30, 90))
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return image

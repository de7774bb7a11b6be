"""Constants that several packages share."""

from __future__ import annotations

# The id of void pixels in a mask: never an object, never a target.
VOID = 255
# Positions of a training clip's first three frames in its images and labels.
REFERENCE, PREVIOUS, CURRENT = range(3)

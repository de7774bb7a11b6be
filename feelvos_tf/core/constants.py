"""Numbers that several rooms must agree on."""

from __future__ import annotations

# The id, in a mask, of pixels that belong to nothing: never an object, never a target.
VOID = 255
# Positions of a training clip's three frames, in its images and in its labels.
REFERENCE, PREVIOUS, CURRENT = range(3)

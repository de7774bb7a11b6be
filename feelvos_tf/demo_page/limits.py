"""What one visitor of the page may ask for."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Bounds of files, memory and time.

    Attributes:
      upload_bytes: of a clip's file.
      frames: of a clip; what is behind them is left out.
      side: pixels of the frames' long side; larger ones are scaled down.
      visitors: at a time.
      idle_seconds: after which a visitor's files are removed.
    """

    upload_bytes: int = 200_000_000
    frames: int = 300
    side: int = 960
    visitors: int = 8
    idle_seconds: int = 1800

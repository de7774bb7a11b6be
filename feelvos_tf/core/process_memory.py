"""Memory of this process, as Linux reports it; elsewhere, all figures are its peak so far."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import resource
import sys

STATUS = "/proc/self/status"


def reset_peak() -> None:
    """Resets the peak, which starts with the parent's; `ru_maxrss` cannot be reset.

    Where that is impossible, as on macOS and in some containers, the old peak remains.
    """
    # 5 resets the peak, see proc(5).
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def peak(status: str | os.PathLike[str] = STATUS) -> int:
    """Returns the peak resident memory of this process in bytes."""
    return _of_field("VmHWM", status)


def resident(status: str | os.PathLike[str] = STATUS) -> int:
    """Returns the resident memory of this process in bytes."""
    return _of_field("VmRSS", status)


def _of_field(field: str, status: str | os.PathLike[str]) -> int:
    with contextlib.suppress(OSError):
        found = re.search(rf"^{field}:\s+(\d+) kB$", pathlib.Path(status).read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024

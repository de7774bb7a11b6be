"""Lets a training end its step and save a checkpoint when SIGINT or SIGTERM comes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

from feelvos_tf.training.progress_log import say


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], int]]:
    """Yields a function that tells which of SIGINT and SIGTERM came, or 0; a second one kills."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number, _):
        received.append(number)
        say("stopping after this step; once more to stop at once")
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else 0
    finally:
        restore()

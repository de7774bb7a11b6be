"""Notes SIGINT and SIGTERM, so that the step under way can end and be saved."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

from feelvos_tf.training.progress_log import say


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether SIGINT or SIGTERM came; a second one kills."""
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
        yield lambda: bool(received)
    finally:
        restore()

"""Prefetches items and consumes results in background threads."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()
_DEPTH = 2  # How many items are computed in advance, and how many calls may be queued.


class Stopwatch:
    """Adds up the seconds that one thread spends waiting for another.

    Attributes:
      seconds: the total so far.
    """

    def __init__(self):
        self.seconds = 0.0

    def result(self, future: Future) -> object:
        """Waits for a future and returns its result."""
        begin = time.perf_counter()
        try:
            return future.result()
        finally:
            self.seconds += time.perf_counter() - begin


def prefetched(items: Iterable[T], waited: Stopwatch | None = None) -> Iterator[T]:
    """Yields the items while the next ones are computed in the background.

    Args:
      items: computed in one thread, in order.
      waited: measures the time spent waiting for items.
    """
    waited = waited or Stopwatch()
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as reader:
        upcoming = collections.deque(reader.submit(next, iterator, _END) for _ in range(_DEPTH))
        while (item := waited.result(upcoming.popleft())) is not _END:
            yield item
            upcoming.append(reader.submit(next, iterator, _END))


class Background:
    """Calls functions in order in a background thread; leaving the `with` block waits for the last.

    If a call raises, a later `submit` or the end of the block raises the same error; the calls
    queued after it are dropped.
    """

    def __init__(self, waited: Stopwatch | None = None):
        """Starts the thread; `waited` measures the time that `submit` spends waiting."""
        self._waited = waited or Stopwatch()
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._has_failed = False
        self._pending: collections.deque[Future] = collections.deque()

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._worker.shutdown(wait=True)
        # If the block itself has failed, its own error is reported.
        while self._pending and kind is None:
            self._pending.popleft().result()

    def submit(self, function: Callable[..., object], *arguments: object) -> None:
        """Queues a call; waits while the queue is full."""
        while len(self._pending) >= _DEPTH:
            self._waited.result(self._pending.popleft())
        self._pending.append(self._worker.submit(self._call, function, *arguments))

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        if self._has_failed:
            return
        try:
            function(*arguments)
        except BaseException:
            self._has_failed = True
            raise

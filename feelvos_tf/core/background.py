"""Makes the next items, and uses the last ones, in threads of their own."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, TypeVar

T = TypeVar("T")
_END = object()


class Stopwatch:
    """Adds up the seconds that one thread has waited for another.

    Attributes:
      seconds: so far.
    """

    def __init__(self):
        self.seconds = 0.0

    def result(self, future: Future) -> object:
        """Returns the result of a future, once it is there."""
        begin = time.perf_counter()
        try:
            return future.result()
        finally:
            self.seconds += time.perf_counter() - begin


def prefetched(items: Iterable[T], waited: Stopwatch | None = None, depth: int = 2) -> Iterator[T]:
    """Yields the items, the next ones being made in the background meanwhile.

    Args:
      items: made in one thread, one after the other.
      waited: takes the time for which an item was not there yet.
      depth: how many are made in advance.
    """
    waited = waited or Stopwatch()
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as reader:
        upcoming = collections.deque(reader.submit(next, iterator, _END) for _ in range(depth))
        while (item := waited.result(upcoming.popleft())) is not _END:
            yield item
            upcoming.append(reader.submit(next, iterator, _END))


class Background:
    """Calls functions one after the other in a thread of its own; `with` waits for the last.

    What a call raises is raised by a later `submit` or at the end of the block; calls that wait
    behind it are not made.
    """

    def __init__(self, waited: Stopwatch | None = None, depth: int = 2):
        """Starts the thread.

        Args:
          waited: takes the time for which `submit` waited.
          depth: how many calls may wait.
        """
        self._waited = waited or Stopwatch()
        self._depth = depth
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._has_failed = False
        self._pending: collections.deque[Future] = collections.deque()

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._worker.shutdown(wait=True)
        # Where the block has failed, that is what is told.
        while self._pending and kind is None:
            self._pending.popleft().result()

    def submit(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function, later."""
        while len(self._pending) >= self._depth:
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

"""Background work happens in order and ahead of time, and no error is lost."""

from __future__ import annotations

import threading
import time

import pytest

from feelvos_tf.core.background import Background, Stopwatch, prefetched


def test_items_come_in_order_and_are_computed_ahead():
    made = []

    def items():
        for number in range(5):
            made.append(number)
            yield number

    ahead = prefetched(items())
    assert next(ahead) == 0
    time.sleep(0.2)
    assert made == [0, 1]
    assert list(ahead) == [1, 2, 3, 4]


def test_an_item_s_error_is_raised_in_its_place():
    def items():
        yield 1
        raise KeyError("second")

    ahead = prefetched(items())
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="second"):
        next(ahead)


def test_calls_are_made_in_order_and_all_before_the_block_ends():
    done = []
    with Background() as worker:
        for number in range(20):
            worker.submit(done.append, number)
    assert done == list(range(20))


def test_a_failing_call_is_reported_and_later_calls_are_dropped():
    done, go_on = [], threading.Event()

    def fail():
        go_on.wait(10)
        raise KeyError("disk")

    with pytest.raises(KeyError, match="disk"), Background() as worker:
        worker.submit(fail)
        worker.submit(done.append, 1)
        go_on.set()
    assert done == []


def test_the_block_s_own_error_takes_precedence():
    with pytest.raises(ValueError, match="block"), Background() as worker:
        worker.submit(int, "no number")
        raise ValueError("block")


def test_waiting_is_measured():
    waited = Stopwatch()
    with Background(waited) as worker:
        for _ in range(4):
            worker.submit(time.sleep, 0.1)
    assert 0.15 < waited.seconds < 5

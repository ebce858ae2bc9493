from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from mgem_agent.tools.background_call import call_in_background, call_in_parallel


def test_what_it_returns_or_raises_is_in_the_future() -> None:
    assert call_in_background(lambda: 7).result(timeout=5) == 7
    with pytest.raises(ZeroDivisionError):
        call_in_background(lambda: 1 // 0).result(timeout=5)


def test_each_call_ends_once_and_a_failure_stops_no_other() -> None:
    found = dict(call_in_parallel([partial(divmod, 6, number) for number in (2, 0, 3)], max_parallel=2))
    assert {index: future.exception() is None for index, future in found.items()} == {0: True, 1: False, 2: True}
    assert found[2].result() == (2, 0)


def test_cancel_leaves_behind_what_runs_and_starts_nothing_more() -> None:
    cancel, released, started = threading.Event(), threading.Event(), []

    def hang(number: int) -> None:
        started.append(number)
        cancel.set()
        released.wait(5)

    began = time.monotonic()
    assert list(call_in_parallel([partial(hang, n) for n in range(4)], max_parallel=1, cancel=cancel)) == []
    assert time.monotonic() - began < 2
    assert started == [0]
    released.set()


def test_nothing_to_do() -> None:
    assert list(call_in_parallel([], max_parallel=3)) == []

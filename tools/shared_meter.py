"""A meter that many calls share: of one set of tools, or of one client of a server.

Each call has a meter of its own, with the limits of a turn; all count in the shared one, with those of a session. Time
between calls does not count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mgem_agent.tools.budget import Budgets, Cost, Meter
from mgem_agent.tools.prices import Prices

__all__ = ["MeteredCall", "SharedMeter"]


@dataclass(frozen=True, slots=True)
class MeteredCall:
    """One call, with what counts and stops it.

    Attributes:
        meter: Refuses what would pass a limit, and counts what is spent.
        cancel: Is set when the seconds of the budget are used up, or the caller stops the call.
    """

    meter: Meter
    cancel: threading.Event


class SharedMeter(Meter):
    """A meter of many calls, which may run at the same time. Its seconds are the sum of their durations.

    Args:
        budgets: Limits of each call (`turn`) and of all calls together (`session`).
        prices: Prices of generators and reasoners.

    Examples:
        >>> from mgem_agent.errors import InputError
        >>> shared = SharedMeter(Budgets.parse("1picture/session"))
        >>> with shared.call() as call:
        ...     call.meter.add(Cost(pictures=1))
        >>> with shared.call() as call:
        ...     try:
        ...         call.meter.check(Cost(pictures=1), "a picture by 'flat'")
        ...     except InputError as error:
        ...         print(str(error).partition(" Nothing")[0])
        The budget of this session is 1 picture. Spent: 1 picture. Asked for: 1 more (a picture by 'flat').
    """

    def __init__(self, budgets: Budgets | None = None, prices: Prices | None = None) -> None:
        budgets = budgets or Budgets()
        super().__init__(Budgets(session=budgets.session), prices)
        self._each = budgets
        self._seconds = 0.0
        self._running: dict[object, float] = {}

    @property
    def spent(self) -> Cost:
        """What all calls have spent."""
        found, now = super().spent, time.monotonic()
        with self._lock:
            return replace(found, seconds=self._seconds + sum(now - start for start in self._running.values()))

    @contextmanager
    def call(self, limits: Budgets | None = None, cancel: threading.Event | None = None) -> Iterator[MeteredCall]:
        """Count one call.

        Args:
            limits: Further limits of this call; the smaller ones hold.
            cancel: Set this from another thread to stop the call.

        Yields:
            The call.

        Raises:
            BudgetExceededError: If no seconds are left; or at the end, if the call was stopped because they were used.
        """
        turn = self._each.turn.within((limits or Budgets()).turn)
        meter = Meter(Budgets(turn=turn), outer=self)
        stop = cancel if cancel is not None else threading.Event()
        key = object()
        with self._lock:
            self._running[key] = time.monotonic()
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            stop.set()

        timer = _timer(meter.seconds_left(), end)
        try:
            yield MeteredCall(meter, stop)
        except Exception:
            if is_late.is_set():
                meter.check(Cost(), "more time")  # says which limit it was, instead of "cancelled"
            raise
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._seconds += time.monotonic() - self._running.pop(key)


def _timer(seconds: float | None, run: Callable[[], object]) -> threading.Timer | None:
    """Start a timer; none without a number of seconds."""
    if seconds is None:
        return None
    timer = threading.Timer(max(seconds, 0.0), run)
    timer.daemon = True
    timer.start()
    return timer

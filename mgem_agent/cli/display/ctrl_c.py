"""What Ctrl-C stops, little by little, while something goes on.

A signal handler may not wait for a lock, which what it interrupts may hold; so it only notes the key, and a thread does
the stopping.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mgem_agent.cli.display.typed_ahead import without_echo

__all__ = ["INTERRUPTED_STATUS", "Stop", "stopped_by_ctrl_c"]

INTERRUPTED_STATUS = 130
"""Exit status of a command that Ctrl-C ended: 128 and the number of the signal."""

Stop = tuple[Callable[[], bool], str]
"""What stops something, returning whether there was something to stop; and what a person is told then."""


@contextmanager
def stopped_by_ctrl_c(stops: Sequence[Stop], tell: Callable[[str], None]) -> Iterator[None]:
    """Let each Ctrl-C stop the next thing that there is to stop; where nothing is left, it is a `KeyboardInterrupt`.

    What is typed meanwhile is not echoed. Outside the main thread, where no signal comes, this does nothing.

    Args:
        stops: What can be stopped, the first to be stopped first; called in another thread.
        tell: Tells a person; called in that thread too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopper = _Stopper(stops, tell)
    stopper.start()
    before = signal.signal(signal.SIGINT, stopper.press)
    try:
        with without_echo():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
        stopper.end()


class _Stopper(threading.Thread):
    """Stops the next thing at each press."""

    def __init__(self, stops: Sequence[Stop], tell: Callable[[str], None]) -> None:
        super().__init__(name="mgem-ctrl-c", daemon=True)
        self._stops = list(stops)
        self._tell = tell
        self._presses: queue.SimpleQueue[bool] = queue.SimpleQueue()  # of the kind that a handler may put into
        self._num_left = len(self._stops)

    def press(self, signum: int, frame: Any) -> None:
        """Take the signal."""
        if not self._num_left or not self._stops:
            raise KeyboardInterrupt
        self._num_left -= 1
        self._presses.put(True)

    def run(self) -> None:
        """Stop things until there is an end of it."""
        while self._presses.get():
            while self._stops:
                stop, message = self._stops.pop(0)
                if stop():
                    self._tell(message)
                    break

    def end(self) -> None:
        """Nothing goes on any more."""
        self._presses.put(False)
        self.join()

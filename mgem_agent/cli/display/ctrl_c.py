"""Stop one thing at each press of Ctrl-C.

A signal handler must not wait for a lock, because the interrupted code may hold it. So the handler only records the
key press, and a thread does the stopping.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mgem_agent.cli.display.typed_ahead import without_echo

__all__ = ["INTERRUPTED_STATUS", "stopped_by_ctrl_c"]

INTERRUPTED_STATUS = 130
"""Exit status after Ctrl-C: 128 plus the signal number."""

Stop = tuple[Callable[[], bool], str]
"""A function that stops something and returns whether it was running, and the message to show in that case."""


@contextmanager
def stopped_by_ctrl_c(stops: Sequence[Stop], tell: Callable[[str], None]) -> Iterator[None]:
    """Let each Ctrl-C stop the next thing in `stops`; after the last one, Ctrl-C raises `KeyboardInterrupt`.

    The terminal does not echo typed text meanwhile. Outside the main thread, which gets no signals, this does nothing.

    Args:
        stops: What to stop, in this order; the functions are called in another thread.
        tell: Shows a message; called in that thread too.
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
    """Stops the next thing at each press of Ctrl-C."""

    def __init__(self, stops: Sequence[Stop], tell: Callable[[str], None]) -> None:
        super().__init__(name="mgem-ctrl-c", daemon=True)
        self._stops = list(stops)
        self._tell = tell
        self._presses: queue.SimpleQueue[bool] = queue.SimpleQueue()  # safe to use in a signal handler
        self._num_left = len(self._stops)

    def press(self, signum: int, frame: Any) -> None:
        """Handle the signal."""
        if not self._num_left or not self._stops:
            raise KeyboardInterrupt
        self._num_left -= 1
        self._presses.put(True)

    def run(self) -> None:
        """Stop things until `end` is called."""
        while self._presses.get():
            while self._stops:
                stop, message = self._stops.pop(0)
                if stop():
                    self._tell(message)
                    break

    def end(self) -> None:
        """End the thread."""
        self._presses.put(False)
        self.join()

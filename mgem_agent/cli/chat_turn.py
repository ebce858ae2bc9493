"""Running a turn for a person: its events on a display, their decisions, and what Ctrl-C stops.

The first Ctrl-C stops the pictures that are being drawn, the next the turn, and the one after that leaves the turn as
it is, to be gone on with later. A signal handler may not wait for a lock, so it only notes the key; a thread does the
stopping.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgem_agent.agent import MgemAgent
    from mgem_agent.agent_decision import Decision
    from mgem_agent.agent_events import AgentEvent, ConfirmationNeeded, Turn
    from mgem_agent.cli.turn_display import TurnDisplay

__all__ = ["Decide", "run_turn"]

Decide = Callable[["ConfirmationNeeded"], "Decision | None"]
"""Asks a person; None leaves the captions waiting."""

STOPPING_PICTURE = "stopping the picture; Ctrl-C again stops the turn"
STOPPING_TURN = "stopping the turn; Ctrl-C again leaves it at once, to be gone on with later"


def run_turn(
    agent: MgemAgent, session: str, events: Iterable[AgentEvent], display: TurnDisplay, decide: Decide
) -> Turn | None:
    """Run a turn to its end.

    Args:
        agent: Whose turn it is.
        session: Of the turn.
        events: What `agent.stream` or one of its like returned.
        display: Shows what happens.
        decide: Asked where captions wait.

    Returns:
        What came of it; None where captions are left waiting.

    Raises:
        KeyboardInterrupt: If Ctrl-C was pressed until nothing was left to stop; the turn is unfinished then.
        MgemError: Whatever the agent raises; so is it then.
    """
    while True:
        waiting: ConfirmationNeeded | None = None
        turn: Turn | None = None
        try:
            with _ctrl_c(agent, session, display):
                for event in events:
                    display.show(event)
                    if event.kind == "confirm":
                        waiting = event
                    elif event.kind == "finished":
                        turn = event.turn
        finally:
            display.close()
        if waiting is None:
            return turn
        decision = decide(waiting)
        if decision is None:
            return None
        events = agent.stream_resume(session, decision)


@contextmanager
def _ctrl_c(agent: MgemAgent, session: str, display: TurnDisplay) -> Iterator[None]:
    """Let Ctrl-C stop what is under way, little by little."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopper = _Stopper(agent, session, display)
    stopper.start()
    before = signal.signal(signal.SIGINT, stopper.press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        stopper.end()


class _Stopper(threading.Thread):
    """Stops the drawing at the first press, the turn at the next."""

    def __init__(self, agent: MgemAgent, session: str, display: TurnDisplay) -> None:
        super().__init__(name="mgem-ctrl-c", daemon=True)
        self._agent = agent
        self._session = session
        self._display = display
        self._presses: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._num_presses = 0
        self._is_turn_stopped = False

    def press(self, signum: int, frame: Any) -> None:
        """Take the signal; a queue of this kind may be used while it is in use."""
        self._num_presses += 1
        if self._is_turn_stopped or self._num_presses > 2:
            raise KeyboardInterrupt
        self._presses.put(True)

    def run(self) -> None:
        """Stop things until the turn is over."""
        was_drawing = False
        while self._presses.get():
            if not was_drawing and self._agent.cancel_drawing(self._session):
                was_drawing = True
                self._display.hint_at(STOPPING_PICTURE)
            elif self._agent.cancel(self._session):
                self._is_turn_stopped = True
                self._display.hint_at(STOPPING_TURN)

    def end(self) -> None:
        """The turn is over."""
        self._presses.put(False)
        self.join()

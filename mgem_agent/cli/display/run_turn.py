"""Running a turn for a person: its events on a display, their decisions, and what Ctrl-C stops.

The first Ctrl-C stops the pictures that are being drawn, the next the turn, and the one after that leaves the turn as
it is, to be gone on with later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mgem_agent.cli.display.ctrl_c import stopped_by_ctrl_c

if TYPE_CHECKING:
    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.agent.decision import Decision
    from mgem_agent.agent.events import AgentEvent, ConfirmationNeeded, Turn
    from mgem_agent.cli.display.contract import TurnDisplay

__all__ = ["Decide", "run_turn"]

Decide = Callable[["ConfirmationNeeded"], "Decision | None"]
"""Asks a person; None leaves the captions waiting."""

STOPPING_PICTURE = "stopping the picture; Ctrl-C again stops the turn"
STOPPING_TURN = "stopping the turn; Ctrl-C again leaves it at once, to be gone on with later"


def run_turn(
    agent: MgemAgent,
    session: str,
    events: Iterable[AgentEvent],
    display: TurnDisplay,
    decide: Decide,
    *,
    stopped: threading.Event | None = None,
) -> Turn | None:
    """Run a turn to its end.

    Args:
        agent: Whose turn it is.
        session: Of the turn.
        events: What `agent.stream` or one of its like returned.
        display: Shows what happens.
        decide: Asked where captions wait.
        stopped: Set when a person stops something by Ctrl-C.

    Returns:
        What came of it; None where captions are left waiting.

    Raises:
        KeyboardInterrupt: If Ctrl-C was pressed until nothing was left to stop; the turn is unfinished then.
        MgemError: Whatever the agent raises; so is it then.
    """

    def noted(was_stopped: bool) -> bool:
        if was_stopped and stopped is not None:
            stopped.set()
        return was_stopped

    stops = [
        (lambda: noted(agent.cancel_drawing(session)), STOPPING_PICTURE),
        (lambda: noted(agent.cancel(session)), STOPPING_TURN),
    ]
    while True:
        waiting: ConfirmationNeeded | None = None
        turn: Turn | None = None
        try:
            with stopped_by_ctrl_c(stops, display.hint_at):
                display.start()
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

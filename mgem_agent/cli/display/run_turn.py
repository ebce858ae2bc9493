"""Run a turn for the user: show its events, ask for decisions, and handle Ctrl-C.

The first Ctrl-C stops the drawing of the current pictures, the second stops the turn, and the third leaves the turn
unfinished, so that it can be resumed later.
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
"""Asks the user; None leaves the captions waiting."""

STOPPING_PICTURE = "stopping the picture; press Ctrl-C again to stop the turn"
STOPPING_TURN = "stopping the turn; press Ctrl-C again to leave it unfinished, to be resumed later"


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
        agent: The agent.
        session: Session of the turn.
        events: Events from `agent.stream` or a similar method.
        display: Shows the events.
        decide: Called when captions must be confirmed.
        stopped: Set when the user stops something with Ctrl-C.

    Returns:
        The finished turn; None if captions are left waiting.

    Raises:
        KeyboardInterrupt: If Ctrl-C was pressed and nothing was left to stop; the turn is then unfinished.
        MgemError: If the agent fails; the turn is then unfinished.
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

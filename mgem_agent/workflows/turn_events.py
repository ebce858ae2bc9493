"""The end of a stream of the agent's events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mgem_agent.agent.events import AgentEvent, Turn, TurnFinished
from mgem_agent.errors import InputError

__all__ = ["last_turn"]


def last_turn(events: Iterable[AgentEvent]) -> Turn:
    """Consume events, and return the turn of the last one.

    Raises:
        InputError: If a person must decide first.
    """
    last = deque(events, maxlen=1).pop()
    if not isinstance(last, TurnFinished):
        raise InputError(
            "The agent waits for a person's decision. Call agent.resume, or use an agent with confirm=False."
        )
    return last.turn

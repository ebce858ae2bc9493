"""The end of a stream of the agent's events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mgem_agent.agent.events import AgentEvent, Turn, TurnFinished
from mgem_agent.errors import InputError

__all__ = ["last_turn"]


def last_turn(events: Iterable[AgentEvent]) -> Turn:
    """Run through events, and return the turn that the last one is of.

    Raises:
        InputError: If a person has to decide first.
    """
    last = deque(events, maxlen=1).pop()
    if not isinstance(last, TurnFinished):
        raise InputError(
            "The agent waits for a person's decision. Give it by agent.resume, or take an agent with confirm=False."
        )
    return last.turn

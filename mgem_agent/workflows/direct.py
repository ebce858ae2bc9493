"""Draw exactly the instruction: the first row of Figure 10, direct text-to-image generation.

The reasoner is not called. It sees the picture in later turns.

Example:
    >>> from mgem_agent.workflows import direct
    >>> direct.run(agent, "A spider man riding a motorbike").pictures[0].path  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.drawing import read_request
from mgem_agent.agent.events import AgentEvent, Turn
from mgem_agent.workflows.turn_events import last_turn

__all__ = ["run", "stream"]


def stream(
    agent: MgemAgent, instruction: str, *, session: str | None = None, **fields: Any
) -> Generator[AgentEvent, None, None]:
    """Draw an unchanged instruction, and yield events as they come.

    Args:
        agent: The agent.
        instruction: What to draw.
        session: The session that the turn belongs to.
        **fields: Other fields of the image request, such as `seed` or `width`.

    Yields:
        The agent's events.

    Raises:
        InputError: If the instruction is empty, or a field is unknown or out of range.
    """
    request = read_request({"prompt": instruction, **fields}, {})
    yield from agent.stream_drawing([request], instruction, session=session)


def run(agent: MgemAgent, instruction: str, *, session: str | None = None, **fields: Any) -> Turn:
    """Draw an unchanged instruction; arguments and errors as for `stream`."""
    return last_turn(stream(agent, instruction, session=session, **fields))

"""Expand a short instruction to a detailed caption and draw that: "Simple Instruction Re-caption".

The second kind of the paper's generation data (appendix A), and the first two rows of Figure 6.

Example:
    >>> from mgem_agent.workflows import recaption
    >>> recaption.run(agent, "Portray a lone oak").pictures[0].prompt  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Generator

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentEvent, Turn
from mgem_agent.prompts import render_prompt

__all__ = ["run", "stream"]


def stream(agent: MgemAgent, instruction: str, *, session: str | None = None) -> Generator[AgentEvent, None, None]:
    """Expand an instruction to a detailed caption, draw it, and yield events as they come.

    Args:
        agent: The agent.
        instruction: What to draw, in a few words.
        session: The session that the turn belongs to.

    Yields:
        The agent's events.

    Raises:
        InputError: As for `MgemAgent.stream`.
    """
    yield from agent.stream(render_prompt("recaption", instruction=instruction), session=session, draw="always")


def run(agent: MgemAgent, instruction: str, *, session: str | None = None) -> Turn:
    """Expand an instruction to a detailed caption and draw it; arguments and errors as for `stream`."""
    return agent.invoke(render_prompt("recaption", instruction=instruction), session=session, draw="always")

"""Draw a short instruction from the rich caption that the reasoner makes of it: "Simple Instruction Re-caption".

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
    """Have an instruction made richer and drawn, yielding what happens as it happens.

    Args:
        agent: What writes the caption and draws it.
        instruction: What to draw, in a few words.
        session: The dialogue that this is a turn of.

    Yields:
        The agent's events.

    Raises:
        InputError: As for `MgemAgent.stream`.
    """
    yield from agent.stream(render_prompt("recaption", instruction=instruction), session=session, draw="always")


def run(agent: MgemAgent, instruction: str, *, session: str | None = None) -> Turn:
    """Have an instruction made richer and drawn; arguments and errors as for `stream`."""
    return agent.invoke(render_prompt("recaption", instruction=instruction), session=session, draw="always")

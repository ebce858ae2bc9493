"""Reason about words and pictures, and then draw: the reasoning rows of Figures 6 and 10.

What is drawn is not what was said but what follows from it: a gift for somebody of whom a picture is shown, an example
by which a child understands deep learning.

Example:
    >>> from mgem_agent.workflows import reasoning
    >>> turn = reasoning.run(agent, "Which season is it here? Show the next one.", ["garden.jpg"])  # doctest: +SKIP
    >>> turn.text, turn.pictures  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentEvent, Turn
from mgem_agent.prompts import render_prompt

__all__ = ["run", "stream"]


def stream(
    agent: MgemAgent, question: str, images: Iterable[Any] = (), *, session: str | None = None
) -> Generator[AgentEvent, None, None]:
    """Have a question answered in words and then drawn, yielding what happens as it happens.

    Args:
        agent: What reasons and draws.
        question: What is asked.
        images: Pictures that it is about, as for `MgemAgent.stream`.
        session: The dialogue that this is a turn of.

    Yields:
        The agent's events.

    Raises:
        InputError: As for `MgemAgent.stream`.
    """
    yield from agent.stream(render_prompt("reasoning", question=question), images, session=session, draw="always")


def run(agent: MgemAgent, question: str, images: Iterable[Any] = (), *, session: str | None = None) -> Turn:
    """Have a question answered in words and then drawn; arguments and errors as for `stream`."""
    return agent.invoke(render_prompt("reasoning", question=question), images, session=session, draw="always")

"""Reason about text and pictures, then draw: the reasoning rows of Figures 6 and 10.

The picture shows a conclusion rather than the message itself: a gift for the person in a picture, or an example that
explains deep learning to a child.

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
    """Answer a question in words, draw the answer, and yield events as they come.

    Args:
        agent: The agent.
        question: The question.
        images: Pictures that the question is about, as for `MgemAgent.stream`.
        session: The session that the turn belongs to.

    Yields:
        The agent's events.

    Raises:
        InputError: As for `MgemAgent.stream`.
    """
    yield from agent.stream(render_prompt("reasoning", question=question), images, session=session, draw="always")


def run(agent: MgemAgent, question: str, images: Iterable[Any] = (), *, session: str | None = None) -> Turn:
    """Answer a question in words and draw the answer; arguments and errors as for `stream`."""
    return agent.invoke(render_prompt("reasoning", question=question), images, session=session, draw="always")

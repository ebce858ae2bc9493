"""Draw in the context of a conversation and its pictures: the in-context rows of Figures 6 and 10.

The reasoner gets the dialogue and the latest pictures, both the user's and the drawn ones. "Something cute and special"
can then mean something made of the yarn that was shown two rounds before.

Example:
    >>> from mgem_agent.workflows import in_context
    >>> agent.invoke("What could I make with this?", ["yarn.jpg"], session="yarn", draw="never")  # doctest: +SKIP
    >>> in_context.run(agent, "Show me something cute.", session="yarn").pictures  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentEvent, Turn

__all__ = ["run", "stream"]


def stream(
    agent: MgemAgent, instruction: str, images: Iterable[Any] = (), *, session: str
) -> Generator[AgentEvent, None, None]:
    """Draw what an instruction means in its conversation, and yield events as they come.

    Args:
        agent: The agent.
        instruction: The next message of the conversation.
        images: Pictures attached to the message, as for `MgemAgent.stream`.
        session: The session of the conversation.

    Yields:
        The agent's events.

    Raises:
        InputError: As for `MgemAgent.stream`.
    """
    yield from agent.stream(instruction, images, session=session, draw="always")


def run(agent: MgemAgent, instruction: str, images: Iterable[Any] = (), *, session: str) -> Turn:
    """Draw what an instruction means in its conversation; arguments and errors as for `stream`."""
    return agent.invoke(instruction, images, session=session, draw="always")

"""Instructions over several rounds, each building on the last picture: the mouse of Figure 10, which gets richer.

In two ways. By `caption`, as in the paper: the reasoner knows the dialogue, sees the latest pictures, and writes a
whole new caption that keeps what stays; an agent with a `seed` among its defaults keeps the composition as well. By
`edit`: the last picture and the bare instruction go to a generator that edits, which keeps everything else better where
there is such a generator.

Example:
    >>> from mgem_agent.workflows import multi_round
    >>> turns = multi_round.run(agent, ["Generate a mouse that is rich.", "Make it richer!"])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Literal

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentEvent, Turn, TurnFinished
from mgem_agent.errors import InputError
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["Building", "run", "stream"]

Building = Literal["caption", "edit"]
"""How a round builds on the one before."""


def stream(
    agent: MgemAgent,
    instructions: Sequence[str],
    images: Iterable[Any] = (),
    *,
    building: Building = "caption",
    session: str | None = None,
) -> Generator[AgentEvent, None, None]:
    """Draw round after round, yielding what happens as it happens.

    Args:
        agent: What reasons and draws.
        instructions: What is said, one a round.
        images: Pictures that are shown in the first round, as for `MgemAgent.stream`.
        building: How a round builds on the last picture. Where a round by `edit` finds no picture before it, it goes
            by `caption`.
        session: The dialogue.

    Yields:
        The agent's events, with a `TurnFinished` at the end of each round. A round that waits for a person's decision,
        or that somebody cancels, is the last.

    Raises:
        InputError: If there is no instruction, or as for `MgemAgent.stream`.
    """
    if not instructions:
        raise InputError("There is no instruction. Give one for each round.")
    last_picture: str | None = None
    for place, instruction in enumerate(instructions):
        if building == "edit" and last_picture is not None:
            request = ImageRequest(prompt=instruction, task="edit", image=last_picture)
            events = agent.stream_drawing([request], instruction, session=session)
        else:
            events = agent.stream(instruction, images if not place else (), session=session, draw="always")
        event: AgentEvent | None = None
        for event in events:
            yield event
        if not isinstance(event, TurnFinished) or event.turn.outcome in ("cancelled", "timeout"):
            return
        if event.turn.pictures:
            last_picture = event.turn.pictures[-1].artifact_id


def run(
    agent: MgemAgent,
    instructions: Sequence[str],
    images: Iterable[Any] = (),
    *,
    building: Building = "caption",
    session: str | None = None,
) -> list[Turn]:
    """Draw round after round; arguments and errors as for `stream`.

    Returns:
        The turns that are finished, one a round.
    """
    events = stream(agent, instructions, images, building=building, session=session)
    return [event.turn for event in events if isinstance(event, TurnFinished)]

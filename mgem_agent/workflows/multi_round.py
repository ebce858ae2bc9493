"""Instructions over several rounds, each building on the last picture, as with the mouse of Figure 10.

There are two ways. With `caption`, as in the paper, the reasoner sees the dialogue and the latest pictures and writes a
new caption; a default `seed` of the agent also keeps the composition. With `edit`, a generator that can edit gets the
last picture and only the instruction; this keeps the rest of the picture better.

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

__all__ = ["run", "stream"]

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
    """Draw round after round, and yield events as they come.

    Args:
        agent: The agent.
        instructions: The instructions, one for each round.
        images: Pictures attached to the first round, as for `MgemAgent.stream`.
        building: How a round builds on the last picture. If there is none yet, a round with `edit` uses `caption`.
        session: The session of the dialogue.

    Yields:
        The agent's events, with a `TurnFinished` at the end of each round. A round that waits for a person's decision,
        or that is cancelled, is the last one.

    Raises:
        InputError: If there is no instruction, or as for `MgemAgent.stream`.
    """
    if not instructions:
        raise InputError("instructions is empty. Give one instruction for each round.")
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
        The finished turns, one for each round.
    """
    events = stream(agent, instructions, images, building=building, session=session)
    return [event.turn for event in events if isinstance(event, TurnFinished)]

"""What a page shows of a session: its turns, and the state of one that is not finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import CaptionReady
from mgem_agent.agent.messages import from_records
from mgem_agent.agent.transcript import read_transcript

__all__ = ["ChatView", "ShownTurn", "read_chat", "said_by_user", "shown_turn"]

ChatState = Literal["ready", "waiting", "interrupted"]
"""`ready` for a message, `waiting` for a decision on captions, `interrupted` in the middle of a turn."""

ENDINGS = {
    "cancelled": "You stopped this answer.",
    "timeout": "The time limit of a turn was reached.",
    "max_rounds": "The limit of answers in one turn was reached.",
    "max_pictures": "The limit of pictures in one turn was reached.",
    "refused": "The model declined to answer.",
}


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """A finished turn.

    Attributes:
        number: Its number, from 1.
        said: Its messages, as `read_transcript` returns them.
        notices: Messages for the user.
    """

    number: int
    said: list[dict[str, Any]]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatView:
    """A session as a page shows it.

    Attributes:
        session: Its name.
        title: Its title.
        turns: The finished turns, oldest first.
        state: Whether it takes a message.
        asked: The user's message of an unfinished turn: `text`, `pictures`.
        drawn: Pictures of an interrupted turn that are stored already.
        captions: The captions that wait for a decision.
    """

    session: str
    title: str
    turns: list[ShownTurn]
    state: ChatState = "ready"
    asked: dict[str, Any] | None = None
    drawn: tuple[dict[str, Any], ...] = ()
    captions: tuple[CaptionReady, ...] = ()


def read_chat(agent: MgemAgent, session: str) -> ChatView:
    """Read a session.

    Args:
        agent: An agent with the sessions of the user.
        session: Name of the session; one that does not exist is empty.
    """
    records = agent.sessions.turns(session)
    turns = [shown_turn(number, record) for number, record in enumerate(records, 1)]
    title = next((each.title for each in agent.sessions.list() if each.name == session), "")
    begun = agent.sessions.open_turn(session)
    if begun is None:
        return ChatView(session, title, turns)
    waiting = agent.waiting(session)
    drawn = tuple(agent.sessions.drawn(begun["turn"]).values())
    return ChatView(
        session,
        title,
        turns,
        state="interrupted" if waiting is None else "waiting",
        asked=said_by_user(begun),
        drawn=drawn,
        captions=() if waiting is None else waiting.captions,
    )


def shown_turn(number: int, record: Mapping[str, Any]) -> ShownTurn:
    """Return a finished turn.

    Args:
        number: Its number, from 1.
        record: Its record.
    """
    notices = list(record.get("notices", ()))
    ending = ENDINGS.get(str(record.get("outcome")))
    return ShownTurn(
        number, read_transcript([dict(record)])[0]["said"], tuple([*notices, ending] if ending else notices)
    )


def said_by_user(begun: Mapping[str, Any]) -> dict[str, Any]:
    """Return the text and the picture ids of the message that began a turn."""
    message = from_records(begun["messages"][:1])[0]
    blocks = message.content if isinstance(message.content, list) else []
    pictures = [str(block["file_id"]) for block in blocks if isinstance(block, dict) and "file_id" in block]
    return {"text": str(message.text), "pictures": pictures}

"""Conversations of OpenAI's protocol: a session with a name of its own, to which each response adds its turn."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from langchain_core.messages import BaseMessage

from mgem_agent.agent.messages import from_records
from mgem_agent.server.http_errors import NotFoundError
from mgem_agent.server.responses_store import Place, ResponseStore, SavedResponse, turn_record
from mgem_agent.sessions.sessions import Sessions, new_session_name

__all__ = ["Conversation", "ConversationStore"]

CONVERSATION_ID = re.compile(r"conv_[0-9a-f]{32}")
CONVERSATIONS = "conversations"
TITLE = "A conversation"
CHANGE_S = 30.0
"""Seconds to wait for other changes of a conversation's record, each of which takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation.

    Attributes:
        id: Its id.
        created_at: When it was created, in seconds since 1970.
        metadata: The client's own data.
        session: Name of its session, which its first turn creates.
        system: System messages.
        last: Id of the response that was added last; empty if there is none.
    """

    id: str
    created_at: int
    session: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    system: Sequence[str] = ()
    last: str = ""

    @property
    def described(self) -> dict[str, Any]:
        """The conversation in OpenAI's form."""
        return {
            "id": self.id,
            "object": "conversation",
            "created_at": self.created_at,
            "metadata": dict(self.metadata),
        }


class ConversationStore:
    """The conversations of one user.

    Args:
        sessions: The user's sessions.
        responses: The user's responses.
    """

    def __init__(self, sessions: Sessions, responses: ResponseStore) -> None:
        self._sessions = sessions
        self._responses = responses

    def create(self, metadata: Mapping[str, str]) -> Conversation:
        """Create a conversation without items."""
        made = Conversation(
            f"conv_{uuid.uuid4().hex}", int(time.time()), new_session_name("conversation"), dict(metadata)
        )
        self._put(made)
        return made

    def get(self, conversation_id: str, *, param: str | None = None) -> Conversation:
        """Return a conversation.

        Args:
            conversation_id: Its id.
            param: The field of the request that names it, for errors.

        Raises:
            NotFoundError: If this user has no such conversation.
        """
        is_id = CONVERSATION_ID.fullmatch(conversation_id)
        note = self._sessions.note(CONVERSATIONS, conversation_id) if is_id else None
        if note is None:
            raise NotFoundError(
                f"There is no conversation {conversation_id[:80]!r}. Create one: POST /v1/conversations.", param=param
            )
        return Conversation(**note)

    def update(self, conversation_id: str, metadata: Mapping[str, str]) -> Conversation:
        """Replace the metadata of a conversation; errors as for `get`."""
        return self._change(conversation_id, lambda known: replace(known, metadata=dict(metadata)))

    def delete(self, conversation_id: str) -> None:
        """Delete a conversation; its session is kept. Errors as for `get`."""
        self._sessions.delete_note(CONVERSATIONS, self.get(conversation_id).id)

    def head(self, conversation: Conversation) -> SavedResponse:
        """Return what a response continues: the last turn of the conversation."""
        begun = self._sessions.open_turn(conversation.session)
        turns = self._sessions.turns(conversation.session, limit=1)
        turn = str(begun["turn"]) if begun is not None else str(turns[0]["id"]) if turns else ""
        response: Mapping[str, Any] = {}
        if conversation.last:
            try:
                last = self._responses.get(conversation.last)
                response = last.response if last.turn == turn else {}
            except NotFoundError:
                pass  # it was deleted, and its turn was kept
        return SavedResponse(
            conversation.session,
            turn,
            response,
            key=conversation.id,
            system=conversation.system,
            conversation=conversation.id,
        )

    def messages(self, conversation: Conversation) -> list[tuple[str, list[BaseMessage]]]:
        """Return the messages of a conversation's finished turns, with the id of each turn."""
        turns = self._sessions.turns(conversation.session)
        return [(str(each["id"]), from_records(each["messages"])) for each in turns]

    def add_messages(self, conversation: Conversation, messages: Sequence[BaseMessage], system: Sequence[str]) -> str:
        """Add messages of a client, and return the id of their turn; empty if there are only system messages."""
        place = Place(conversation.session)
        if messages:
            title = str(messages[0].text) or TITLE
            place = self._responses.add_turn(turn_record(messages), self.head(conversation), title=title[:80])
        self._change(
            conversation.id, lambda known: replace(known, session=place.session, system=[*known.system, *system])
        )
        return place.turn

    def note_response(self, conversation_id: str, response_id: str, session: str, system: Sequence[str]) -> None:
        """Note the response that was added last.

        Args:
            conversation_id: The conversation; nothing is noted if it was deleted meanwhile.
            response_id: The response.
            session: The session that has its turn.
            system: The system messages of the response.
        """
        with suppress(NotFoundError):
            self._change(
                conversation_id,
                lambda known: replace(known, last=response_id, session=session, system=[*known.system, *system]),
            )

    def _change(self, conversation_id: str, change: Callable[[Conversation], Conversation]) -> Conversation:
        """Change a conversation as it is now; other requests and servers wait meanwhile."""
        with self._sessions.hold(f"the record of {conversation_id}", wait_s=CHANGE_S):
            changed = change(self.get(conversation_id))
            self._put(changed)
        return changed

    def _put(self, conversation: Conversation) -> None:
        self._sessions.put_note(CONVERSATIONS, conversation.id, asdict(conversation))

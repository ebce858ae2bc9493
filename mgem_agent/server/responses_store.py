"""Saved responses: each names the turn that it is in a session of its user, so that another response can continue it.

The pictures of a response are in the user's store and are not saved twice. A user's responses are notes among the
user's sessions, so no user finds another's. The turn of a response that was interrupted is an unfinished turn of its
session, as in the chat of the command line: it can be resumed, or ended with what it has.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from langchain_core.messages import BaseMessage

from mgem_agent.agent.events import Turn
from mgem_agent.agent.messages import from_records, to_record
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.server.http_errors import NotFoundError
from mgem_agent.server.picture_output import PictureFormat
from mgem_agent.sessions.sessions import Sessions, new_session_name

__all__ = ["Place", "ResponseStore", "SavedResponse", "turn_record"]

RESPONSE_ID = re.compile(r"resp_[0-9a-f]{32}")
PICTURE_ITEM = "ig_img-"
RESPONSES, CALLS = "responses", "image_calls"
HOLD_S = 5.0
"""Seconds to wait for a session of a conversation that another response is being added to."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the turn of a response is.

    Attributes:
        session: Name of its session; empty if it has no turn yet.
        turn: Id of its turn.
    """

    session: str = ""
    turn: str = ""


@dataclass(frozen=True, slots=True)
class SavedResponse:
    """A saved response.

    Attributes:
        session: Name of its session; empty if it has no turn.
        turn: Id of its turn; empty if there is none.
        response: The response, without the pictures themselves.
        drawn: Ids of its pictures, by the ids of their items.
        key: What all requests of its dialogue have in common.
        system: System messages of the dialogue, other than `instructions`.
        format: Type and quality of its pictures.
        given: Records of the messages in its request.
        own_system: System messages of its input.
        conversation: Id of its conversation; empty if it has none.
        owns_turn: Whether its turn is deleted with it; not if another response has resumed the turn.
    """

    session: str
    turn: str
    response: Mapping[str, Any]
    drawn: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    system: Sequence[str] = ()
    format: Sequence[Any] = ("png", None)
    given: Sequence[Mapping[str, Any]] = ()
    own_system: Sequence[str] = ()
    conversation: str = ""
    owns_turn: bool = True

    @property
    def unfinished_text(self) -> str:
        """The text of the answer in the middle of which it was interrupted."""
        last = (self.response.get("output") or [{}])[-1]
        if last.get("type") != "message" or last.get("status") != "incomplete":
            return ""
        return "".join(part.get("text", "") for part in last["content"])


class ResponseStore:
    """The responses of one user.

    Args:
        sessions: The user's sessions.
        pictures: The user's pictures.
    """

    def __init__(self, sessions: Sessions, pictures: ArtifactStore) -> None:
        self._sessions = sessions
        self._pictures = pictures

    def get(self, response_id: str, *, param: str | None = None) -> SavedResponse:
        """Return a saved response.

        Args:
            response_id: Its id.
            param: The field of the request that names it, for errors.

        Raises:
            NotFoundError: If this user has no such response.
        """
        note = self._sessions.note(RESPONSES, response_id) if RESPONSE_ID.fullmatch(response_id) else None
        if note is None:
            raise NotFoundError(
                f"There is no response {response_id[:80]!r}. It may have been deleted, or not been stored "
                "(store=false).",
                param=param,
            )
        return SavedResponse(**note)

    def whole(self, saved: SavedResponse) -> dict[str, Any]:
        """Return a saved response with its pictures; a deleted picture has no result."""
        form = PictureFormat(saved.format[0], saved.format[1])
        output = []
        for item in saved.response["output"]:
            picture = saved.drawn.get(item["id"])
            output.append(item if picture is None else {**item, "result": self.result(picture, form)})
        return {**saved.response, "output": output}

    def result(self, picture: str, form: PictureFormat | None = None) -> str | None:
        """Return a picture in base64, by default as PNG; None if it was deleted."""
        try:
            return (form or PictureFormat()).of_file(self._pictures.path(picture))
        except InputError:
            return None

    def messages(self, saved: SavedResponse) -> list[BaseMessage]:
        """Return the messages of a dialogue up to a response, or of a conversation.

        Raises:
            NotFoundError: If its turn was undone or never begun, or its session deleted.
        """
        found: list[BaseMessage] = []
        if saved.conversation and not saved.turn:
            return found
        if not saved.turn:
            raise NotFoundError(
                f"The response {saved.response.get('id')!r} ended before its turn began, so it cannot be continued. "
                "Continue the one before it.",
                param="previous_response_id",
            )
        for record in self._sessions.turns(saved.session):
            found += from_records(record["messages"])
            if record["id"] == saved.turn:
                return found
        raise NotFoundError(
            f"The dialogue of the response {saved.response.get('id')!r} was undone or deleted. Start a new one.",
            param="previous_response_id",
        )

    def is_unfinished(self, saved: SavedResponse) -> bool:
        """Return whether the turn of a response is the unfinished turn of its session."""
        begun = self._sessions.open_turn(saved.session) if saved.session else None
        return begun is not None and begun["turn"] == saved.turn

    def find_drawn(self, item_id: str) -> str | None:
        """Return the id of the picture of an item, or None."""
        note = self._sessions.note(CALLS, item_id) if item_id else None
        if note is not None or not item_id.startswith(PICTURE_ITEM):
            return None if note is None else str(note["picture"])
        try:  # the items of a list name their pictures
            return self._pictures.get(item_id.removeprefix("ig_")).id
        except InputError:
            return None

    def add_turn(self, record: Mapping[str, Any], previous: SavedResponse | None, *, title: str) -> Place:
        """Save a turn after that of another response.

        It is added to the session of the previous response. If that session has been continued otherwise in the
        meantime, the turn begins a new session with the same earlier turns. A conversation has one order of turns.

        Args:
            record: The record of the turn.
            previous: The response that it continues.
            title: Title of a new session.
        """
        with self._session_after(previous) as session:
            self._add(session, record, title)
        return Place(session, str(record["id"]))

    def add_unfinished(
        self,
        source: Sessions,
        name: str,
        history: Sequence[BaseMessage],
        previous: SavedResponse | None,
        *,
        title: str,
    ) -> Place:
        """Save the unfinished turn of a session elsewhere, like `add_turn`.

        Args:
            source: The sessions that have it.
            name: Its session there.
            history: Messages of the request that come before the turn.
            previous: The response that it continues.
            title: Title of a new session.
        """
        with self._session_after(previous) as session:
            if history:
                self._add(session, turn_record(history), title)
            return Place(session, self._sessions.take_open(source, name, session, title=title))

    def put(self, response: Mapping[str, Any], place: Place, *, drawn: Mapping[str, str], **facts: Any) -> None:
        """Save a response.

        Args:
            response: The response.
            place: Where its turn is.
            drawn: Ids of its pictures, by the ids of their items.
            **facts: Further fields of `SavedResponse`.
        """
        output = [{**item, "result": None} if item["id"] in drawn else item for item in response["output"]]
        for item_id, picture in drawn.items():
            self._sessions.put_note(CALLS, item_id, {"picture": picture})
        self._put(SavedResponse(place.session, place.turn, {**response, "output": output}, dict(drawn), **facts))

    def was_resumed(self, saved: SavedResponse) -> None:
        """Note that another response has resumed the turn of this one, and is deleted with it."""
        self._put(replace(saved, owns_turn=False))

    def delete(self, response_id: str) -> None:
        """Delete a response, and its turn if no other turn follows it. Its pictures are kept.

        Raises:
            NotFoundError: If this user has no such response.
            InputError: If its session is in use.
        """
        saved, sessions = self.get(response_id), self._sessions
        sessions.delete_note(RESPONSES, response_id)
        for item_id in saved.drawn:
            sessions.delete_note(CALLS, item_id)
        if not saved.session or not saved.owns_turn or saved.conversation:
            return
        with sessions.hold(saved.session):
            if self.is_unfinished(saved) or self._is_last(saved):
                sessions.undo(saved.session)
                if not sessions.turns(saved.session, limit=1) and sessions.open_turn(saved.session) is None:
                    sessions.delete(saved.session)

    def _put(self, saved: SavedResponse) -> None:
        self._sessions.put_note(RESPONSES, str(saved.response["id"]), asdict(saved))

    @contextmanager
    def _session_after(self, previous: SavedResponse | None) -> Iterator[str]:
        """Hold the session that a turn is added to: that of `previous`, or a new one with the same earlier turns."""
        with ExitStack() as stack:
            if previous is not None and self._holds(stack, previous) and self._may_follow(previous):
                name = previous.session
            else:
                name = stack.enter_context(self._held(new_session_name("response")))
                if previous is not None and previous.turn:
                    self._sessions.fork(previous.session, name, turn=previous.turn)
            yield name

    def _holds(self, stack: ExitStack, saved: SavedResponse) -> bool:
        """Hold the session of a response; return whether it is free. One of a conversation is waited for."""
        try:
            stack.enter_context(self._sessions.hold(saved.session, wait_s=HOLD_S if saved.conversation else 0.0))
        except InputError:
            return False
        return True

    @contextmanager
    def _held(self, session: str) -> Iterator[str]:
        with self._sessions.hold(session):
            yield session

    def _may_follow(self, saved: SavedResponse) -> bool:
        return self._sessions.open_turn(saved.session) is None if saved.conversation else self._is_last(saved)

    def _is_last(self, saved: SavedResponse) -> bool:
        last = self._sessions.turns(saved.session, limit=1)
        return bool(last) and last[0]["id"] == saved.turn and self._sessions.open_turn(saved.session) is None

    def _add(self, session: str, record: Mapping[str, Any], title: str) -> None:
        self._sessions.begin(session, {"turn": record["id"]}, title=title)
        self._sessions.finish(session, dict(record))


def turn_record(messages: Sequence[BaseMessage], turn: Turn | None = None) -> dict[str, Any]:
    """Return the record of a turn.

    Args:
        messages: Its messages.
        turn: What it drew, and how it ended; None for messages that a client has added.
    """
    pictures = turn.pictures if turn is not None else ()
    return {
        "id": uuid.uuid4().hex,
        "messages": [to_record(message) for message in messages],
        "pictures": [
            {"call_id": each.call_id, "artifact": each.artifact_id, "prompt": each.prompt} for each in pictures
        ],
        "failures": [
            {"call_id": each.call_id, "prompt": each.prompt, "message": each.message}
            for each in (turn.failures if turn is not None else ())
        ],
        "outcome": turn.outcome if turn is not None else "answered",
        "finish_reason": turn.finish_reason if turn is not None else None,
        "notices": list(turn.notices) if turn is not None else [],
        "created": datetime.now(UTC).isoformat(),
    }

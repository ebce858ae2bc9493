"""Saved responses: each names the turn that it is in a session of its user, so that another response can continue it.

The pictures of a response are in the user's store and are not saved twice. A user's responses are notes among the
user's sessions, so no user finds another's.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

__all__ = ["ResponseStore", "SavedResponse"]

RESPONSE_ID = re.compile(r"resp_[0-9a-f]{32}")
RESPONSES, CALLS = "responses", "image_calls"


@dataclass(frozen=True, slots=True)
class SavedResponse:
    """A saved response.

    Attributes:
        session: Name of its session.
        turn: Id of its turn.
        response: The response, without the pictures themselves.
        drawn: Ids of its pictures, by the ids of their items.
        key: What all requests of its dialogue have in common.
        system: System messages of the dialogue, other than `instructions`.
        format: Type and quality of its pictures.
    """

    session: str
    turn: str
    response: Mapping[str, Any]
    drawn: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    system: Sequence[str] = ()
    format: Sequence[Any] = ("png", None)


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
            output.append(item if picture is None else {**item, "result": self._result(picture, form)})
        return {**saved.response, "output": output}

    def messages(self, saved: SavedResponse) -> list[BaseMessage]:
        """Return the messages of a dialogue up to a response.

        Raises:
            NotFoundError: If its turn was undone, or its session deleted.
        """
        found: list[BaseMessage] = []
        for record in self._sessions.turns(saved.session):
            found += from_records(record["messages"])
            if record["id"] == saved.turn:
                return found
        raise NotFoundError(
            f"The dialogue of the response {saved.response['id']!r} was undone or deleted. Start a new one.",
            param="previous_response_id",
        )

    def find_drawn(self, item_id: str) -> str | None:
        """Return the id of the picture of a saved response's item, or None."""
        note = self._sessions.note(CALLS, item_id) if item_id else None
        return None if note is None else str(note["picture"])

    def save(
        self,
        response: Mapping[str, Any],
        turn: Turn,
        messages: Sequence[BaseMessage],
        *,
        drawn: Mapping[str, str],
        previous: SavedResponse | None,
        title: str,
        **facts: Any,
    ) -> None:
        """Save a response and its turn.

        Its turn is added to the session of the previous response. If that session has been continued otherwise in the
        meantime, the turn begins a new session with the same earlier turns.

        Args:
            response: The response.
            turn: Its turn.
            messages: The messages of the turn.
            drawn: Ids of its pictures, by the ids of their items.
            previous: The response that it continues.
            title: Title of a new session.
            **facts: Further fields of `SavedResponse`.
        """
        turn_id = uuid.uuid4().hex
        record = {
            "id": turn_id,
            "messages": [to_record(message) for message in messages],
            "pictures": [
                {"call_id": each.call_id, "artifact": each.artifact_id, "prompt": each.prompt} for each in turn.pictures
            ],
            "failures": [
                {"call_id": each.call_id, "prompt": each.prompt, "message": each.message} for each in turn.failures
            ],
            "outcome": turn.outcome,
            "finish_reason": turn.finish_reason,
            "notices": list(turn.notices),
            "created": datetime.now(UTC).isoformat(),
        }
        session = self._append(record, previous, title)
        output = [{**item, "result": None} if item["id"] in drawn else item for item in response["output"]]
        note = {
            "session": session,
            "turn": turn_id,
            "response": {**response, "output": output},
            "drawn": dict(drawn),
            **facts,
        }
        for item_id, picture in drawn.items():
            self._sessions.put_note(CALLS, item_id, {"picture": picture})
        self._sessions.put_note(RESPONSES, str(response["id"]), note)

    def delete(self, response_id: str) -> None:
        """Delete a response, and its turn if no other turn follows it. Its pictures are kept.

        Raises:
            NotFoundError: If this user has no such response.
            InputError: If its session is in use.
        """
        saved = self.get(response_id)
        self._sessions.delete_note(RESPONSES, response_id)
        for item_id in saved.drawn:
            self._sessions.delete_note(CALLS, item_id)
        last = self._sessions.turns(saved.session, limit=1)
        if not last or last[0]["id"] != saved.turn:
            return
        with self._sessions.hold(saved.session):
            if self._sessions.open_turn(saved.session) is None:
                self._sessions.undo(saved.session)
                if not self._sessions.turns(saved.session, limit=1):
                    self._sessions.delete(saved.session)

    def _append(self, record: dict[str, Any], previous: SavedResponse | None, title: str) -> str:
        if previous is not None:
            try:
                with self._sessions.hold(previous.session):
                    if self._is_last(previous):
                        return self._add(previous.session, record, title)
            except InputError:
                pass  # it is in use, so the turn begins a session of its own
        name = new_session_name("response")
        with self._sessions.hold(name):
            if previous is not None:
                self._sessions.fork(previous.session, name, turn=previous.turn)
            return self._add(name, record, title)

    def _is_last(self, saved: SavedResponse) -> bool:
        last = self._sessions.turns(saved.session, limit=1)
        return bool(last) and last[0]["id"] == saved.turn and self._sessions.open_turn(saved.session) is None

    def _add(self, session: str, record: dict[str, Any], title: str) -> str:
        self._sessions.begin(session, {"turn": record["id"]}, title=title)
        self._sessions.finish(session, record)
        return session

    def _result(self, picture: str, form: PictureFormat) -> str | None:
        try:
            return form.of_file(self._pictures.path(picture))
        except InputError:  # it was deleted
            return None

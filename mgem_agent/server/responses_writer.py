"""Write a turn as a response of OpenAI's protocol, in events in the order of the SDK.

An item is added, filled and done before the next one begins: a message with its text, a picture with its unfinished
versions, a call of one of the client's functions. The last event has the whole response, which is also what a client
gets that does not stream.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mgem_agent.agent.events import (
    AgentEvent,
    AgentNotice,
    CaptionReady,
    DrawingFailed,
    DrawingProgress,
    DrawnPicture,
    PictureDrawn,
    TextPiece,
)
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.server.chat_turn import Answer
from mgem_agent.server.http_errors import error_body
from mgem_agent.server.picture_output import PictureFormat
from mgem_agent.server.usage import Usage

__all__ = ["ResponseWriter"]

Events = Iterator[dict[str, Any]]

Describe = Callable[[DrawnPicture], dict[str, Any]]
"""Returns the fields of a finished picture: `result`, `size` and the like."""


@dataclass
class ResponseWriter:
    """Writes the response to one request.

    Attributes:
        head: Fields of the response that the request determines.
        describe: Describes finished pictures.
        format: Format of the pictures.
        image_fields: Fields that every picture's item has, such as `quality`.
        shows_drawn: Whether a picture is finished as soon as it is drawn; not if the agent may redraw it.
        response: The response so far.
        drawn: Ids of the pictures in the store, by the ids of their items.
    """

    head: dict[str, Any]
    describe: Describe
    format: PictureFormat
    image_fields: dict[str, Any] = field(default_factory=dict)
    shows_drawn: bool = True
    response: dict[str, Any] = field(init=False)
    drawn: dict[str, str] = field(default_factory=dict)
    _number: int = 0
    _text: dict[str, Any] = field(default_factory=dict)
    _calls: dict[str, int] = field(default_factory=dict)
    _num_partial: dict[str, int] = field(default_factory=dict)
    _notices: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.response = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "queued" if self.head.get("background") else "in_progress",
            "error": None,
            "incomplete_details": None,
            **self.head,
            "output": [],
            "usage": None,
        }

    def begin(self) -> Events:
        """Yield the events that begin a response."""
        self.response["status"] = "in_progress"
        yield self._event("response.created", response=self._so_far())
        yield self._event("response.in_progress", response=self._so_far())

    def write(self, event: AgentEvent) -> Events:
        """Yield the events for an event of the turn.

        Args:
            event: Any event but the last.
        """
        if isinstance(event, TextPiece):
            yield from self._write_text(event.text)
        elif isinstance(event, CaptionReady):
            yield from self._begin_picture(event.call_id)
        elif isinstance(event, DrawingProgress):
            yield from self._begin_picture(event.call_id)
            if event.preview is not None:
                yield self._partial(event.call_id, event.preview)
        elif isinstance(event, PictureDrawn):
            yield from self._begin_picture(event.call_id)
            self._notices[event.call_id] = list(event.notices)
            if self.shows_drawn:
                picture = DrawnPicture(event.call_id, event.artifact_id, event.path, event.prompt)
                yield from self._finish_picture(picture)
        elif isinstance(event, DrawingFailed):
            yield from self._begin_picture(event.call_id)
            if self.shows_drawn:
                yield from self._fail_picture(event.call_id, event.message)
        elif isinstance(event, AgentNotice):
            self.response.setdefault("notices", []).append(event.message)

    def finish(self, answer: Answer, notices: Sequence[str] = ()) -> Events:
        """Yield the last events.

        Args:
            answer: The result of the turn.
            notices: Further notices for the client.
        """
        turn = answer.turn
        for picture in turn.pictures:
            yield from self._begin_picture(picture.call_id)
            yield from self._finish_picture(picture)
        for failure in turn.failures:
            yield from self._begin_picture(failure.call_id)
            yield from self._fail_picture(failure.call_id, failure.message)
        for call_id in list(self._calls):  # neither drawn nor failed: the turn was cancelled
            yield from self._fail_picture(call_id, "The drawing was cancelled.")
        for call in answer.tool_calls:
            yield from self._write_call(call)
        if not self._text and not self.response["output"]:
            yield from self._begin_text()
        yield from self._end_text(is_complete=turn.finish_reason != "length")
        told = self.response.get("notices", [])
        told = list(dict.fromkeys([*notices, *told, *turn.notices]))
        status, reason = _status(answer)
        self.response |= {
            "status": status,
            "incomplete_details": None if status != "incomplete" else {"reason": reason},
            "usage": _usage(answer.usage),
            **({"completed_at": int(time.time())} if status == "completed" else {}),
            **({"notices": told} if told else {}),
        }
        kind = "response.completed" if status == "completed" else "response.incomplete"
        yield self._event(kind, response=self._so_far())

    def leave(self, status: str) -> Events:
        """Yield the last events of a response that is interrupted; none if it has its last status already.

        Args:
            status: Its status, `incomplete` or `cancelled`.
        """
        if self.response["status"] not in ("queued", "in_progress"):
            return
        for call_id in list(self._calls):
            yield from self._fail_picture(call_id, "The drawing was interrupted.")
        yield from self._end_text(is_complete=False)
        self.response["status"] = status
        yield self._event("response.incomplete", response=self._so_far())

    @property
    def text(self) -> str:
        """The text so far."""
        parts = [part["text"] for item in self.response["output"] for part in item.get("content") or ()]
        return "\n\n".join(filter(None, (part.strip() for part in parts)))

    def fail(self, error: Exception) -> Events:
        """Yield the last event of a response that has failed."""
        for call_id in list(self._calls):
            yield from self._fail_picture(call_id, "The drawing was interrupted.")
        yield from self._end_text(is_complete=False)
        _, body = error_body(error)
        told = body["error"]
        self.response |= {
            "status": "failed",
            "error": {"code": "server_error", "message": told["message"]},
        }
        yield self._event("response.failed", response=self._so_far())

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        number, self._number = self._number, self._number + 1
        return {"type": kind, "sequence_number": number, **fields}

    def _so_far(self) -> dict[str, Any]:
        return {**self.response, "output": list(self.response["output"])}

    def _add(self, item: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Add an item; return its place, and the event."""
        place = len(self.response["output"])
        self.response["output"].append(item)
        return place, self._event("response.output_item.added", output_index=place, item=dict(item))

    def _done(self, place: int) -> dict[str, Any]:
        item = dict(self.response["output"][place])
        return self._event("response.output_item.done", output_index=place, item=item)

    def _begin_text(self) -> Events:
        item: dict[str, Any] = {"id": _new_id("msg"), "type": "message", "role": "assistant", "status": "in_progress"}
        place, added = self._add({**item, "content": []})
        self._text = {"place": place, "id": item["id"], "text": ""}
        yield added
        yield self._event("response.content_part.added", **self._where(), part=_part(""))

    def _write_text(self, text: str) -> Events:
        if not text:
            return
        if not self._text:
            yield from self._begin_text()
        self._text["text"] += text
        yield self._event("response.output_text.delta", **self._where(), delta=text, logprobs=[])

    def _end_text(self, *, is_complete: bool = True) -> Events:
        if not self._text:
            return
        text, place = self._text["text"], self._text["place"]
        where = self._where()
        self._text = {}
        yield self._event("response.output_text.done", **where, text=text, logprobs=[])
        yield self._event("response.content_part.done", **where, part=_part(text))
        self.response["output"][place] |= {
            "content": [_part(text)],
            "status": "completed" if is_complete else "incomplete",
        }
        yield self._done(place)

    def _where(self) -> dict[str, Any]:
        return {"item_id": self._text["id"], "output_index": self._text["place"], "content_index": 0}

    def _begin_picture(self, call_id: str) -> Events:
        if call_id in self._calls or call_id in self._num_partial:
            return
        yield from self._end_text()
        item = {"id": _new_id("ig"), "type": "image_generation_call", "status": "in_progress", "result": None}
        place, added = self._add(item)
        self._calls[call_id], self._num_partial[call_id] = place, 0
        yield added
        where = {"item_id": item["id"], "output_index": place}
        yield self._event("response.image_generation_call.in_progress", **where)
        yield self._event("response.image_generation_call.generating", **where)

    def _partial(self, call_id: str, preview: str) -> dict[str, Any]:
        place, number = self._calls[call_id], self._num_partial[call_id]
        self._num_partial[call_id] += 1
        image = load_image(preview)
        return self._event(
            "response.image_generation_call.partial_image",
            item_id=self.response["output"][place]["id"],
            output_index=place,
            partial_image_index=number,
            partial_image_b64=self.format.of_image(image),
            output_format=self.format.type,
            size=f"{image.width}x{image.height}",
        )

    def _finish_picture(self, picture: DrawnPicture) -> Events:
        place = self._calls.pop(picture.call_id, None)
        if place is None:
            return
        item = self.response["output"][place]
        item |= {**self.image_fields, **self.describe(picture), "status": "completed"}
        if notices := self._notices.get(picture.call_id):
            item["notices"] = notices
        self.drawn[item["id"]] = picture.artifact_id
        yield self._event("response.image_generation_call.completed", item_id=item["id"], output_index=place)
        yield self._done(place)

    def _fail_picture(self, call_id: str, message: str) -> Events:
        place = self._calls.pop(call_id, None)
        if place is None:
            return
        error = {"type": "image_generation_error", "code": "generation_failed", "message": message}
        self.response["output"][place] |= {"status": "failed", "error": error}
        yield self._done(place)

    def _write_call(self, call: dict[str, Any]) -> Events:
        yield from self._end_text()
        function = call["function"]
        item = {
            "id": _new_id("fc"),
            "type": "function_call",
            "call_id": call["id"],
            "name": function["name"],
            "arguments": "",
            "status": "in_progress",
        }
        place, added = self._add(item)
        where = {"item_id": item["id"], "output_index": place}
        yield added
        arguments = function["arguments"]
        yield self._event("response.function_call_arguments.delta", **where, delta=arguments)
        yield self._event("response.function_call_arguments.done", **where, arguments=arguments, name=function["name"])
        self.response["output"][place] |= {"arguments": arguments, "status": "completed"}
        yield self._done(place)


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _status(answer: Answer) -> tuple[str, str | None]:
    """Return the status of a response, and why it is incomplete; the protocol has no reason for a time limit."""
    turn = answer.turn
    if turn.outcome == "cancelled":
        return "cancelled", None
    if turn.finish_reason == "length":
        return "incomplete", "max_output_tokens"
    if turn.finish_reason == "content_filter":
        return "incomplete", "content_filter"
    return ("incomplete", None) if turn.outcome == "timeout" else ("completed", None)


def _usage(usage: Usage) -> dict[str, Any]:
    images = {} if usage.image_tokens is None else {"image_tokens": usage.image_tokens}
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": 0,
            **images,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }

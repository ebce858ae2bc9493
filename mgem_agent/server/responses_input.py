"""Convert the input of a response to messages of a chat request, which are read in one place for both routes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mgem_agent.server.chat_request import ChatMessage
from mgem_agent.server.http_errors import InvalidRequestError

__all__ = ["read_items", "text_of"]

IGNORED = ("reasoning", "compaction")
"""Items that only mean something to the model that wrote them."""


def read_items(given: str | Sequence[Mapping[str, Any]], find_drawn: Callable[[str], str | None]) -> list[ChatMessage]:
    """Return the messages of an input.

    Args:
        given: A text, or items.
        find_drawn: Returns the id of the picture that a call of an earlier response drew; None if it is unknown.

    Raises:
        InvalidRequestError: If an item cannot be read; the error names it.
    """
    if isinstance(given, str):
        return [ChatMessage(role="user", content=given)]
    reader = _Reader(find_drawn)
    for place, item in enumerate(given):
        reader.add(item, f"input.{place}")
    return reader.ordered()


class _Reader:
    """Collects messages; the items of one answer become one message."""

    def __init__(self, find_drawn: Callable[[str], str | None]) -> None:
        self._find_drawn = find_drawn
        self._messages: list[ChatMessage] = []

    def add(self, item: Mapping[str, Any], where: str) -> None:
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind == "message":
            self._add_message(item, where)
        elif kind in ("image_generation_call", "item_reference"):
            self._add_picture(item, where)
        elif kind == "function_call":
            self._add_call(item, where)
        elif kind == "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str | list) else json.dumps(output)
            call_id = str(item.get("call_id") or "")
            self._messages.append(ChatMessage(role="tool", content=content, tool_call_id=call_id))
        elif kind not in IGNORED:
            raise InvalidRequestError(
                f"An item of the type {str(kind)[:80]!r} is not supported. Supported: 'message', "
                "'image_generation_call', 'function_call', 'function_call_output'.",
                param=where,
            )

    def ordered(self) -> list[ChatMessage]:
        """Return the messages. Pictures after the last user message, as OpenAI's guide has them, go before it."""
        last = self._messages[-1] if self._messages else None
        if last is not None and last.role == "assistant" and last.images and not (last.content or last.tool_calls):
            users = [place for place, message in enumerate(self._messages) if message.role == "user"]
            if users and users[-1] == len(self._messages) - 2:
                self._messages[-2:] = reversed(self._messages[-2:])
        return self._messages

    def _add_message(self, item: Mapping[str, Any], where: str) -> None:
        role, content = item.get("role"), item.get("content")
        if role not in ("user", "assistant", "system", "developer"):
            raise InvalidRequestError(
                f"A message has the role {str(role)[:80]!r}. Allowed: 'user', 'assistant', 'system', 'developer'.",
                param=f"{where}.role",
            )
        if not isinstance(content, str | list):
            raise InvalidRequestError("A message must have a content: a text, or parts.", param=f"{where}.content")
        if isinstance(content, list):
            content = [_part(part, f"{where}.content.{place}") for place, part in enumerate(content)]
        if role == "assistant":
            self._answer().content = _joined(self._answer().content, content)
        else:
            self._messages.append(ChatMessage(role=role, content=content))

    def _add_picture(self, item: Mapping[str, Any], where: str) -> None:
        call_id, result = str(item.get("id") or ""), item.get("result")
        picture = self._find_drawn(call_id)
        if picture is not None:
            url = _address(picture)
        elif isinstance(result, str) and result:
            url = result if result[:5].lower() == "data:" else f"data:image/png;base64,{result}"
        else:
            raise InvalidRequestError(
                f"There is no picture of the call {call_id[:80]!r}. Send the call with its result, or the picture as a "
                "message's 'input_image'.",
                param=f"{where}.id",
            )
        answer = self._answer()
        answer.images = [*(answer.images or ()), {"type": "image_url", "image_url": {"url": url}}]

    def _add_call(self, item: Mapping[str, Any], where: str) -> None:
        if not item.get("call_id") or not item.get("name"):
            raise InvalidRequestError("A call of a function must have 'call_id' and 'name'.", param=where)
        function = {"name": item["name"], "arguments": item.get("arguments") or "{}"}
        answer = self._answer()
        answer.tool_calls = [*(answer.tool_calls or ()), {"id": item["call_id"], "function": function}]

    def _answer(self) -> ChatMessage:
        """Return the message of the current answer."""
        if not self._messages or self._messages[-1].role != "assistant":
            self._messages.append(ChatMessage(role="assistant"))
        return self._messages[-1]


def _part(part: Any, where: str) -> dict[str, Any]:
    """Return a part of a message; a picture by its id becomes one by its address."""
    if not isinstance(part, Mapping):
        raise InvalidRequestError(f"A part is a {type(part).__name__!r}. Give an object with a 'type'.", param=where)
    if part.get("type") != "input_image" or part.get("file_id") is None:
        return dict(part)
    if part.get("image_url") is not None:
        raise InvalidRequestError("A picture has two addresses. Give 'image_url' or 'file_id'.", param=where)
    return {"type": "input_image", "image_url": _address(str(part["file_id"]))}


def _address(picture_id: str) -> str:
    return f"/pictures/{picture_id}"


def _joined(before: Any, content: Any) -> Any:
    """Return the texts of two messages of one answer."""
    parts: list[dict[str, Any]] = []
    for each in (before, content):
        parts += [{"type": "text", "text": each}] if isinstance(each, str) and each else each or []
    return parts


def text_of(message: ChatMessage) -> str:
    """Return the text of a message."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return "\n".join(str(part.get("text") or "") for part in message.content)

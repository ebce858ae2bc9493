"""Messages as items of OpenAI's protocol: what a client gets when it lists an input or a conversation.

The id of an item names the turn and the place of its message, so that the same item always has the same id. The id of a
picture's item names the picture, and can be used in an input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME
from mgem_agent.server.http_errors import InvalidRequestError

__all__ = ["ItemWriter", "item_list"]

MAX_LIMIT = 100
DEFAULT_LIMIT = 20


@dataclass(frozen=True, slots=True)
class ItemWriter:
    """Writes messages as items.

    Attributes:
        url_of: Returns the address of a picture by its id.
        result_of: Returns a picture in base64 by its id; None if it was deleted.
    """

    url_of: Callable[[str], str]
    result_of: Callable[[str], str | None]

    def items(
        self, messages: Sequence[BaseMessage], *, key: str, system: Sequence[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Yield the items of messages.

        Args:
            messages: The messages of a turn or an input.
            key: What the ids of the items have in common; letters and digits.
            system: System messages before them.
        """
        for place, text in enumerate(system):
            yield _message(f"msg_{key}s{place}", "system", [{"type": "input_text", "text": text}])
        for place, message in enumerate(messages):
            yield from self._items_of(message, f"{key}_{place}")

    def _items_of(self, message: BaseMessage, key: str) -> Iterator[dict[str, Any]]:
        if isinstance(message, AIMessage):
            yield from _answer(message, key)
        elif isinstance(message, ToolMessage):
            yield from self._result(message, key)
        else:
            yield _message(f"msg_{key}", "user", [self._part(block) for block in _blocks(message)])

    def _part(self, block: Mapping[str, Any]) -> dict[str, Any]:
        picture = block.get("file_id")
        if picture is None:
            return {"type": "input_text", "text": str(block.get("text") or "")}
        return {"type": "input_image", "detail": "auto", "file_id": picture, "image_url": self.url_of(str(picture))}

    def _result(self, message: ToolMessage, key: str) -> Iterator[dict[str, Any]]:
        if message.name != DRAW_TOOL_NAME:
            output = {"call_id": message.tool_call_id, "output": str(message.text), "status": "completed"}
            yield {"id": f"fco_{key}", "type": "function_call_output", **output}
        for block in _blocks(message):
            if block.get("file_id") is not None and message.name == DRAW_TOOL_NAME:
                picture = str(block["file_id"])
                result = {"status": "completed", "result": self.result_of(picture)}
                yield {"id": f"ig_{picture}", "type": "image_generation_call", **result}


def item_list(
    items: Sequence[dict[str, Any]], *, after: str | None, limit: int | None, order: str | None
) -> dict[str, Any]:
    """Return a page of a list of items.

    Args:
        items: All items, oldest first.
        after: Id of the item that the page follows; None for the first page.
        limit: Maximum number of items; None for 20.
        order: `asc` for the oldest first; `desc`, the default, for the newest first.

    Raises:
        InvalidRequestError: If an argument is not valid.
    """
    most = DEFAULT_LIMIT if limit is None else limit
    if not 1 <= most <= MAX_LIMIT:
        raise InvalidRequestError(f"limit={most} is not valid. Give 1 to {MAX_LIMIT}.", param="limit")
    if order not in (None, "asc", "desc"):
        raise InvalidRequestError(f"order={order[:20]!r} is not valid. Give 'asc' or 'desc'.", param="order")
    ordered = list(items) if order == "asc" else list(items)[::-1]
    start = 0
    if after is not None:
        place = next((place for place, item in enumerate(ordered) if item["id"] == after), None)
        if place is None:
            raise InvalidRequestError(f"There is no item {after[:80]!r} in this list.", param="after")
        start = place + 1
    shown = ordered[start : start + most]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": len(ordered) > start + most,
    }


def _message(item_id: str, role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "role": role, "status": "completed", "content": content}


def _answer(message: AIMessage, key: str) -> Iterator[dict[str, Any]]:
    text = str(message.text)
    if text.strip():
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        yield _message(f"msg_{key}", "assistant", [part])
    for place, call in enumerate(message.tool_calls):
        if call["name"] != DRAW_TOOL_NAME:
            arguments = json.dumps(call["args"], ensure_ascii=False)
            named = {"call_id": call["id"], "name": call["name"], "arguments": arguments, "status": "completed"}
            yield {"id": f"fc_{key}_{place}", "type": "function_call", **named}


def _blocks(message: BaseMessage) -> list[Mapping[str, Any]]:
    content = message.content
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block if isinstance(block, Mapping) else {"type": "text", "text": block} for block in content]

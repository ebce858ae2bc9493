"""LangChain's messages as a dialogue that the core model's formats can render.

A format knows one system message, then user and assistant in turn, and only users show pictures. So:

- System messages are joined, wherever they stand; neighbouring messages of one side are joined too.
- What a tool returned is told by the user's side: a picture with "Here is the picture you drew.", a text with the
  tool's name.
- Drawings and other calls stand in the assistant's turn as the model would write them.
- **Tags in what a user or a tool says are disarmed**; the trigger to draw is a field of the message, never text. A
  `HumanMessage` may carry it as `additional_kwargs["draw"]`; an answer that was drawn with `draw="always"` says so in
  its metadata, and its question keeps the trigger in later rounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from mgem_agent.chat_models.json_calls import render_call
from mgem_agent.core_model.encoded_picture import is_data_url
from mgem_agent.errors import InputError
from mgem_agent.gen.markup import neutralize_tags, render_assistant_turn
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME
from mgem_agent.prompts import render_prompt

__all__ = ["DRAW_METADATA", "ImageResolver", "dialogue_from_messages", "tools_called", "user_text"]

DRAW_METADATA = "draw"
"""Where an answer's `response_metadata` holds its draw mode."""

ImageResolver = Callable[[str], Any]
"""Gives the picture of a `file_id`, as `load_image` takes it."""

Part = dict[str, Any]

_WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


def dialogue_from_messages(
    messages: Sequence[BaseMessage],
    *,
    image_resolver: ImageResolver | None = None,
    allow_addresses: bool = False,
    instructions: Sequence[str] = (),
    closing: str = "",
    draw: bool = False,
) -> list[dict[str, Any]]:
    """Bring messages to a dialogue that is the assistant's turn to answer.

    Args:
        messages: At least one that is not a system message, the last not the assistant's.
        image_resolver: Gives the pictures of blocks with a `file_id`.
        allow_addresses: Whether a picture may be a web address, which is then handed on unread.
        instructions: What the system message says besides.
        closing: What the last turn ends with.
        draw: Whether the last user's turn asks for a picture.

    Returns:
        Messages with `role`, `content` and, where a picture is asked for, `draw`.

    Raises:
        InputError: If there is nothing to answer, or a block is of a kind that the model cannot read.
    """
    reader = _BlockReader(image_resolver, allow_addresses)
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, SystemMessage) or (isinstance(message, ChatMessage) and message.role == "system"):
            system.append(message.text)
        elif isinstance(message, AIMessage):
            _add_answer(turns, message, reader)
        else:
            _add(turns, "user", _user_parts(message, reader))
            if isinstance(message, HumanMessage) and message.additional_kwargs.get("draw"):
                turns[-1]["draw"] = True
    if not turns or turns[-1]["role"] != "user":
        raise InputError(
            f"There is nothing to answer: {len(messages)} message(s), the last not a user's or a tool's. "
            "End with a HumanMessage or a ToolMessage."
        )
    if closing:
        _add(turns, "user", [{"type": "text", "text": closing}])
    if draw:
        turns[-1]["draw"] = True
    text = "\n\n".join(filter(None, [*system, *instructions]))
    dialogue = [{**turn, "content": _plain(turn["content"])} for turn in turns]
    return [{"role": "system", "content": text}, *dialogue] if text else dialogue


def user_text(messages: Sequence[BaseMessage]) -> str:
    """Return what the user said last, without tags; empty if that has no words."""
    texts = (message.text for message in reversed(messages) if isinstance(message, HumanMessage))
    return neutralize_tags(next(texts, "")).strip()


def tools_called(messages: Sequence[BaseMessage]) -> tuple[str, ...]:
    """Return the tools whose results the next answer follows; empty if the last message is no tool's.

    Args:
        messages: Of a dialogue.
    """
    names: list[str] = []
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            names.append(message.name or "")
        elif not names or not isinstance(message, AIMessage):
            break
    return tuple(names)


class _BlockReader:
    """Turns a message's blocks into parts."""

    def __init__(self, resolver: ImageResolver | None, allow_addresses: bool) -> None:
        self.resolver = resolver
        self.allow_addresses = allow_addresses

    def parts(self, message: BaseMessage) -> Iterator[Part]:
        """Yield the texts, disarmed, and the pictures of a message."""
        for block in message.content_blocks:
            kind = block["type"]
            if kind in ("text", "text-plain"):
                yield {"type": "text", "text": neutralize_tags(str(block.get("text") or ""))}
            elif kind == "image":
                yield {"type": "image", "image": self.source(block)}
            elif kind not in ("reasoning", "tool_call", "invalid_tool_call"):
                value = block.get("value")
                shown = value.get("type", kind) if isinstance(value, Mapping) else kind
                raise InputError(
                    f"A {message.type} message has a block of the type {shown!r}. This model reads 'text' and 'image'. "
                    "Put into words what the block says."
                )

    def pictures(self, message: BaseMessage) -> list[Part]:
        """Return the pictures alone."""
        return [
            {"type": "image", "image": self.source(block)}
            for block in message.content_blocks
            if block["type"] == "image"
        ]

    def source(self, block: Mapping[str, Any]) -> Any:
        """Return a picture as `load_image` takes it."""
        if block.get("base64"):
            return f"data:{block.get('mime_type') or 'image/png'};base64,{block['base64']}"
        url = block.get("url")
        # Were it any text, an engine that reads files would read the one that a message names.
        is_address = isinstance(url, str) and self.allow_addresses and _WEB_ADDRESS.match(url)
        if is_address or (isinstance(url, str) and is_data_url(url)):
            return url
        if url:
            raise InputError(
                f"A picture has the address {str(url)[:80]!r}, and nothing is fetched here. Download it, and give its "
                "bytes as 'base64'."
            )
        name = block.get("file_id")
        if not name:
            raise InputError("An image block holds nothing. Give 'base64', a data 'url', or a 'file_id'.")
        if self.resolver is None:
            raise InputError(
                f"A picture has the file_id {name!r}, and there is no one to look it up. Give the chat model an "
                "image_resolver, a function from an id to a picture."
            )
        return self.resolver(str(name))


def _user_parts(message: BaseMessage, reader: _BlockReader) -> list[Part]:
    parts = list(reader.parts(message))
    if not isinstance(message, ToolMessage):
        return parts
    name = message.name or "the tool"
    text = "".join(part["text"] for part in parts if part["type"] == "text").strip()
    pictures = [part for part in parts if part["type"] == "image"]
    said = [render_prompt("shown")] if pictures else []
    if text:
        said.append(f"{'Error' if message.status == 'error' else 'Result'} of {name}: {text}")
    return [*pictures, {"type": "text", "text": "\n".join(said) or f"Result of {name}: nothing."}]


def _add_answer(turns: list[dict[str, Any]], message: AIMessage, reader: _BlockReader) -> None:
    if not turns:
        turns.append({"role": "user", "content": []})  # no format begins with the assistant
    if message.response_metadata.get(DRAW_METADATA) == "always" and turns[-1]["role"] == "user":
        turns[-1]["draw"] = True
    captions = [str(call["args"].get("prompt", "")) for call in message.tool_calls if call["name"] == DRAW_TOOL_NAME]
    others = [render_call(call["name"], call["args"]) for call in message.tool_calls if call["name"] != DRAW_TOOL_NAME]
    text = "\n".join(filter(None, [render_assistant_turn(message.text, captions), *others]))
    _add(turns, "assistant", [{"type": "text", "text": text}])
    if pictures := reader.pictures(message):
        _add(turns, "user", [*pictures, {"type": "text", "text": render_prompt("shown")}])


def _add(turns: list[dict[str, Any]], role: str, parts: list[Part]) -> None:
    """Add a turn, or go on with the last one of the same side after a blank line."""
    if not turns or turns[-1]["role"] != role:
        turns.append({"role": role, "content": parts})
        return
    content = turns[-1]["content"]
    if content and parts and content[-1]["type"] == parts[0]["type"] == "text":
        content.append({"type": "text", "text": "\n\n"})
    content.extend(parts)


def _plain(parts: list[Part]) -> str | list[Part]:
    """Return parts without a picture as one text."""
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts

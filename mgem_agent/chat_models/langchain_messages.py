"""Convert LangChain messages to a dialogue that the core model's prompt templates can render.

A template allows one system message, then alternating user and assistant messages, and pictures only in user messages:

- System messages are joined, wherever they are. Consecutive messages of one role are joined too.
- Tool results become part of the user's message: a picture with "Here is the picture you drew.", a text with the tool's
  name.
- Drawings and other calls are rendered in the assistant's message as the model would write them.
- **Tags in messages of users and tools are neutralized**. The trigger to draw is a field of the message, never text: a
  `HumanMessage` has it as `additional_kwargs["draw"]`. An answer drawn with `draw="always"` says so in its metadata,
  and its question keeps the trigger in later rounds.
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
"""Key of the draw mode in an answer's `response_metadata`."""

ImageResolver = Callable[[str], Any]
"""Returns the picture for a `file_id`, as accepted by `load_image`."""

Part = dict[str, Any]

_WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


def dialogue_from_messages(
    messages: Sequence[BaseMessage],
    *,
    image_resolver: ImageResolver | None = None,
    allow_urls: bool = False,
    instructions: Sequence[str] = (),
    closing: str = "",
    draw: bool = False,
) -> list[dict[str, Any]]:
    """Convert messages to a dialogue for the assistant to answer.

    Args:
        messages: Messages; at least one is not a system message, and the last is not the assistant's.
        image_resolver: Returns the pictures of blocks with a `file_id`.
        allow_urls: Whether a picture may be a web address, which is passed on unread.
        instructions: Texts that are added to the system message.
        closing: Text at the end of the last user message.
        draw: Whether the last user message requests a picture.

    Returns:
        Messages with `role`, `content` and, if a picture is requested, `draw`.

    Raises:
        InputError: If there is nothing to answer, or a block has a type that the model cannot read.
    """
    reader = _BlockReader(image_resolver, allow_urls)
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
            f"There is nothing to answer: the last of {len(messages)} message(s) is not from a user or a tool. "
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
    """Return the text of the last user message, without tags; empty if it has no text."""
    texts = (message.text for message in reversed(messages) if isinstance(message, HumanMessage))
    return neutralize_tags(next(texts, "")).strip()


def tools_called(messages: Sequence[BaseMessage]) -> tuple[str, ...]:
    """Return the tools whose results the next answer follows; empty if the last message is not a tool's.

    Args:
        messages: Messages of a dialogue.
    """
    names: list[str] = []
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            names.append(message.name or "")
        elif not names or not isinstance(message, AIMessage):
            break
    return tuple(names)


class _BlockReader:
    """Converts the content blocks of messages to parts of a dialogue."""

    def __init__(self, resolver: ImageResolver | None, allow_urls: bool) -> None:
        self.resolver = resolver
        self.allow_urls = allow_urls

    def parts(self, message: BaseMessage) -> Iterator[Part]:
        """Yield the pictures and the texts of a message, with tags neutralized."""
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
                    "Give the content of the block as text."
                )

    def pictures(self, message: BaseMessage) -> list[Part]:
        """Return only the pictures of a message."""
        return [
            {"type": "image", "image": self.source(block)}
            for block in message.content_blocks
            if block["type"] == "image"
        ]

    def source(self, block: Mapping[str, Any]) -> Any:
        """Return a picture as accepted by `load_image`."""
        if block.get("base64"):
            return f"data:{block.get('mime_type') or 'image/png'};base64,{block['base64']}"
        url = block.get("url")
        # Other texts are refused, because an engine that reads files would open a file that a message names.
        is_address = isinstance(url, str) and self.allow_urls and _WEB_ADDRESS.match(url)
        if is_address or (isinstance(url, str) and is_data_url(url)):
            return url
        if url:
            raise InputError(
                f"A picture has the address {str(url)[:80]!r}, and pictures are not downloaded. Download it, and give "
                "its bytes as 'base64'."
            )
        name = block.get("file_id")
        if not name:
            raise InputError("An image block has no picture. Give 'base64', a data 'url', or a 'file_id'.")
        if self.resolver is None:
            raise InputError(
                f"A picture has the file_id {name!r}, and the chat model has no image_resolver to look it up. Set "
                "image_resolver to a function from an id to a picture."
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
        turns.append({"role": "user", "content": []})  # no template begins with the assistant
    if message.response_metadata.get(DRAW_METADATA) == "always" and turns[-1]["role"] == "user":
        turns[-1]["draw"] = True
    captions = [str(call["args"].get("prompt", "")) for call in message.tool_calls if call["name"] == DRAW_TOOL_NAME]
    others = [render_call(call["name"], call["args"]) for call in message.tool_calls if call["name"] != DRAW_TOOL_NAME]
    text = "\n".join(filter(None, [render_assistant_turn(message.text, captions), *others]))
    _add(turns, "assistant", [{"type": "text", "text": text}])
    if pictures := reader.pictures(message):
        _add(turns, "user", [*pictures, {"type": "text", "text": render_prompt("shown")}])


def _add(turns: list[dict[str, Any]], role: str, parts: list[Part]) -> None:
    """Add a message, or extend the last one of the same role after a blank line."""
    if not turns or turns[-1]["role"] != role:
        turns.append({"role": role, "content": parts})
        return
    content = turns[-1]["content"]
    if content and parts and content[-1]["type"] == parts[0]["type"] == "text":
        content.append({"type": "text", "text": "\n\n"})
    content.extend(parts)


def _plain(parts: list[Part]) -> str | list[Part]:
    """Join parts to one text if none is a picture."""
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts

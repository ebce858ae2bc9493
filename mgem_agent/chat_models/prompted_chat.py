"""`GenProtocolChat`: any chat model as a reasoner that draws, also one that cannot call tools.

The protocol is explained to it in the system message; what it writes is read as the core model's text is. So an agent
sees the same tool calls from a plain text model on somebody's server as from the core model.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from pydantic import Field

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.text_engine import Dialogue, FinishReason, TextEnd, TextEngine, TextRequest
from mgem_agent.prompts import render_prompt

__all__ = ["GenProtocolChat"]

_REASONS: Mapping[str, FinishReason] = {"length": "length", "max_tokens": "length"}


class GenProtocolChat(GenProtocolModel):
    """A chat model that draws by the `<GEN>` protocol, told to it by prompt.

    Attributes:
        chat_model: The model that writes the text. Of its tool calling nothing is used.
        sees_addresses: Whether it may be sent a picture's web address, for its server to fetch.
    """

    chat_model: BaseChatModel = Field(repr=False)
    sees_addresses: bool = True

    @property
    def _llm_type(self) -> str:
        return f"gen-protocol-{self.chat_model._llm_type}"

    def default_model_name(self) -> str:
        """Return the name of the model that writes the text."""
        for name in ("model", "model_name"):
            if isinstance(value := getattr(self.chat_model, name, None), str):
                return value
        return type(self.chat_model).__name__

    def text_engine(self, model_name: str) -> TextEngine:
        """Return what writes the text: the chat model, as a text engine."""
        return _ChatEngine(self.chat_model, None if model_name == self.default_model_name() else model_name)

    def fixed_instructions(self) -> Sequence[str]:
        """Return the protocol, as it is told to the model."""
        return (render_prompt("drawing"),)

    def takes_addresses(self) -> bool:
        """Return whether pictures may be web addresses."""
        return self.sees_addresses


class _ChatEngine:
    """A chat model as a text engine."""

    def __init__(self, chat_model: BaseChatModel, model_name: str | None) -> None:
        self.chat_model = chat_model
        self.model_name = model_name

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer; one that is begun is asked to be gone on with."""
        messages = _messages(request.dialogue)
        if request.begun:
            messages += [AIMessage(request.begun), HumanMessage(render_prompt("continue"))]
        fields = {
            "model": self.model_name,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        options: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        full: AIMessageChunk | None = None
        is_cancelled = False
        held: str | None = request.begun or None  # a model may repeat what it is to go on from
        text = ""
        for chunk in self.chat_model.stream(messages, **options, **request.options):
            if not isinstance(chunk, AIMessageChunk):
                continue
            bare = AIMessageChunk(content="", usage_metadata=chunk.usage_metadata)
            bare.response_metadata = dict(chunk.response_metadata)
            full = bare if full is None else full + bare
            text += chunk.text
            if held is not None and held.startswith(text.lstrip()):
                continue
            if held is not None:
                text, held = text.lstrip().removeprefix(held), None
            if text:
                yield text
                text = ""
            if request.cancel.is_set():
                is_cancelled = True
                break
        if text and text.lstrip() != held:
            yield text
        if (end := _end(full, is_cancelled)) is not None:
            yield end


def _end(full: AIMessageChunk | None, is_cancelled: bool) -> TextEnd | None:
    """Return what the answer took, if the model says so."""
    if full is None or (usage := full.usage_metadata) is None:
        return None
    metadata = full.response_metadata
    reason = _REASONS.get(str(metadata.get("finish_reason") or metadata.get("stop_reason")), "stop")
    details: Mapping[str, Any] = usage.get("input_token_details") or {}
    return TextEnd(
        usage["input_tokens"],
        usage["output_tokens"],
        image_tokens=details.get("image") or 0,
        cached_tokens=details.get("cache_read") or 0,
        finish_reason="cancelled" if is_cancelled else reason,
    )


def _messages(dialogue: Dialogue) -> list[BaseMessage]:
    """Write a dialogue as LangChain's messages, the trigger to draw as the text it is taught as."""
    kinds: dict[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    messages = []
    for turn in dialogue:
        content = turn["content"]
        ending = " <GEN>" if turn.get("draw") else ""
        if isinstance(content, str):
            messages.append(kinds[turn["role"]](content + ending))
            continue
        blocks = [part if part["type"] == "text" else _image_block(part["image"]) for part in content]
        messages.append(kinds[turn["role"]]([*blocks, {"type": "text", "text": ending.strip()}] if ending else blocks))
    return messages


def _image_block(source: Any) -> dict[str, Any]:
    """Return a picture as one of LangChain's standard blocks."""
    if isinstance(source, str) and source[:5].lower() == "data:":
        header, _, data = source.partition(",")
        return {"type": "image", "base64": data, "mime_type": header[5:].partition(";")[0] or "image/png"}
    if isinstance(source, str) and "://" in source:
        return {"type": "image", "url": source}
    from mgem_agent.core_model.image_loading import load_image

    buffer = io.BytesIO()
    load_image(source).save(buffer, "PNG")
    return {"type": "image", "base64": base64.b64encode(buffer.getvalue()).decode(), "mime_type": "image/png"}

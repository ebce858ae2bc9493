"""`GenProtocolChat`: any chat model as a reasoner that can draw, even one without tool calling.

The system message explains the protocol, and the answers are parsed like those of the core model. So an agent gets the
same tool calls from a plain text model on any server as from the core model.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from pydantic import Field

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.finish_reasons import read_finish_reason, refusal_text
from mgem_agent.chat_models.interruptible import interruptible
from mgem_agent.chat_models.reasoner_errors import own_error
from mgem_agent.chat_models.text_engine import Dialogue, FinishReason, TextEnd, TextEngine, TextRequest
from mgem_agent.chat_models.thoughts import THOUGHT_END, ThoughtReader
from mgem_agent.prompts import render_prompt

__all__ = ["ChatEngine", "GenProtocolChat"]


class GenProtocolChat(GenProtocolModel):
    """A chat model that draws by the `<GEN>` protocol, which is explained in its prompt.

    Attributes:
        chat_model: The model that writes the text. Its own tool calling is not used.
        passes_urls: Whether to pass a picture's web address on, for its server to download.
    """

    chat_model: BaseChatModel = Field(repr=False)
    passes_urls: bool = True

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
        """Return the chat model as a text engine."""
        name = None if model_name == self.default_model_name() else model_name
        return ChatEngine(self.chat_model, name, buffers_thoughts=self.buffers_thoughts(model_name))

    def fixed_instructions(self) -> Sequence[str]:
        """Return the explanation of the protocol."""
        return (render_prompt("drawing"),)

    def accepts_urls(self) -> bool:
        """Return whether pictures may be web addresses."""
        return self.passes_urls


class ChatEngine:
    """A chat model as a text engine.

    Args:
        chat_model: The model that writes the text.
        model_name: Another model of its provider; None for its own.
        buffers_thoughts: Whether an answer may begin with thinking that has no opening tag.
        continuing: Options of a call whose last message is the beginning of the answer, for a server that can continue
            it; None to ask the model in words to continue.
    """

    def __init__(
        self,
        chat_model: BaseChatModel,
        model_name: str | None,
        *,
        buffers_thoughts: bool,
        continuing: Mapping[str, Any] | None = None,
    ) -> None:
        self.chat_model = chat_model
        self.model_name = model_name
        self.buffers_thoughts = buffers_thoughts
        self.continuing = continuing

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer; if its beginning is prefilled, the model is asked to continue it."""
        messages = _messages(request.dialogue)
        if request.prefill:
            messages.append(AIMessage(request.prefill))
            if self.continuing is None:
                messages.append(HumanMessage(render_prompt("continue")))
        fields = {
            "model": self.model_name,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        options: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        if request.prefill and self.continuing is not None:
            options |= self.continuing
        answer = _ChatAnswer(request, holds=self.buffers_thoughts)
        try:
            start = partial(self.chat_model.stream, messages, **options, **request.options)
            for chunk in interruptible(start, request.cancel):
                if isinstance(chunk, AIMessageChunk):
                    yield from answer.feed(chunk)
            answer.is_cancelled = request.cancel.is_set()
        except Exception as error:
            own = own_error(error, self.chat_model, shows_pictures=_shows_pictures(request.dialogue))
            if own is None or own is error:
                raise
            raise own from error
        yield from answer.close()


class _ChatAnswer:
    """Reads a chat model's answer: its text without thinking and without a repeated beginning, and how it ended."""

    def __init__(self, request: TextRequest, *, holds: bool) -> None:
        self.is_cancelled = False
        self._prefill = self._held = request.prefill or None  # a model may repeat the prefilled beginning
        self._thoughts = ThoughtReader(holds=holds)
        self._text = ""  # text that may still turn out to be a repetition
        self._full: AIMessageChunk | None = None

    def feed(self, chunk: AIMessageChunk) -> Iterator[str]:
        """Yield the text that is certain after a piece of the answer."""
        bare = AIMessageChunk(content="", usage_metadata=chunk.usage_metadata)
        bare.response_metadata, bare.additional_kwargs = dict(chunk.response_metadata), dict(chunk.additional_kwargs)
        self._full = bare if self._full is None else self._full + bare
        num_bare = self._thoughts.num_bare
        text = self._thoughts.feed(str(chunk.text))
        if self._thoughts.num_bare > num_bare:
            self._text, self._held = "", self._prefill
            yield THOUGHT_END
        yield from self._unrepeated(text)

    def close(self) -> Iterator[str | TextEnd]:
        """Yield the held text, and how the answer ended."""
        yield from self._unrepeated(self._thoughts.close())
        if self._text and self._text.lstrip() != self._held:
            yield self._text
        yield self._end()

    def _unrepeated(self, text: str) -> Iterator[str]:
        self._text += text
        if not self._text or (self._held is not None and self._held.startswith(self._text.lstrip())):
            return
        if self._held is not None:
            self._text, self._held = self._text.lstrip().removeprefix(self._held), None
        if self._text:
            yield self._text
            self._text = ""

    def _end(self) -> TextEnd:
        """Return why the answer ended, and its token usage if the model reports it."""
        full = AIMessageChunk(content="") if self._full is None else self._full
        reason: FinishReason = "cancelled" if self.is_cancelled else read_finish_reason(full) or "stop"
        refusal = refusal_text(full)
        usage = full.usage_metadata
        if usage is None:
            return TextEnd(finish_reason=reason, refusal=refusal)
        details: Mapping[str, Any] = usage.get("input_token_details") or {}
        return TextEnd(
            usage["input_tokens"],
            usage["output_tokens"],
            image_tokens=details.get("image") or 0,
            cached_tokens=details.get("cache_read") or 0,
            finish_reason=reason,
            refusal=refusal,
        )


def _shows_pictures(dialogue: Dialogue) -> bool:
    return any(not isinstance(turn["content"], str) for turn in dialogue)


def _messages(dialogue: Dialogue) -> list[BaseMessage]:
    """Convert a dialogue to LangChain messages, with the trigger to draw as the text `<GEN>`."""
    kinds: dict[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    messages = []
    for turn in dialogue:
        content = turn["content"]
        ending = " <GEN>" if turn.get("draw") else ""
        if isinstance(content, str):
            messages.append(kinds[turn["role"]](content + ending))
            continue
        blocks = [part if part["type"] == "text" else _image_block(part["image"]) for part in content]
        if ending and blocks and blocks[-1]["type"] == "text":
            blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"] + ending}
        elif ending:
            blocks.append({"type": "text", "text": ending.strip()})
        messages.append(kinds[turn["role"]](blocks))
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

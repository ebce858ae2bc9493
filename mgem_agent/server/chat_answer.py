"""Write a turn as a chat completion of OpenAI's protocol, whole or in chunks.

A picture is given in both ways that clients show: as a Markdown image with an address of this server, and under
`images`, as OpenRouter has it. The field `mgem` has what the protocol has no place for: seeds, notices and failures.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mgem_agent.agent.events import AgentEvent, DrawnPicture, PictureDrawn, TextPiece, Turn, TurnFinished
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.chat_models.text_engine import FinishReason
from mgem_agent.errors import InputError
from mgem_agent.server.chat_turn import Answer
from mgem_agent.server.usage import Usage

__all__ = ["ChatWriter"]

_FINISH_REASONS: dict[FinishReason, str] = {
    "length": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}


@dataclass
class ChatWriter:
    """Writes the answer to one request.

    Attributes:
        model: Name of the model, as the client gave it.
        url_of: Returns the address of a picture by its id.
        store: The user's pictures.
        images_as: Whether `images` has the pictures as data, by address, or is left out.
        shows_drawn: Whether a streamed picture is shown as soon as it is drawn; not if the agent may redraw it.
    """

    model: str
    url_of: Callable[[str], str]
    store: ArtifactStore
    images_as: Literal["data", "url", "none"] = "data"
    shows_drawn: bool = True
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _shown: list[str] = field(default_factory=list)
    _has_text: bool = False

    def completion(self, answer: Answer) -> dict[str, Any]:
        """Return a whole chat completion."""
        turn = answer.turn
        pictures = [self._markdown(each.artifact_id, each.prompt) for each in turn.pictures]
        content = "\n\n".join(filter(None, [turn.text.strip(), *pictures, *_failed(turn)]))
        message: dict[str, Any] = {"role": "assistant", "content": content or None, "refusal": None}
        if turn.pictures and self.images_as != "none":
            message["images"] = [self._image(each, index) for index, each in enumerate(turn.pictures)]
        if answer.tool_calls:
            message["tool_calls"] = list(answer.tool_calls)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": _usage(answer.usage),
            "mgem": self._extra(turn),
        }

    def first_chunk(self) -> dict[str, Any]:
        """Return the chunk that begins an answer."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunks(self, event: AgentEvent, answer: Answer | None) -> Iterator[dict[str, Any]]:
        """Yield the chunks for an event of a turn.

        Args:
            event: The event.
            answer: The result, with the last event.
        """
        if isinstance(event, TextPiece):
            yield self._text(event.text)
        elif isinstance(event, PictureDrawn) and self.shows_drawn:
            yield self._picture(DrawnPicture(event.call_id, event.artifact_id, event.path, event.prompt))
        elif isinstance(event, TurnFinished) and answer is not None:
            yield from self._last_chunks(answer)

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the chunk with the usage, which has no choices."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(usage)}

    def _last_chunks(self, answer: Answer) -> Iterator[dict[str, Any]]:
        for picture in answer.turn.pictures:
            if picture.artifact_id not in self._shown:
                yield self._picture(picture)
        for failure in _failed(answer.turn):
            yield self._text(f"\n\n{failure}" if self._has_text else failure)
        if answer.tool_calls:
            calls = [{"index": index, **call} for index, call in enumerate(answer.tool_calls)]
            yield self._chunk({"tool_calls": calls})
        yield {**self._chunk({}, finish_reason=_finish(answer)), "mgem": self._extra(answer.turn)}

    def _text(self, text: str) -> dict[str, Any]:
        self._has_text = self._has_text or bool(text.strip())
        return self._chunk({"content": text})

    def _picture(self, picture: DrawnPicture) -> dict[str, Any]:
        text = self._markdown(picture.artifact_id, picture.prompt)
        text = f"\n\n{text}\n\n" if self._has_text else f"{text}\n\n"
        self._has_text = True
        self._shown.append(picture.artifact_id)
        images = [] if self.images_as == "none" else [self._image(picture, len(self._shown) - 1)]
        return self._chunk({"content": text, **({"images": images} if images else {})})

    def _image(self, picture: DrawnPicture, index: int) -> dict[str, Any]:
        url = self.url_of(picture.artifact_id)
        if self.images_as == "data" and picture.path:
            data = base64.b64encode(Path(picture.path).read_bytes()).decode("ascii")
            url = f"data:image/png;base64,{data}"
        return {"type": "image_url", "image_url": {"url": url}, "index": index}

    def _markdown(self, picture_id: str, prompt: str) -> str:
        words = " ".join(prompt.split()).replace("\\", "").replace("[", "(").replace("]", ")")
        return f"![{words[:200]}]({self.url_of(picture_id)})"

    def _extra(self, turn: Turn) -> dict[str, Any]:
        return {
            "outcome": turn.outcome,
            "notices": list(turn.notices),
            "pictures": [self._facts(each) for each in turn.pictures],
            "failures": [{"prompt": each.prompt, "message": each.message} for each in turn.failures],
        }

    def _facts(self, picture: DrawnPicture) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "id": picture.artifact_id,
            "url": self.url_of(picture.artifact_id),
            "prompt": picture.prompt,
        }
        try:
            known = self.store.get(picture.artifact_id)
        except InputError:  # it was deleted meanwhile
            return facts
        return facts | {"width": known.width, "height": known.height, "seed": known.seed, "parents": known.parents}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}


def _failed(turn: Turn) -> list[str]:
    return [f"*A picture was not drawn: {' '.join(each.message.split())}*" for each in turn.failures]


def _finish(answer: Answer) -> str:
    if answer.tool_calls:
        return "tool_calls"
    return _FINISH_REASONS.get(answer.turn.finish_reason or "stop", "stop")


def _usage(usage: Usage) -> dict[str, Any]:
    details = {"cached_tokens": usage.cached_tokens}
    if usage.image_tokens is not None:
        details |= {"image_tokens": usage.image_tokens, "text_tokens": usage.input_tokens - usage.image_tokens}
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": details,
    }

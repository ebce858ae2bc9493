"""Convert an engine's text to the chunks of a LangChain message.

The text passes up to five readers, each of which holds back as little as possible: thinking, stop strings, JSON calls
(if other tools are bound), the `<GEN>` protocol, and the whitespace around captions. If a drawing is required and the
answer has no caption, a second pass appends `<h>` to the answer and reads until the caption is closed.

A bare `</think>` means that all text before it was thinking. Then reading restarts, and the tag is passed on as text,
so that the receiver of the stream can drop what came before. So the calls of a model that may think are emitted only
when its answer is complete.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from mgem_agent.chat_models.finish_reasons import finish_notice
from mgem_agent.chat_models.json_calls import CALL_OPEN, JsonCall, JsonCallParser, first_object
from mgem_agent.chat_models.langchain_messages import DRAW_METADATA
from mgem_agent.chat_models.stop_strings import StopStrings
from mgem_agent.chat_models.text_engine import TextEnd, TextEngine, TextRequest, TurnCancel
from mgem_agent.chat_models.thoughts import THOUGHT_END, ThoughtReader
from mgem_agent.errors import ContextOverflowError, MgemError
from mgem_agent.gen.events import CaptionClosed, GenEvent, GenNotice
from mgem_agent.gen.parser import GenProtocolParser
from mgem_agent.gen.readable_stream import ReadableStream
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawMode, new_call_id, plan_drawing, to_tool_call

__all__ = ["ProtocolTurn", "TurnPlan"]


@dataclass(frozen=True)
class TurnPlan:
    """How to generate and read an answer.

    Args:
        engine: The text engine.
        request: Request to the engine. Its `prefill` is read as part of the answer.
        model_name: Name of the model, for the answer's metadata.
        draw: When captions become calls.
        draw_defaults: Default values of drawings.
        draw_arguments: Arguments of the caller's drawing tool; None for all fields of an image request.
        reads_calls: Whether to parse JSON calls in the text.
        is_forced: Whether the answer is exactly one call.
        is_json: Whether the answer is one JSON object, in which tags have no meaning.
        stop: Stop strings.
        timeout_s: Time limit of the whole answer in seconds.
        cancel: Set by the caller to stop the answer.
        fallback_caption: Caption to use if a drawing is required and the model writes none.
        may_think: Whether thinking may arrive without an opening tag.
        buffers_thoughts: Whether to hold text back until thinking has ended.
    """

    engine: TextEngine
    request: TextRequest
    model_name: str
    draw: DrawMode = "auto"
    draw_defaults: Mapping[str, Any] = field(default_factory=dict)
    draw_arguments: frozenset[str] | None = None
    reads_calls: bool = False
    is_forced: bool = False
    is_json: bool = False
    stop: Sequence[str] = ()
    timeout_s: float | None = None
    cancel: threading.Event | None = None
    fallback_caption: str = "a picture"
    may_think: bool = True
    buffers_thoughts: bool = False


class ProtocolTurn:
    """Reads one answer; each instance is used once.

    Args:
        plan: How to generate and read the answer.
    """

    def __init__(self, plan: TurnPlan) -> None:
        self.plan = plan
        self.text = ""
        self.notices: list[GenNotice] = []
        self._events: list[GenEvent] = []  # complete captions
        self._gen = GenProtocolParser()
        self._calls = JsonCallParser()
        self._readable = ReadableStream()
        self._raw = ""  # the text of a JSON answer
        self._num_calls = 0
        self._waiting: list[AIMessageChunk] = []  # calls to emit when the answer is complete
        self._thoughts = ThoughtReader(holds=plan.buffers_thoughts)
        self._ends: list[TextEnd] = []
        self._deadline = None if plan.timeout_s is None else time.monotonic() + plan.timeout_s
        self._is_cancelled = False
        self._is_cut = False  # by a stop string, or because the answer has everything it needs

    def chunks(self) -> Iterator[AIMessageChunk]:
        """Yield the answer; the last chunk contains the usage and the metadata.

        Raises:
            MgemError: If the time limit is reached, or the engine fails.
        """
        yield from self._first_pass()
        yield from self._waiting
        plan = plan_drawing(self._events, self.plan.draw)
        self.notices += plan.notices
        if plan.caption_missing and not self._is_cancelled:
            yield from self._second_pass()
        yield self._last_chunk()

    def _first_pass(self) -> Iterator[AIMessageChunk]:
        request, stops = self.plan.request, StopStrings(self.plan.stop)
        yield from self._read(request.prefill)
        cancel = TurnCancel(self.plan.cancel, self._deadline)
        with closing(self._pieces(replace(request, cancel=cancel))) as pieces:
            for piece in pieces:
                if self._is_cut:
                    continue  # the engine is stopping, and will still report its usage
                num_bare = self._thoughts.num_bare
                text = self._thoughts.feed(piece)
                if self._thoughts.num_bare > num_bare:
                    stops = StopStrings(self.plan.stop)
                    yield from self._begin_anew()
                yield from self._read(stops.feed(text))
                if stops.is_over or self._has_all:
                    self._is_cut = True
                    cancel.set()
        yield from self._read(stops.feed(self._thoughts.close()) + stops.close())
        for item in self._calls.close():
            yield from self._read_item(item)
        yield from self._read_events(self._gen.close())

    def _begin_anew(self) -> Iterator[AIMessageChunk]:
        """Discard everything read so far, because it was thinking."""
        if self.text or self._num_calls > len(self._waiting):
            yield AIMessageChunk(content=THOUGHT_END)
        self.text = self._raw = ""
        self.notices, self._events, self._waiting, self._num_calls = [], [], [], 0
        self._gen, self._calls, self._readable = GenProtocolParser(), JsonCallParser(), ReadableStream()
        yield from self._read(self.plan.request.prefill)

    @property
    def num_untagged_thoughts(self) -> int:
        """Number of times that thinking arrived without an opening tag."""
        return self._thoughts.num_bare

    @property
    def _has_all(self) -> bool:
        if self.plan.is_forced:
            return self._num_calls > 0 or self._calls.is_complete
        return self.plan.is_json and self._raw.rstrip().endswith("}") and first_object(self._raw) is not None

    def _second_pass(self) -> Iterator[AIMessageChunk]:
        """Append an opening `<h>` to the answer, and read until the caption is closed."""
        cancel = TurnCancel(self.plan.cancel, self._deadline)
        prefill = f"{self.text} <h>" if self.text else "<h>"
        parser, thoughts = _open_caption(), ThoughtReader(holds=self.plan.buffers_thoughts)
        events: list[GenEvent] = []
        was_cut, self._is_cut = self._is_cut, False
        try:
            with closing(
                self._pieces(replace(self.plan.request, prefill=prefill, cancel=cancel, grammar=None))
            ) as pieces:
                for piece in pieces:
                    if not any(isinstance(event, CaptionClosed) for event in events):
                        num_bare, text = thoughts.num_bare, thoughts.feed(piece)
                        if thoughts.num_bare > num_bare:
                            parser, events = _open_caption(), []
                        events += parser.feed(text)
                        if any(isinstance(event, CaptionClosed) for event in events):
                            self._is_cut = True
                            cancel.set()
        except ContextOverflowError:
            events = []  # the answer has filled the context; the fallback caption is used
        self._is_cut = was_cut
        if self._is_cancelled:
            return
        if not any(isinstance(event, CaptionClosed) for event in events):
            events += parser.feed(thoughts.close())
        events += parser.close()
        self.notices += [event for event in events if isinstance(event, GenNotice)]
        found = [event for event in events if isinstance(event, CaptionClosed)]
        yield self._drawing(found[0].caption if found else self.plan.fallback_caption)

    def _pieces(self, request: TextRequest) -> Generator[str, None, None]:
        """Yield the engine's text, and record its end and whether it was stopped early."""
        answer = self.plan.engine.stream(request)
        try:
            for piece in answer:
                if isinstance(piece, TextEnd):
                    self._ends.append(piece)
                else:
                    yield piece
        finally:
            if callable(close := getattr(answer, "close", None)):
                close()
        if isinstance(request.cancel, TurnCancel) and request.cancel.is_overdue and not self._is_cut:
            raise MgemError(
                f"The answer took longer than timeout={self.plan.timeout_s:g} seconds. Increase the timeout, or limit "
                "the answer with max_tokens."
            )
        if self.plan.cancel is not None and self.plan.cancel.is_set() and not self._is_cut:
            self._is_cancelled = True

    def _read(self, text: str) -> Iterator[AIMessageChunk]:
        if not text:
            return
        if self.plan.is_json:
            self._raw += text
            yield self._shown(text)
        elif self.plan.reads_calls:
            for item in self._calls.feed(text):
                yield from self._read_item(item)
        else:
            yield from self._read_events(self._gen.feed(text))

    def _read_item(self, item: str | JsonCall) -> Iterator[AIMessageChunk]:
        if isinstance(item, JsonCall) and not item.name and "<h>" in item.arguments and not self.plan.is_forced:
            yield from self._read_events(self._gen.feed(item.arguments))  # a caption in place of a call
        elif isinstance(item, JsonCall):
            # The arguments of an unreadable call begin with the tag, because LangChain would complete partial JSON.
            arguments = item.arguments if item.name else f"{CALL_OPEN}{item.arguments}"
            yield from self._made(self._call(item.name or None, arguments, new_call_id()))
        elif not self.plan.is_forced:
            yield from self._read_events(self._gen.feed(item))

    def _read_events(self, events: Sequence[GenEvent]) -> Iterator[AIMessageChunk]:
        for event in events:
            if text := self._readable.feed(event):
                yield self._shown(text)
            if isinstance(event, GenNotice):
                self.notices.append(event)
            elif isinstance(event, CaptionClosed):
                self._events.append(event)
                if self.plan.draw != "never":
                    yield from self._made(self._drawing(event.caption))

    def _made(self, call: AIMessageChunk) -> Iterator[AIMessageChunk]:
        if self.plan.may_think:
            self._waiting.append(call)
        else:
            yield call

    def _shown(self, text: str) -> AIMessageChunk:
        self.text += text
        return AIMessageChunk(content=text)

    def _drawing(self, caption: str) -> AIMessageChunk:
        call = to_tool_call(caption, defaults=self.plan.draw_defaults)
        known = self.plan.draw_arguments
        arguments = {
            name: value
            for name, value in call["args"].items()
            if known is None or name in known or name in self.plan.draw_defaults
        }
        return self._call(DRAW_TOOL_NAME, json.dumps(arguments, ensure_ascii=False), call["id"])

    def _call(self, name: str | None, arguments: str, call_id: str) -> AIMessageChunk:
        chunk = tool_call_chunk(name=name, args=arguments, id=call_id, index=self._num_calls)
        self._num_calls += 1
        return AIMessageChunk(content="", tool_call_chunks=[chunk])

    def _last_chunk(self) -> AIMessageChunk:
        end = self._ends[0] if self._ends else TextEnd()
        reason = end.finish_reason
        if self._is_cancelled:
            reason = "cancelled"
        elif self._is_cut:
            reason = "stop"
        metadata: dict[str, Any] = {
            "model_name": self.plan.model_name,
            "finish_reason": reason,
            DRAW_METADATA: self.plan.draw,
        }
        notices = [{"reason": note.reason, "text": note.text, "message": note.message} for note in self.notices]
        is_empty = not (self.text.strip() or self._num_calls)
        if message := finish_notice(reason, refusal=end.refusal, is_empty=is_empty):
            notices.append({"reason": "empty" if reason == "stop" else reason, "text": end.refusal, "message": message})
        if notices:
            metadata["notices"] = notices
        return AIMessageChunk(
            content="", usage_metadata=self._usage(), response_metadata=metadata, chunk_position="last"
        )

    def _usage(self) -> UsageMetadata | None:
        """Return the token usage; a second pass adds its output tokens, but not its input tokens."""
        if not self._ends or self._ends[0].input_tokens is None:
            return None
        first, written = self._ends[0], sum(end.output_tokens or 0 for end in self._ends)
        num_read = first.input_tokens or 0
        details: Any = {"cache_read": first.cached_tokens, "image": first.image_tokens}
        return UsageMetadata(
            input_tokens=num_read,
            output_tokens=written,
            total_tokens=num_read + written,
            input_token_details=details,
        )


def _open_caption() -> GenProtocolParser:
    """Return a parser inside an open caption."""
    parser = GenProtocolParser(close_at_end=True)
    parser.feed("<h>")
    return parser

"""Watch the reasoner's answers: how many are written at once, their tokens, seconds and spans.

A callback of LangChain sees every answer, whichever route asked for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import LLMResult
from opentelemetry.trace import Span, SpanKind

from mgem_agent.chat_models.answer_usage import answer_usage
from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.server.metrics import Metrics
from mgem_agent.server.tracing import Tracing, end_span

__all__ = ["ReasonerWatch", "watched"]


class ReasonerWatch(BaseCallbackHandler):
    """Counts answers, and lets only so many be written at once.

    Args:
        name: Name of the reasoner, for spans.
        metrics: Counts answers and tokens.
        tracing: Makes spans.
        slots: Maximum number of answers at once; None for no limit.
    """

    run_inline = True

    def __init__(self, name: str, metrics: Metrics, tracing: Tracing, *, slots: int | None = None) -> None:
        self._name = name
        self._metrics = metrics
        self._tracing = tracing
        self._slots = None if slots is None else threading.BoundedSemaphore(slots)
        self._begun: dict[UUID, tuple[float, Span]] = {}

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot, and free it at the end."""
        with self._slots if self._slots is not None else nullcontext():
            yield

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Wait for a slot, and begin the span of an answer."""
        if self._slots is not None:
            self._slots.acquire()
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": self._name}
        span = self._tracing.tracer.start_span(f"chat {self._name}", kind=SpanKind.CLIENT, attributes=attributes)
        self._begun[run_id] = (time.monotonic(), span)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Count an answer."""
        begun = self._ended(run_id, "finished")
        if begun is None:
            return
        usage = answer_usage(response)
        self._metrics.count_tokens(**usage)
        begun.set_attribute("gen_ai.usage.input_tokens", usage["input_tokens"])
        begun.set_attribute("gen_ai.usage.output_tokens", usage["output_tokens"])
        end_span(begun)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Count an answer that failed or was cancelled."""
        is_cancelled = isinstance(error, GeneratorExit)
        span = self._ended(run_id, "cancelled" if is_cancelled else "failed")
        if span is not None:
            end_span(span, None if is_cancelled else error)

    def _ended(self, run_id: UUID, outcome: str) -> Span | None:
        """Free the slot of an answer, and return its span; None if it has ended before."""
        begun = self._begun.pop(run_id, None)
        if begun is None:
            return None
        if self._slots is not None:
            self._slots.release()
        started, span = begun
        self._metrics.answers.labels(outcome).inc()
        self._metrics.answer_s.observe(time.monotonic() - started)
        return span


def watched(reasoner: BaseChatModel, name: str, metrics: Metrics, tracing: Tracing, *, slots: int) -> BaseChatModel:
    """Return a reasoner whose answers are watched.

    Args:
        reasoner: The reasoner.
        name: Its name, for spans.
        metrics: Counts answers and tokens.
        tracing: Makes spans.
        slots: Maximum number of answers at once, of a reasoner that runs on this machine.
    """
    is_local = isinstance(reasoner, ChatMiniGemini) and reasoner.runs_here
    watch = ReasonerWatch(name, metrics, tracing, slots=slots if is_local else None)
    known = reasoner.callbacks if isinstance(reasoner.callbacks, list) else []
    return reasoner.model_copy(update={"callbacks": [*known, watch]})

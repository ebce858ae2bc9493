"""The interface of a text engine, which continues a dialogue in plain text.

It is the interface between this package's chat models and what generates the text: the core model, another chat model
by prompt, or a script in a test. Messages, the `<GEN>` protocol and tool calls are handled above it, in the same way
for all engines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = [
    "ChoosingEngine",
    "Dialogue",
    "FinishReason",
    "PromptSize",
    "SizingEngine",
    "TextEnd",
    "TextEngine",
    "TextRequest",
    "TurnCancel",
    "follows_grammar",
]

Dialogue = Sequence[Mapping[str, Any]]
"""Messages for `core_model`'s prompt templates: `role`, `content` (text, or parts with text and images) and, in user
messages, `draw`. After at most one system message, roles alternate, and the last message is the user's."""
FinishReason = Literal["stop", "length", "cancelled", "refusal", "content_filter", "other"]
"""Why an answer ended: normally, at a token limit, cancelled by the caller, refused by the model, withheld by the
provider, or for an unknown reason."""


class TurnCancel(threading.Event):
    """An event that also counts as set when another event is set or a deadline has passed.

    Args:
        outer: The other event.
        deadline: Deadline by `time.monotonic()`.
    """

    def __init__(self, outer: threading.Event | None = None, deadline: float | None = None) -> None:
        super().__init__()
        self._outer = outer
        self._deadline = deadline

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def is_set(self) -> bool:
        """Return whether the turn must end."""
        return super().is_set() or self.is_overdue or (self._outer is not None and self._outer.is_set())


@dataclass(frozen=True)
class TextRequest:
    """A request to an engine.

    Args:
        dialogue: The whole dialogue.
        prefill: Prefilled beginning of the answer; the engine continues it and does not repeat it.
        max_tokens: Maximum number of tokens in the answer; None for the engine's default.
        temperature: Sampling temperature; 0 is greedy decoding, None is the engine's default.
        top_p: Probability mass for nucleus sampling.
        seed: Seed for sampling, if the engine supports it.
        options: Further options, by the engine's names.
        cancel: When it is set, the engine stops within one token.
        thread_id: Thread of the dialogue, for engines that keep caches between turns.
        grammar: Grammar of the answer, in llguidance's Lark format; only for engines whose `follows_grammar` is true.
    """

    dialogue: Dialogue
    prefill: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cancel: threading.Event = field(default_factory=threading.Event)
    thread_id: str | None = None
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class TextEnd:
    """How an answer ended, with its token usage.

    Args:
        input_tokens: Number of tokens in the dialogue; None if unknown.
        output_tokens: Number of tokens in the answer; None if unknown.
        image_tokens: Number of image tokens in the dialogue.
        cached_tokens: Number of tokens in the dialogue that came from a cache.
        finish_reason: Why the answer ended.
        refusal: Text of the model's refusal, if it is not part of the answer.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    image_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: FinishReason = "stop"
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """The size of a dialogue in tokens.

    Args:
        text_tokens: Number of text tokens.
        image_tokens: Number of image tokens.
        tokens_per_image: Number of tokens per image.
        max_context: Size of the model's context; None if unlimited.
    """

    text_tokens: int
    image_tokens: int
    tokens_per_image: int
    max_context: int | None


class TextEngine(Protocol):
    """Continues a dialogue. It may be called from several threads at once.

    An engine that supports grammars has a true attribute `follows_grammar`.
    """

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer in pieces of any size, and finally a `TextEnd` if the engine provides one.

        Closing the iterator stops the answer within one token.

        Args:
            request: The request.

        Raises:
            MgemError: If the dialogue cannot be rendered, exceeds the context, or contains an unreadable picture.
        """
        ...


@runtime_checkable
class SizingEngine(TextEngine, Protocol):
    """A text engine that can count the tokens of a dialogue."""

    def prompt_size(self, request: TextRequest) -> PromptSize:
        """Return the size of a request, without generating anything.

        Args:
            request: The request.
        """
        ...


def follows_grammar(engine: TextEngine) -> bool:
    """Return whether an engine supports the grammar of a request.

    Args:
        engine: The engine.
    """
    return bool(getattr(engine, "follows_grammar", False))


@runtime_checkable
class ChoosingEngine(TextEngine, Protocol):
    """A text engine that knows how likely each next token is."""

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        """Return how likely the answer begins with each of some words, among all that it may begin with.

        Args:
            request: What is asked.
            choices: Words, in small letters. Capitals and a blank before a word make no difference.

        Returns:
            For each word the sum of its tokens' probabilities; 0 where another word begins with the same token.

        Raises:
            GenerationCancelledError: If it is cancelled.
            MgemError: As for `stream`.
        """
        ...

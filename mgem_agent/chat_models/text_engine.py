"""What a reasoner needs underneath: something that goes on with a dialogue in plain text.

This is the one seam between the chat models of this package and what computes: the core model, any chat model spoken to
by prompt, or a script in a test. All the rest, messages, the `<GEN>` protocol, tool calls, is above it and is the same
for each.
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
    "follows_form",
]

Dialogue = Sequence[Mapping[str, Any]]
"""Messages as `core_model`'s dialogue formats take them: `role`, `content` (text, or parts of text and images) and, on
a user's message, `draw`. Roles alternate, after at most one system message, and the last is the user's."""
FinishReason = Literal["stop", "length", "cancelled", "refusal", "content_filter", "other"]
"""Why an answer ended: by itself, at a limit of tokens, stopped by the caller, because the model refused, because the
provider withheld it, or for a reason that is not known here."""


class TurnCancel(threading.Event):
    """An event that is set as soon as it is set itself, another one is, or time is up.

    Args:
        outer: The other event.
        deadline: When time is up, by `time.monotonic()`.
    """

    def __init__(self, outer: threading.Event | None = None, deadline: float | None = None) -> None:
        super().__init__()
        self._outer = outer
        self._deadline = deadline

    @property
    def is_overdue(self) -> bool:
        """Whether time is up."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def is_set(self) -> bool:
        """Return whether the turn is to end."""
        return super().is_set() or self.is_overdue or (self._outer is not None and self._outer.is_set())


@dataclass(frozen=True)
class TextRequest:
    """What is asked of an engine.

    Args:
        dialogue: All that was said.
        begun: The answer's beginning, which the engine goes on from and does not repeat.
        max_tokens: Most tokens of the answer; None leaves it to the engine.
        temperature: 0 takes the likeliest token each time; None leaves it to the engine.
        top_p: Nucleus of the sampling.
        seed: Makes sampling repeatable, where the engine can.
        options: More options, by the engine's own names.
        cancel: Once set, the engine ends within a token.
        thread_id: Whose dialogue this is, for an engine that keeps something between turns.
        form: Grammar of the answer, in llguidance's Lark. Only an engine whose `follows_form` is true is given one.
    """

    dialogue: Dialogue
    begun: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cancel: threading.Event = field(default_factory=threading.Event)
    thread_id: str | None = None
    form: str | None = None


@dataclass(frozen=True, slots=True)
class TextEnd:
    """How an answer ended, and what it took, in tokens.

    Args:
        input_tokens: The dialogue; None where it is not known.
        output_tokens: The answer; None where it is not known.
        image_tokens: Those of the dialogue that stand for images.
        cached_tokens: Those of the dialogue that were not computed again.
        finish_reason: Why it ended.
        refusal: What the model said where it refused, if that is no part of the answer.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    image_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: FinishReason = "stop"
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """What a dialogue takes of the context, in tokens.

    Args:
        text_tokens: Those that are text.
        image_tokens: Those that stand for images.
        tokens_per_image: What each image takes.
        max_context: Tokens that the model can hold; None where nothing limits them.
    """

    text_tokens: int
    image_tokens: int
    tokens_per_image: int
    max_context: int | None


class TextEngine(Protocol):
    """Continues a dialogue. Any thread may call it, several at a time.

    An engine that can hold its model to a form says so by an attribute `follows_form`; see `follows_form`.
    """

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer piece by piece, cut anywhere, and last, where it is known, how it ended.

        Closing the iterator ends the answer within a token.

        Args:
            request: What is asked.

        Raises:
            MgemError: If the dialogue cannot be rendered, does not fit the context, or shows what cannot be read.
        """
        ...


@runtime_checkable
class SizingEngine(TextEngine, Protocol):
    """A text engine that knows what a dialogue takes of its context."""

    def prompt_size(self, request: TextRequest) -> PromptSize:
        """Return what a request takes, without computing anything of the answer.

        Args:
            request: What would be asked.
        """
        ...


def follows_form(engine: TextEngine) -> bool:
    """Return whether an engine can hold its model to the form of a request.

    Args:
        engine: The engine.
    """
    return bool(getattr(engine, "follows_form", False))


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

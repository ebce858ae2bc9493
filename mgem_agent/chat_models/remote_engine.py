"""A text engine in another process, with the abilities that it has there.

How its requests travel is up to a transport: HTTP to a server on this machine, or a handle of Ray Serve.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mgem_agent.chat_models.text_engine import (
    ChoosingEngine,
    Dialogue,
    PromptSize,
    SizingEngine,
    TextEnd,
    TextEngine,
    TextRequest,
    follows_grammar,
)
from mgem_agent.errors import ImageError

__all__ = ["EngineAbilities", "EngineTransport", "make_remote_engine", "with_pictures", "without_files"]


@dataclass(frozen=True, slots=True)
class EngineAbilities:
    """What an engine can do.

    Attributes:
        follows_grammar: Whether answers can follow a grammar.
        sizes: Whether it counts the tokens of a prompt.
        chooses: Whether it knows how likely each next token is.
    """

    follows_grammar: bool
    sizes: bool
    chooses: bool

    @classmethod
    def of(cls, engine: TextEngine) -> EngineAbilities:
        """Return the abilities of an engine.

        Args:
            engine: The engine.
        """
        return cls(follows_grammar(engine), isinstance(engine, SizingEngine), isinstance(engine, ChoosingEngine))


class EngineTransport(Protocol):
    """Sends requests to an engine and returns its answers. Errors are those of the engine, or of the way to it."""

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield an answer, as defined by `TextEngine.stream`."""
        ...

    def prompt_size(self, request: TextRequest) -> PromptSize:
        """Return the size of a request, as defined by `SizingEngine`."""
        ...

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        """Return the probabilities of choices, as defined by `ChoosingEngine`."""
        ...


def make_remote_engine(transport: EngineTransport, abilities: EngineAbilities) -> TextEngine:
    """Return a text engine that sends its requests.

    Args:
        transport: The way to the engine.
        abilities: What the engine can do.
    """
    kind = _Choosing if abilities.chooses else _Sizing if abilities.sizes else _Remote
    return kind(transport, follows_grammar=abilities.follows_grammar)


class _Remote:
    """Continues dialogues elsewhere."""

    def __init__(self, transport: EngineTransport, *, follows_grammar: bool) -> None:
        self.follows_grammar = follows_grammar
        self._transport = transport

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer; one that was cancelled has an end, too."""
        is_ended = False
        for event in self._transport.stream(request):
            is_ended = is_ended or isinstance(event, TextEnd)
            yield event
        if request.cancel.is_set() and not is_ended:
            yield TextEnd(finish_reason="cancelled")


class _Sizing(_Remote):
    """It also counts tokens."""

    def prompt_size(self, request: TextRequest) -> PromptSize:
        return self._transport.prompt_size(request)


class _Choosing(_Sizing):
    """It also knows how likely each next token is."""

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        return self._transport.choice_probabilities(request, choices)


def with_pictures(dialogue: Dialogue, change: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Return a dialogue whose pictures are changed.

    Args:
        dialogue: The dialogue.
        change: Called with each picture.
    """

    def changed(content: Any) -> Any:
        if isinstance(content, str):
            return content
        return [{**part, "image": change(part["image"])} if part["type"] == "image" else dict(part) for part in content]

    return [{**message, "content": changed(message["content"])} for message in dialogue]


def without_files(source: Any) -> Any:
    """Return a picture that another process can read: the bytes of a file, anything else unchanged.

    Args:
        source: A picture, as `load_image` takes it.

    Raises:
        ImageError: If a file cannot be read.
    """
    if not isinstance(source, (str, os.PathLike)) or (isinstance(source, str) and source[:5].lower() == "data:"):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"The picture {os.fspath(source)!r} cannot be read: {error.strerror or error}.") from error

"""A reasoner that follows a script: no weights, no network, always the same answers.

A line of the script is the raw text of a model, tags included. It is parsed like the core model's text: a caption
becomes a tool call and tags are not shown. So a script is also the shortest way to try how an agent handles an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import Field, PrivateAttr

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.json_calls import render_call
from mgem_agent.chat_models.text_engine import TextEnd, TextEngine, TextRequest
from mgem_agent.errors import MgemError
from mgem_agent.gen.markup import render_assistant_turn
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME

__all__ = ["ScriptLine", "ScriptedReasoner"]

ScriptLine = str | AIMessage | Exception | Callable[[TextRequest], str]
"""What a model writes; a message, of whose calls the same is made; an error to be raised; or a function of what was
asked that returns what is written."""


class ScriptedReasoner(GenProtocolModel):
    """A chat model that follows a script.

    Each call of the model takes one line. If `draw="always"` and the answer has no caption, one more line is taken: the
    rest of a caption that was opened. Tokens are counted as words.

    Attributes:
        script: The answers, in order.
        is_endless: Whether the script starts again at its end; otherwise its end is an error.
        piece_length: Number of characters in each piece of a streamed answer.
        takes_grammars: Whether calls may have a grammar. The script is not checked against it.

    Examples:
        >>> reasoner = ScriptedReasoner(script=["Here: <h> a red fox </h>"])
        >>> answer = reasoner.invoke("Draw a fox.")
        >>> answer.content, answer.tool_calls[0]["args"]["prompt"]
        ('Here:', 'a red fox')
    """

    script: Sequence[Any] = Field(repr=False)
    is_endless: bool = False
    piece_length: int = Field(default=7, ge=1)
    takes_grammars: bool = False

    _requests: list[TextRequest] = PrivateAttr(default_factory=list)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @property
    def requests(self) -> tuple[TextRequest, ...]:
        """The prompts so far, one for each line that was used."""
        return tuple(self._requests)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def default_model_name(self) -> str:
        """Return `scripted`."""
        return "scripted"

    def accepts_urls(self) -> bool:
        """Return true: pictures are never downloaded."""
        return True

    def text_engine(self, model_name: str) -> TextEngine:
        """Return an engine that follows the script."""
        return _Script(self._next_line, self.piece_length, follows_grammar=self.takes_grammars)

    def _next_line(self, request: TextRequest) -> str:
        with self._lock:
            index = len(self._requests)
            if index >= len(self.script) and not (self.is_endless and self.script):
                raise MgemError(
                    f"The script has only {len(self.script)} line(s), but one more was requested. Add a line, or set "
                    "is_endless=True."
                )
            self._requests.append(request)
        line = self.script[index % len(self.script)]
        if isinstance(line, Exception):
            raise line
        if isinstance(line, BaseMessage):
            return _written(line)
        return str(line(request)) if callable(line) else str(line)


class _Script:
    """A text engine that follows a script."""

    def __init__(self, next_line: Callable[[TextRequest], str], piece_length: int, *, follows_grammar: bool) -> None:
        self.follows_grammar = follows_grammar
        self.next_line = next_line
        self.piece_length = piece_length

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the next line piece by piece."""
        text, num_words = self.next_line(request), 0
        for start in range(0, len(text), self.piece_length):
            if request.cancel.is_set():
                break
            piece = text[start : start + self.piece_length]
            num_words += len(piece.split())
            yield piece
        asked = sum(len(str(message["content"]).split()) for message in request.dialogue)
        yield TextEnd(asked, num_words, finish_reason="cancelled" if request.cancel.is_set() else "stop")


def _written(message: BaseMessage) -> str:
    """Return a message as a model would write it."""
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    captions = [str(call["args"].get("prompt", "")) for call in calls if call["name"] == DRAW_TOOL_NAME]
    others = [render_call(call["name"], call["args"]) for call in calls if call["name"] != DRAW_TOOL_NAME]
    return "\n".join([render_assistant_turn(message.text, captions), *others])

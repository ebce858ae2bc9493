"""The reasoner of a running server as a text engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mgem_agent.chat_models.text_engine import PromptSize, TextEnd, TextEngine, TextRequest
from mgem_agent.errors import GenerationCancelledError, ReasonerUnavailableError
from mgem_agent.resident.connection import Connection
from mgem_agent.resident.wire import decode_text_event, encode_text_request

__all__ = ["make_resident_engine"]


def make_resident_engine(address: str) -> TextEngine:
    """Return the engine of a server's reasoner, with the abilities that it has there. It loads the engine there.

    Args:
        address: Address of the server.

    Raises:
        MgemError: If the engine cannot be loaded there, or the server cannot be reached.
    """
    connection = Connection(address, lambda message: ReasonerUnavailableError(message, retryable=True))
    able = connection.ask("/engines/text/abilities", {})
    kind = _Choosing if able["chooses"] else _Sizing if able["sizes"] else _Resident
    return kind(connection, follows_grammar=able["follows_grammar"])


class _Resident:
    """Continues dialogues on a server.

    Args:
        connection: The server.
        follows_grammar: Whether its engine follows grammars.
    """

    def __init__(self, connection: Connection, *, follows_grammar: bool) -> None:
        self._connection = connection
        self.follows_grammar = follows_grammar

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer, as defined by `TextEngine.stream`.

        Raises:
            MgemError: As for the engine on the server, or if the server fails.
        """
        for event in self._connection.stream("/engines/text", encode_text_request(request), request.cancel):
            yield decode_text_event(event)


class _Sizing(_Resident):
    """It can also count tokens."""

    def prompt_size(self, request: TextRequest) -> PromptSize:
        """Return the size of a request in tokens, as defined by `SizingEngine`.

        Raises:
            MgemError: As for `stream`.
        """
        return PromptSize(**self._connection.ask("/engines/text/size", encode_text_request(request)))


class _Choosing(_Sizing):
    """It also knows how likely each next token is."""

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        """Return how likely the answer begins with each of some words, as defined by `ChoosingEngine`.

        Raises:
            GenerationCancelledError: If it is cancelled.
            MgemError: As for `stream`.
        """
        body = encode_text_request(request) | {"choices": list(choices)}
        for event in self._connection.stream("/engines/text/choices", body, request.cancel):
            return [float(each) for each in event["choices"]]
        raise GenerationCancelledError("The question was cancelled before the model answered it. Ask again.")

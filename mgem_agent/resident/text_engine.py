"""The reasoner of a running server as a text engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mgem_agent.chat_models.remote_engine import EngineAbilities, make_remote_engine
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
    abilities = EngineAbilities(**connection.ask("/engines/text/abilities", {}))
    return make_remote_engine(_Server(connection), abilities)


class _Server:
    """The transport: HTTP to a server on this machine."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        for event in self._connection.stream("/engines/text", encode_text_request(request), request.cancel):
            yield decode_text_event(event)

    def prompt_size(self, request: TextRequest) -> PromptSize:
        return PromptSize(**self._connection.ask("/engines/text/size", encode_text_request(request)))

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        body = encode_text_request(request) | {"choices": list(choices)}
        for event in self._connection.stream("/engines/text/choices", body, request.cancel):
            return [float(each) for each in event["choices"]]
        raise GenerationCancelledError("The question was cancelled before the model answered it. Ask again.")

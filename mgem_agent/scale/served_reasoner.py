"""The reasoner as a deployment of Ray Serve, and the text engine that asks it.

The gateway keeps the chat model, with the `<GEN>` protocol, tools and grammars; only its text engine is elsewhere. So
an answer is the same as from a model in the gateway's own process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.remote_engine import EngineAbilities, make_remote_engine, with_pictures, without_files
from mgem_agent.chat_models.text_engine import (
    ChoosingEngine,
    PromptSize,
    SizingEngine,
    TextEnd,
    TextEngine,
    TextRequest,
)
from mgem_agent.errors import InputError, MgemError
from mgem_agent.scale.served_stream import as_our_error, read_stream, serve_stream

__all__ = ["ReasonerReplica", "open_handle_engine", "with_handle"]


class ReasonerReplica:
    """A replica of the deployment: a text engine with its weights.

    Args:
        make: Creates the chat model whose engine answers.
    """

    def __init__(self, make: Callable[[], ChatMiniGemini]) -> None:
        model = make()
        self._engine = model.text_engine(model.default_model_name())

    async def abilities(self) -> EngineAbilities:
        """Return what the engine can do."""
        return EngineAbilities.of(self._engine)

    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[str | TextEnd | MgemError]:
        """Yield an answer, as `TextEngine` does.

        Args:
            request: Fields of the request.
        """
        async for event in serve_stream(lambda cancel: self._engine.stream(TextRequest(**request, cancel=cancel))):
            yield event

    async def prompt_size(self, request: Mapping[str, Any]) -> PromptSize | MgemError:
        """Return the size of a request, as `SizingEngine` does, or the error."""
        engine = self._engine
        if not isinstance(engine, SizingEngine):
            return InputError("This model does not count the tokens of a prompt.")
        return await _answered(lambda: engine.prompt_size(TextRequest(**request)))

    async def choice_probabilities(
        self, request: Mapping[str, Any], choices: Sequence[str]
    ) -> list[float] | MgemError | None:
        """Return the probabilities of choices, as `ChoosingEngine` does, or the error; None where it cannot tell."""
        engine = self._engine
        if not isinstance(engine, ChoosingEngine):
            return None
        return await _answered(lambda: engine.choice_probabilities(TextRequest(**request), choices))


class _Deployment:
    """The transport: the handle of the deployment."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        response = self._handle.options(stream=True).stream.remote(_sent(request))
        yield from read_stream(response, request.cancel.is_set)

    def prompt_size(self, request: TextRequest) -> PromptSize:
        size: PromptSize = _checked(self._handle.prompt_size.remote(_sent(request)).result())
        return size

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        found: list[float] = _checked(self._handle.choice_probabilities.remote(_sent(request), list(choices)).result())
        return found


def with_handle(model: ChatMiniGemini, handle: Any) -> ChatMiniGemini:
    """Return a chat model whose text engine is the deployment.

    Args:
        model: The chat model of the same name; its weights are not loaded.
        handle: Handle of the deployment.
    """
    return model.model_copy(update={"engine_factory": lambda name: open_handle_engine(handle)})


def open_handle_engine(handle: Any) -> TextEngine:
    """Return a text engine that can do what the deployment's can.

    Args:
        handle: Handle of the deployment.
    """
    return make_remote_engine(_Deployment(handle), handle.abilities.remote().result())


def _sent(request: TextRequest) -> dict[str, Any]:
    """Return the fields of a request that can be sent; files become bytes, as the other machine may not have them."""
    found = {each.name: getattr(request, each.name) for each in fields(request) if each.name != "cancel"}
    return found | {"dialogue": with_pictures(request.dialogue, without_files), "options": dict(request.options)}


async def _answered(call: Callable[[], Any]) -> Any:
    """Return what a blocking call returns, or its error."""
    try:
        return await asyncio.to_thread(call)
    except Exception as error:  # the caller raises it
        return as_our_error(error)


def _checked(answer: Any) -> Any:
    if isinstance(answer, MgemError):
        raise answer
    return answer

"""The models themselves, for commands of this package on the same machine; see `mgem_agent.resident`.

The agent runs in the command. Here is what it would load otherwise: the reasoner's text engine, and the generators.
These routes are not for other clients: their form changes with each release.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.remote_engine import EngineAbilities
from mgem_agent.chat_models.text_engine import ChoosingEngine, SizingEngine, TextEngine
from mgem_agent.errors import InputError, MgemError
from mgem_agent.resident.wire import (
    decode_pictures,
    decode_text_request,
    encode_drawing_event,
    encode_error,
    encode_text_event,
)
from mgem_agent.server.chat_request import read_body
from mgem_agent.server.event_stream import EventStream, ServerSentEvent
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.service import AgentService
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["engines_router"]

_Events = Generator[Mapping[str, Any], None, None]


def engines_router(service: AgentService) -> APIRouter:
    """Return the routes of the engines.

    Args:
        service: The parts of the server.
    """
    router = APIRouter(prefix="/engines")

    @router.post("/text/abilities")
    async def abilities(request: Request) -> Response:
        return await _answer(service, request, partial(_abilities, service))

    @router.post("/text/size")
    async def size(request: Request) -> Response:
        return await _answer(service, request, partial(_size, service, await _body(request)))

    @router.post("/text")
    async def text(request: Request) -> Response:
        return _stream(service, request, "text", partial(_pieces, service, await _body(request)))

    @router.post("/text/choices")
    async def choices(request: Request) -> Response:
        return _stream(service, request, "text", partial(_choices, service, await _body(request)))

    @router.post("/images/capabilities")
    async def capabilities(request: Request) -> Response:
        generator = service.generators.get(str((await _body(request)).get("generator")))
        return await _answer(service, request, lambda: generator.capabilities.model_dump(mode="json"))

    @router.post("/images")
    async def images(request: Request) -> Response:
        body = await _body(request)
        generator = service.generators.get(str(body.get("generator")))
        return _stream(service, request, "draw", partial(_drawings, generator, body))

    return router


def _abilities(service: AgentService) -> dict[str, bool]:
    return asdict(EngineAbilities.of(_text_engine(service)))


def _size(service: AgentService, body: Mapping[str, Any]) -> dict[str, Any]:
    engine = _text_engine(service)
    if not isinstance(engine, SizingEngine):
        raise InputError("The reasoner of this server does not count tokens.")
    return asdict(engine.prompt_size(decode_text_request(body)))


def _pieces(service: AgentService, body: Mapping[str, Any], cancel: threading.Event) -> _Events:
    asked = decode_text_request(body, cancel=cancel)
    with service.reasoner_slot():
        for event in _text_engine(service).stream(asked):
            yield encode_text_event(event)


def _choices(service: AgentService, body: Mapping[str, Any], cancel: threading.Event) -> _Events:
    engine = _text_engine(service)
    if not isinstance(engine, ChoosingEngine):
        raise InputError("The reasoner of this server does not weigh words.")
    asked = decode_text_request(body, cancel=cancel)
    if not isinstance(words := body.get("choices"), list):
        raise InputError(f"The request is not one of this release: choices must be a list of words, got {words!r}.")
    with service.reasoner_slot():
        yield {"choices": engine.choice_probabilities(asked, list(map(str, words)))}


def _drawings(generator: GatheringGenerator, body: Mapping[str, Any], cancel: threading.Event) -> _Events:
    try:
        requests = [ImageRequest.model_validate(each) for each in body["requests"]]
        pictures, num_previews = decode_pictures(body["pictures"]), int(body["num_previews"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The request is not one of this release: {error}") from error
    for event in generator.generate(requests, pictures=pictures, cancel=cancel, num_previews=num_previews):
        yield encode_drawing_event(event)


def _text_engine(service: AgentService) -> TextEngine:
    reasoner = service.reasoner
    if not (isinstance(reasoner, ChatMiniGemini) and reasoner.runs_here):
        raise InputError(f"The reasoner {service.reasoner_name!r} does not run in this server.")
    return reasoner.text_engine(reasoner.default_model_name())


async def _body(request: Request) -> dict[str, Any]:
    body = await read_body(request)
    if not isinstance(body, dict):
        raise InvalidRequestError(f"The body must be a JSON object, got {type(body).__name__}.")
    return body


async def _answer(service: AgentService, request: Request, find: Callable[[], Any]) -> Response:
    """Run a function in a thread, and return its result or its error."""

    def work(cancel: threading.Event) -> dict[str, Any]:
        try:
            return {"answer": find()}
        except MgemError as error:
            return {"error": encode_error(error)}

    return JSONResponse(await service.jobs.run(service.user(request), "engine", work, request=request))


def _stream(
    service: AgentService, request: Request, kind: str, events: Callable[[threading.Event], _Events]
) -> EventStream:
    """Return the events of a generator that runs in a thread; its error is the last one.

    The first event is sent at once, so that the connection is kept open while weights are loaded.
    """
    cancel = threading.Event()

    def work() -> _Events:
        try:
            with closing(events(cancel)) as found:
                yield from found
            yield {"complete": True}
        except MgemError as error:
            yield {"error": encode_error(error)}

    async def sent() -> AsyncGenerator[ServerSentEvent, None]:
        service.jobs.check_room()
        yield {"begun": True}
        running = service.jobs.stream(service.user(request), kind, work, abandon=cancel.set)
        try:
            async for event in running:
                yield event
        finally:
            await running.aclose()

    return EventStream(sent())

"""`/v1/responses`: the agent in OpenAI's newer protocol; create, retrieve, follow, cancel and delete responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mgem_agent.agent.messages import from_records
from mgem_agent.server.chat_request import read_body
from mgem_agent.server.event_stream import EventStream, ServerSentEvent
from mgem_agent.server.images import find_generator
from mgem_agent.server.responses_background import BackgroundRun, BackgroundRuns
from mgem_agent.server.responses_items import ItemWriter, item_list
from mgem_agent.server.responses_request import ResponsesBody, read_responses_body
from mgem_agent.server.responses_store import ResponseStore, SavedResponse
from mgem_agent.server.responses_turn import FINAL, ResponseTurn
from mgem_agent.server.security import User
from mgem_agent.server.service import AgentService
from mgem_agent.server.shared_runs import SharedRuns

__all__ = ["item_writer", "responses_router"]

TITLE_CHARS = 80
LOOK_AGAIN_S = 0.5
LOST = "The server was stopped before the response was finished. Send the request again."


def responses_router(service: AgentService) -> APIRouter:
    """Return the routes of responses.

    Args:
        service: The parts of the server.
    """
    router = APIRouter()
    runs = BackgroundRuns(service)
    _add_creating(router, service, runs)
    _add_reading(router, service, runs)
    return router


def _add_creating(router: APIRouter, service: AgentService, runs: BackgroundRuns) -> None:
    @router.post("/v1/responses")
    async def create(request: Request) -> Response:
        user = service.user(request)
        body = read_responses_body(await read_body(request))
        tool = body.image_tool
        generator = None if tool is None else find_generator(service, tool.model)
        turn = ResponseTurn(service, user, body, generator)
        title = _title(body)
        if body.background:
            run = await runs.begin(user, turn, title=title)
            return EventStream(_followed(run, -1)) if body.stream else JSONResponse(run.response)
        if body.stream:
            return EventStream(_stream(service, user, turn, title))
        response = await service.jobs.run(user, "response", turn.run, request=request, title=title, on_cancel=turn.stop)
        return JSONResponse(response)

    @router.post("/v1/responses/{response_id}/cancel")
    async def cancel(request: Request, response_id: str) -> Response:
        user = service.user(request)
        found = await runs.cancel(user, response_id)
        if found is None:
            found = await asyncio.to_thread(_retrieved, service, user, response_id)
            if found["status"] not in FINAL:
                await runs.cancel_elsewhere(user, response_id)
                found = await asyncio.to_thread(_retrieved, service, user, response_id)
            runs.check_cancelled(found)
        return JSONResponse(found)


def _add_reading(router: APIRouter, service: AgentService, runs: BackgroundRuns) -> None:
    @router.get("/v1/responses/{response_id}")
    async def retrieve(request: Request, response_id: str, stream: bool = False, starting_after: int = -1) -> Response:
        user = service.user(request)
        run = runs.get(user, response_id)
        if run is not None:
            return EventStream(_followed(run, starting_after)) if stream else JSONResponse(run.response)
        found = await asyncio.to_thread(_retrieved, service, user, response_id)
        return EventStream(_awaited(service, user, found)) if stream else JSONResponse(found)

    @router.get("/v1/responses/{response_id}/input_items")
    async def input_items(
        request: Request, response_id: str, after: str | None = None, limit: int | None = None, order: str | None = None
    ) -> Response:
        responses = _responses(service, request)
        saved = await asyncio.to_thread(responses.get, response_id)
        run = runs.get(service.user(request), response_id)
        writer = item_writer(service, request, responses)
        items = await asyncio.to_thread(_input_items, writer, saved, run)
        return JSONResponse(item_list(items, after=after, limit=limit, order=order))

    @router.delete("/v1/responses/{response_id}")
    async def delete(request: Request, response_id: str) -> Response:
        user = service.user(request)
        if await runs.cancel(user, response_id) is None:
            found = await asyncio.to_thread(_responses(service, request).get, response_id)
            if found.response["status"] not in FINAL:
                await runs.cancel_elsewhere(user, response_id)
        await asyncio.to_thread(_responses(service, request).delete, response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})


def item_writer(service: AgentService, request: Request, responses: ResponseStore) -> ItemWriter:
    """Return what writes messages as items for a client.

    Args:
        service: The parts of the server.
        request: The client's request.
        responses: The responses of the user.
    """
    url_of = partial(service.picture_url, service.user(request), request=request)
    return ItemWriter(url_of, responses.result)


async def _stream(
    service: AgentService, user: User, turn: ResponseTurn, title: str
) -> AsyncGenerator[ServerSentEvent, None]:
    events = service.jobs.stream(user, "response", turn.stream, abandon=turn.leave, title=title)
    async with aclosing(events):
        async for event in events:
            yield str(event["type"]), event


async def _followed(run: BackgroundRun, after: int) -> AsyncGenerator[ServerSentEvent, None]:
    async for event in run.follow(after):
        yield str(event["type"]), event


async def _awaited(
    service: AgentService, user: User, response: dict[str, Any]
) -> AsyncGenerator[ServerSentEvent, None]:
    """Yield the last event of a response, as soon as it has ended; the server that runs it has the others."""
    number, response_id = 0, str(response["id"])
    while response["status"] not in FINAL:
        if number == 0:
            yield "response.in_progress", {"type": "response.in_progress", "sequence_number": 0, "response": response}
            number = 1
        await asyncio.sleep(LOOK_AGAIN_S)
        response = await asyncio.to_thread(_retrieved, service, user, response_id)
    status = response["status"] if response["status"] in ("completed", "failed") else "incomplete"
    kind = f"response.{status}"
    yield kind, {"type": kind, "sequence_number": number, "response": response}


def _responses(service: AgentService, request: Request) -> ResponseStore:
    user = service.user(request)
    return ResponseStore(service.sessions(user), service.store(user))


def _retrieved(service: AgentService, user: User, response_id: str) -> dict[str, Any]:
    """Return a saved response. One without a last status runs on another server, or was lost with its server."""
    responses, shared = ResponseStore(service.sessions(user), service.store(user)), SharedRuns(service.sessions(user))
    found = responses.whole(responses.get(response_id))
    if found["status"] in FINAL or shared.is_running(response_id):
        return found
    found = responses.whole(responses.get(response_id))  # it may have ended in between
    if found["status"] in FINAL:
        return found
    return found | {"status": "failed", "error": {"code": "server_error", "message": LOST}}


def _input_items(writer: ItemWriter, saved: SavedResponse, run: BackgroundRun | None) -> list[dict[str, Any]]:
    given = run.turn.given if run is not None else [dict(record) for record in saved.given]
    key = str(saved.response["id"]).removeprefix("resp_")
    own_system = run.turn.own_system if run is not None else saved.own_system
    return list(writer.items(from_records(given), key=key, system=own_system))


def _title(body: ResponsesBody) -> str:
    """Return the beginning of the input's last text."""
    if isinstance(body.input, str):
        return body.input.strip()[:TITLE_CHARS]
    for item in reversed(body.input):
        if item.get("role") == "user":
            content = item.get("content")
            parts = [{"text": content}] if isinstance(content, str) else content
            texts = [str(part.get("text") or "") for part in parts or () if isinstance(part, dict)]
            return " ".join(texts).strip()[:TITLE_CHARS]
    return ""

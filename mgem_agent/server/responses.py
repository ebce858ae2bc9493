"""`POST /v1/responses`, and `GET` and `DELETE /v1/responses/{id}`: the agent in OpenAI's newer protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mgem_agent.server.chat_request import read_body
from mgem_agent.server.event_stream import EventStream, ServerSentEvent
from mgem_agent.server.images import find_generator
from mgem_agent.server.responses_request import ResponsesBody, read_responses_body
from mgem_agent.server.responses_store import ResponseStore
from mgem_agent.server.responses_turn import ResponseTurn
from mgem_agent.server.security import User
from mgem_agent.server.service import AgentService

__all__ = ["responses_router"]

TITLE_CHARS = 80


def responses_router(service: AgentService) -> APIRouter:
    """Return the routes of responses.

    Args:
        service: The parts of the server.
    """
    router = APIRouter()

    @router.post("/v1/responses")
    async def create(request: Request) -> Response:
        user = service.user(request)
        body = read_responses_body(await read_body(request))
        tool = body.image_tool
        generator = None if tool is None else find_generator(service, tool.model)
        turn = ResponseTurn(service, user, body, generator)
        if body.stream:
            return EventStream(_stream(service, user, body, turn))
        title = _title(body)
        response = await service.jobs.run(user, "response", turn.run, request=request, title=title, on_cancel=turn.stop)
        return JSONResponse(response)

    @router.get("/v1/responses/{response_id}")
    async def retrieve(request: Request, response_id: str) -> Response:
        return JSONResponse(await asyncio.to_thread(_retrieved, _responses(service, request), response_id))

    @router.delete("/v1/responses/{response_id}")
    async def delete(request: Request, response_id: str) -> Response:
        await asyncio.to_thread(_responses(service, request).delete, response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    return router


async def _stream(
    service: AgentService, user: User, body: ResponsesBody, turn: ResponseTurn
) -> AsyncGenerator[ServerSentEvent, None]:
    events = service.jobs.stream(user, "response", turn.stream, abandon=turn.stop, title=_title(body))
    async with aclosing(events):
        async for event in events:
            yield str(event["type"]), event


def _responses(service: AgentService, request: Request) -> ResponseStore:
    user = service.user(request)
    return ResponseStore(service.sessions(user), service.store(user))


def _retrieved(responses: ResponseStore, response_id: str) -> dict[str, Any]:
    return responses.whole(responses.get(response_id))


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

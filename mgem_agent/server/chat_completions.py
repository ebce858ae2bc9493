"""`POST /v1/chat/completions`: the agent as a chat model of OpenAI's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mgem_agent.server.chat_answer import ChatWriter
from mgem_agent.server.chat_request import ChatRequest, read_body, read_request
from mgem_agent.server.chat_turn import ChatTurn
from mgem_agent.server.event_stream import EventStream, ServerSentEvent
from mgem_agent.server.security import User
from mgem_agent.server.service import AGENT_MODEL, AgentService

__all__ = ["chat_router"]

DONE = "[DONE]"
TITLE_CHARS = 80


def chat_router(service: AgentService) -> APIRouter:
    """Return the route of chat completions.

    Args:
        service: The parts of the server.
    """
    router = APIRouter()

    @router.post("/v1/chat/completions", response_class=JSONResponse)
    async def chat_completions(request: Request) -> Response:
        user = service.user(request)
        asked = read_request(await read_body(request))
        turn = ChatTurn(service, user, asked)
        writer = ChatWriter(
            asked.model or AGENT_MODEL,
            partial(service.picture_url, user, request=request),
            service.store(user),
            images_as=service.settings.images_as,
            shows_drawn=not service.look(asked.look),
        )
        if asked.stream:
            return EventStream(_chunks(service, user, asked, turn, writer))
        answer = await service.jobs.run(
            user, "chat", turn.run, request=request, title=_title(asked), on_cancel=turn.stop
        )
        body = (
            writer.completion(answer)
            if not answer.turn.pictures
            else await asyncio.to_thread(writer.completion, answer)
        )
        return JSONResponse(body)

    return router


async def _chunks(
    service: AgentService, user: User, asked: ChatRequest, turn: ChatTurn, writer: ChatWriter
) -> AsyncGenerator[ServerSentEvent, None]:
    """Yield the chunks of a streamed answer."""
    events = service.jobs.stream(user, "chat", turn.stream, abandon=turn.stop, title=_title(asked))
    has_begun = False
    async with aclosing(events):
        async for event in events:
            if not has_begun:
                has_begun = True
                yield writer.first_chunk()
            for chunk in writer.chunks(event, turn.answer):
                yield chunk
    if asked.include_usage and turn.answer is not None:
        yield writer.usage_chunk(turn.answer.usage)
    yield DONE


def _title(asked: ChatRequest) -> str:
    """Return the beginning of the last user message."""
    for message in reversed(asked.messages):
        if message.role == "user":
            content = message.content
            parts = [{"text": content}] if isinstance(content, str) else content or []
            return " ".join(str(part.get("text") or "") for part in parts).strip()[:TITLE_CHARS]
    return ""

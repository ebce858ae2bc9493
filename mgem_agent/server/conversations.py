"""`/v1/conversations`: dialogues that the server keeps, which responses are added to by name."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.server.chat_messages import read_messages
from mgem_agent.server.chat_request import read_body
from mgem_agent.server.conversation_store import Conversation, ConversationStore
from mgem_agent.server.http_errors import InvalidRequestError, NotFoundError
from mgem_agent.server.picture_wishes import read_fields
from mgem_agent.server.responses import item_writer
from mgem_agent.server.responses_input import read_items
from mgem_agent.server.responses_items import ItemWriter, item_list
from mgem_agent.server.responses_store import ResponseStore
from mgem_agent.server.service import AgentService

__all__ = ["conversations_router"]

MAX_ITEMS = 20


class _Body(BaseModel):
    """A request for a conversation, or to add items to one."""

    model_config = ConfigDict(extra="ignore")

    items: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_ITEMS)
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16)


def conversations_router(service: AgentService) -> APIRouter:
    """Return the routes of conversations.

    Args:
        service: The parts of the server.
    """
    router = APIRouter()
    _add_conversations(router, service)
    _add_items(router, service)
    return router


def _add_conversations(router: APIRouter, service: AgentService) -> None:
    @router.post("/v1/conversations")
    async def create(request: Request) -> Response:
        data = await request.body()
        body = _read(await read_body(request) if data.strip() else {})
        made = await asyncio.to_thread(_Desk(service, request).create, body)
        return JSONResponse(made.described)

    @router.get("/v1/conversations/{conversation_id}")
    async def retrieve(request: Request, conversation_id: str) -> Response:
        found = await asyncio.to_thread(_Desk(service, request).store.get, conversation_id)
        return JSONResponse(found.described)

    @router.post("/v1/conversations/{conversation_id}")
    async def update(request: Request, conversation_id: str) -> Response:
        metadata = _read(await read_body(request)).metadata
        changed = await asyncio.to_thread(_Desk(service, request).store.update, conversation_id, metadata)
        return JSONResponse(changed.described)

    @router.delete("/v1/conversations/{conversation_id}")
    async def delete(request: Request, conversation_id: str) -> Response:
        await asyncio.to_thread(_Desk(service, request).store.delete, conversation_id)
        return JSONResponse({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


def _add_items(router: APIRouter, service: AgentService) -> None:
    @router.get("/v1/conversations/{conversation_id}/items")
    async def list_items(
        request: Request,
        conversation_id: str,
        after: str | None = None,
        limit: int | None = None,
        order: str | None = None,
    ) -> Response:
        items = await asyncio.to_thread(_Desk(service, request).items, conversation_id)
        return JSONResponse(item_list(items, after=after, limit=limit, order=order))

    @router.post("/v1/conversations/{conversation_id}/items")
    async def add(request: Request, conversation_id: str) -> Response:
        body = _read(await read_body(request))
        if not body.items:
            raise InvalidRequestError(f"items is empty. Give 1 to {MAX_ITEMS} items.", param="items")
        added = await asyncio.to_thread(_Desk(service, request).add, conversation_id, body.items)
        return JSONResponse(item_list(added, after=None, limit=100, order="asc"))

    @router.get("/v1/conversations/{conversation_id}/items/{item_id}")
    async def item(request: Request, conversation_id: str, item_id: str) -> Response:
        items = await asyncio.to_thread(_Desk(service, request).items, conversation_id)
        found = next((each for each in items if each["id"] == item_id), None)
        if found is None:
            raise NotFoundError(f"There is no item {item_id[:80]!r} in this conversation.")
        return JSONResponse(found)


class _Desk:
    """What the routes do for the user of a request.

    Args:
        service: The parts of the server.
        request: The client's request.
    """

    def __init__(self, service: AgentService, request: Request) -> None:
        user = service.user(request)
        self._settings = service.settings
        self._pictures = service.store(user)
        self._responses = ResponseStore(service.sessions(user), self._pictures)
        self._writer: ItemWriter = item_writer(service, request, self._responses)
        self.store = ConversationStore(service.sessions(user), self._responses)

    def create(self, body: _Body) -> Conversation:
        """Create a conversation with its first items."""
        read = self._read(body.items)
        made = self.store.create(body.metadata)
        self.store.add_messages(made, *read)
        return made

    def add(self, conversation_id: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add items, and return them."""
        known = self.store.get(conversation_id)
        messages, system = self._read(items)
        turn = self.store.add_messages(known, messages, system)
        return list(self._writer.items(messages, key=turn, system=system))

    def items(self, conversation_id: str) -> list[dict[str, Any]]:
        """Return the items of a conversation, oldest first."""
        known = self.store.get(conversation_id)
        turns = self.store.messages(known)
        head = self._writer.items([], key=known.id.removeprefix("conv_"), system=known.system)
        return [*head, *(item for turn, messages in turns for item in self._writer.items(messages, key=turn))]

    def _read(self, items: list[dict[str, Any]]) -> tuple[list[Any], list[str]]:
        """Return the messages of items, and the system messages."""
        given = read_items(items, self._responses.find_drawn)
        limits: dict[str, Any] = {
            "max_pictures": self._settings.max_pictures_in,
            "allow_urls": self._settings.allow_urls,
        }
        system, messages = read_messages(given, self._pictures, **limits)
        return messages, system


def _read(given: Any) -> _Body:
    if not isinstance(given, dict):
        raise InvalidRequestError(f"The body is a {type(given).__name__!r}. Send a JSON object.")
    return read_fields(_Body, given)

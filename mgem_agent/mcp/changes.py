"""Tell clients that resources have changed: new pictures and books, and books whose text or pictures are new.

Decisions that matter:

- **The folders are watched while somebody listens**, once a second and after each call. So a client also learns of what
  another client, the page or the command line has made, in this process or another.
- **In the version of 2026-07-28**, a client opens a stream (`subscriptions/listen`). **Earlier**, it subscribes to
  resources one by one, and notices about the list go to every client that was active in the last minutes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)
from mcp.types import SubscriptionsListenRequestParams, SubscriptionsListenResult
from mcp.types.version import is_version_at_least

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.mcp.book_answer import book_uri
from mgem_agent.mcp.books import Books
from mgem_agent.mcp.call import INPUT_REQUIRED_VERSION

__all__ = ["BELOW_A_BOOK", "ResourceChanges"]

BELOW_A_BOOK = ("", "/book.html", "/story.json")
"""What follows a book's address in the addresses of its resources."""

POLL_S = 1.0
ACTIVE_S = 600.0
MAX_CLIENTS = 1_000

Context = ServerRequestContext[Any, Any]

_log = logging.getLogger(__name__)


@dataclass
class _Client:
    """A client of an earlier version, which has a connection of its own.

    Attributes:
        session: Sends to the client.
        uris: Resources that it has subscribed to.
        active: When it sent its last request, by `time.monotonic()`.
    """

    session: Any
    uris: set[str] = field(default_factory=set)
    active: float = field(default_factory=time.monotonic)


class ResourceChanges:
    """Watches the pictures and books of one user, and tells the clients that listen.

    Args:
        store: The pictures.
        books: The books.
    """

    def __init__(self, store: ArtifactStore, books: Books) -> None:
        self._store = store
        self._books = books
        self._bus = InMemorySubscriptionBus()
        self._listening = ListenHandler(self)
        self._num_streams = 0
        self._clients: OrderedDict[int, _Client] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._soon = asyncio.Event()

    async def listen(self, context: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Serve a stream of notices until the client closes it (2026-07-28)."""
        return await self._listening(context, params)

    def note_client(self, context: Context) -> None:
        """Note that a client of an earlier version is active."""
        if is_version_at_least(context.protocol_version, INPUT_REQUIRED_VERSION):
            return
        client = self._client(context)
        client.session, client.active = context.session, time.monotonic()
        self._watch()

    def add_resource(self, context: Context, uri: str) -> None:
        """Subscribe a client of an earlier version to a resource."""
        self._client(context).uris.add(uri)
        self._watch()

    def remove_resource(self, context: Context, uri: str) -> None:
        """End the subscription of a client of an earlier version."""
        self._client(context).uris.discard(uri)

    def check_soon(self) -> None:
        """Look for changes at once; called on the event loop after a call that may have made some."""
        self._soon.set()

    def close(self) -> None:
        """End all streams, because the server is being stopped."""
        self._listening.close()
        if self._task is not None:
            self._task.cancel()

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register what is told of each change, and return what ends it; as a `SubscriptionBus`."""
        end = self._bus.subscribe(listener)
        self._num_streams += 1
        self._watch()

        def ended() -> None:
            end()
            self._num_streams -= 1

        return ended

    async def publish(self, event: ServerEvent) -> None:
        """Tell every client that listens for a change; as a `SubscriptionBus`."""
        await self._bus.publish(event)
        for client in list(self._clients.values()):
            if isinstance(event, ResourceUpdated):
                if event.uri in client.uris:
                    await client.session.send_resource_updated(event.uri)
            elif time.monotonic() - client.active < ACTIVE_S:
                await client.session.send_resource_list_changed()

    def _client(self, context: Context) -> _Client:
        # A session is made for each request; its client's parameters belong to the connection.
        key = id(context.session.client_params)
        if key not in self._clients:
            self._clients[key] = _Client(context.session)
        self._clients.move_to_end(key)
        while len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return self._clients[key]

    @property
    def _is_wanted(self) -> bool:
        now = time.monotonic()
        return self._num_streams > 0 or any(
            client.uris or now - client.active < ACTIVE_S for client in self._clients.values()
        )

    def _watch(self) -> None:
        if self._task is None or self._task.done():
            self._soon = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._watching(self._found()))

    async def _watching(self, before: _Found) -> None:
        while self._is_wanted:
            try:
                await asyncio.wait_for(self._soon.wait(), POLL_S)
            except TimeoutError:
                pass
            self._soon.clear()
            try:
                found = await asyncio.to_thread(self._found)
            except OSError:
                _log.warning("The folders of pictures and books cannot be read", exc_info=True)
                continue
            for event in found.changes_since(before):
                await self.publish(event)
            before = found

    def _found(self) -> _Found:
        return _Found(self._store.revision(), self._books.revisions())


@dataclass(frozen=True, slots=True)
class _Found:
    """What the folders have.

    Attributes:
        pictures: Differs if pictures were added or deleted.
        books: For each book, what differs if it has changed.
    """

    pictures: object
    books: dict[str, object]

    def changes_since(self, before: _Found) -> list[ServerEvent]:
        """Return the events for what has changed."""
        events: list[ServerEvent] = []
        if self.pictures != before.pictures or self.books.keys() != before.books.keys():
            events.append(ResourcesListChanged())
        changed = [name for name, state in self.books.items() if before.books.get(name, state) != state]
        events += [ResourceUpdated(book_uri(name) + below) for name in changed for below in BELOW_A_BOOK]
        return events

"""Notices of changed resources, in both versions of the protocol, and of what others have made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPDeprecationWarning
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.mcp import Books, make_server
from mgem_agent.mcp import changes as changes_module
from mgem_agent.mcp.changes import ResourceChanges

SCENES = [{"text": "A mouse finds a key.", "caption": "a mouse with a golden key"}]
BOOK = {"title": "The key", "scenes": SCENES, "cast": [{"name": "Mouse", "looks": "a grey mouse"}]}
LIST_CHANGED = "list changed"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "POLL_S", 0.05)


class Notices:
    """The notices that a client got: `list changed`, or the address of a changed resource."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def add(self, event: Any) -> None:
        self.seen.append(event.uri if isinstance(event, ResourceUpdated) else LIST_CHANGED)

    async def note(self, message: Any) -> None:
        """Note a message of a server that speaks an earlier version."""
        method = getattr(message, "method", "")
        if method == "notifications/resources/updated":
            self.seen.append(str(message.params.uri))
        elif method == "notifications/resources/list_changed":
            self.seen.append(LIST_CHANGED)

    async def until(self, notice: str) -> None:
        async with asyncio.timeout(10):
            while notice not in self.seen:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def noticing(parts: Any, version: str, *uris: str) -> AsyncIterator[tuple[Client, Notices]]:
    """Connect a client that listens for changes of the list and of some resources."""
    notices = Notices()
    mode = "auto" if version == "2026-07-28" else "legacy"
    async with Client(make_server(parts), mode=mode, message_handler=notices.note) as client:
        offered = client.server_capabilities.resources
        assert offered is not None and offered.list_changed and offered.subscribe
        if version != "2026-07-28":
            for uri in uris:
                with pytest.warns(MCPDeprecationWarning):
                    await client.subscribe_resource(uri)
            await client.list_resources()
            yield client, notices
            return
        async with client.listen(resources_list_changed=True, resource_subscriptions=uris) as stream:

            async def read() -> None:
                async for event in stream:
                    notices.add(event)

            reading = asyncio.create_task(read())
            yield client, notices
            reading.cancel()


async def test_a_drawn_picture_changes_the_list(make_parts: Any, version: str) -> None:
    async with noticing(make_parts(), version) as (client, notices):
        await client.call_tool("draw", {"prompt": "a fox"})
        await notices.until(LIST_CHANGED)


async def test_a_book_that_changes_is_named_to_those_who_asked(make_parts: Any, version: str) -> None:
    parts = make_parts()
    async with Client(make_server(parts)) as teller:
        told = (await teller.call_tool("tell_story", BOOK)).structured_content
        html = told["uri"] + "/book.html"
        async with noticing(parts, version, told["uri"], html) as (_, notices):
            changed = {"book": told["book"], "page": 1, "text": "A mouse finds two keys.", "decision": "approve"}
            await teller.call_tool("story_continue", changed)
            await notices.until(told["uri"])
            await notices.until(html)
            assert not any(seen.endswith("story.json") for seen in notices.seen)


async def test_what_another_program_stores_is_noticed(make_parts: Any, store: ArtifactStore, version: str) -> None:
    async with noticing(make_parts(), version) as (_, notices):
        ArtifactStore(store.root).put_picture(Image.new("RGB", (8, 8), "red"), origin="red.png")
        await notices.until(LIST_CHANGED)


async def test_nothing_is_watched_when_nobody_listens(
    store: ArtifactStore, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ResourceChanges(store, Books(tmp_path / "books"))
    seen: list[Any] = []
    end = changes.subscribe(seen.append)
    task = changes._task  # pyright: ignore[reportPrivateUsage]
    assert task is not None
    await asyncio.sleep(0.1)
    store.put_picture(Image.new("RGB", (8, 8), "red"), origin="red.png")
    async with asyncio.timeout(5):
        while not seen:
            await asyncio.sleep(0.01)
    assert set(seen) == {ResourcesListChanged()}
    end()
    await asyncio.wait([task], timeout=5)
    assert task.done()
    store.put_picture(Image.new("RGB", (8, 8), "blue"), origin="blue.png")
    seen.clear()
    await asyncio.sleep(0.15)
    assert seen == []


async def test_a_stop_ends_the_streams(make_parts: Any) -> None:
    parts = make_parts()
    server = make_server(parts)
    async with Client(server) as client:
        async with client.listen(resources_list_changed=True) as stream:
            server.end_streams()
            async with asyncio.timeout(5):
                assert [event async for event in stream] == []

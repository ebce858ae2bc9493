"""A server in this process, with a scripted reasoner and a generator of coloured cards."""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.server.app import create_app
from mgem_agent.server.security import Access
from mgem_agent.server.service import AgentService
from mgem_agent.server.serving import GracefulServer
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.settings import Settings, load_settings
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

BASE = "http://127.0.0.1:8765"


def settings_of(folder: Path, **server: Any) -> Settings:
    return load_settings(
        model="scripted", generator="flat", store=folder / "images", sessions=str(folder / "sessions"), server=server
    )


@pytest.fixture
def open_service(tmp_path: Path) -> Iterator[Callable[..., AgentService]]:
    """Opens the parts of a server: its script, its generator and its settings."""

    def opened(
        script: Any = ("Hello.",),
        generator: Any = None,
        access: Access | None = None,
        reasoner: Any = None,
        sessions: Sessions | None = None,
        **server: Any,
    ) -> AgentService:
        generator = generator or FlatColourGenerator(size=(64, 48))
        return AgentService(
            settings_of(tmp_path, **server),
            reasoner=reasoner or ScriptedReasoner(script=script, is_endless=True),
            generators=["flat"],
            make_generator=lambda name: generator,
            store=ArtifactStore(tmp_path / "images"),
            sessions=sessions or Sessions.in_memory(),
            access=access,
        )

    yield opened


@pytest.fixture
def client_of() -> Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]:
    """Opens a client of a server in this process; the server is closed at the end."""
    return _client_of


@asynccontextmanager
async def _client_of(
    service: AgentService, token: str | None = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers, **options) as client:
        try:
            yield client
        finally:
            await service.close()


@pytest.fixture
def running() -> Callable[..., AbstractContextManager[str]]:
    """Runs a server on a free port of this machine, in a thread; yields its address."""
    return _running


@contextmanager
def _running(service: AgentService, **options: Any) -> Iterator[str]:
    ready: queue.SimpleQueue[str] = queue.SimpleQueue()
    given = {"timeout_graceful_shutdown": 10, **options}  # as `serve` limits it, too
    config = uvicorn.Config(create_app(service), port=0, log_config=None, access_log=False, **given)
    server = GracefulServer(config, service, ready.put)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield ready.get(timeout=10)
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()

"""`mgem serve --mcp`: MCP clients share the queue, the tokens and the pictures of the HTTP server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.mcp_mount import mcp_mount
from mgem_agent.server.app import create_app
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.server.security import Access, User
from mgem_agent.server.service import AgentService
from mgem_agent.sessions import Sessions
from mgem_agent.settings import load_settings
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools.spending import costs_money

TOKENS = {"the-token-of-ann-1": User("ann", "ann"), "the-token-of-bob-1": User("bob", "bob")}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_users_draw_into_their_own_stores_through_one_queue(tmp_path: Path, mode: str) -> None:
    service = AgentService(
        load_settings(model="scripted", generator="flat", store=tmp_path, sessions=str(tmp_path / "sessions")),
        reasoner=ScriptedReasoner(script=["Red."], is_endless=True),
        generators=["flat"],
        make_generator=lambda name: FlatColourGenerator(size=(48, 32)),
        store=ArtifactStore(tmp_path),
        sessions=Sessions.in_memory(),
        access=Access(TOKENS),
    )
    ended: list[str] = []
    run = service.jobs.run

    async def noted(user: User, kind: str, work: Any, **options: Any) -> Any:
        ended.append(f"{user.name} {kind}")
        return await run(user, kind, work, **options)

    service.jobs.run = noted  # type: ignore[method-assign]
    server = uvicorn.Server(uvicorn.Config(create_app(service, [mcp_mount(service)]), port=0, log_config=None))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        for token, user in TOKENS.items():
            async with (
                create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http,
                Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
            ):
                drawn = await client.call_tool("draw", {"prompt": f"the fox of {user.name}"})
                picture = drawn.structured_content["picture"]["id"]
                assert service.store(user).get(picture).title == f"the fox of {user.name}"
                seen = await client.call_tool("look", {"image": picture, "question": "Which colour?"})
                assert seen.structured_content["answer"] == "Red."
        assert ended == ["ann draw", "ann look", "bob draw", "bob look"]
        async with httpx.AsyncClient() as plain:
            assert (await plain.post(f"{url}/mcp", json={})).status_code == 401
            assert (await plain.get(f"{url}/health")).status_code == 200
    finally:
        server.should_exit = True
        await running


def test_a_shared_generator_still_costs_money() -> None:
    class Charged(FlatColourGenerator):
        costs_money = True

    assert costs_money(GatheringGenerator(Charged())) and not costs_money(GatheringGenerator(FlatColourGenerator()))

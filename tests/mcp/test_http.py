"""Streamable HTTP on loopback: a server of its own, the checks of requests, and an application to mount."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.mcp import mcp_app
from mgem_agent.mcp.http import BearerToken, read_address

MODES = {"2026-07-28": "auto", "2025-11-25": "legacy"}
TOKEN = "a-token-for-this-test"


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Run an application on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await running


async def test_a_client_draws_and_answers_over_http(make_parts: Any, version: str, person: Any) -> None:
    seen: list[float] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        seen.append(done)

    asked = person({"caption": "a red fox"})
    async with serving(mcp_app(make_parts(confirm=True))) as url:
        async with Client(url, mode=MODES[version], elicitation_callback=asked) as client:
            assert client.protocol_version == version
            result = await client.call_tool("draw", {"prompt": "a fox"}, progress_callback=on_progress)
            assert result.structured_content["picture"]["prompt"] == "a red fox"
            assert seen and len(asked.questions) == 1
            link = result.structured_content["picture"]["uri"]
            assert (await client.read_resource(link)).contents[0].mime_type == "image/png"


async def test_the_parts_may_depend_on_the_request(make_parts: Any, version: str, tmp_path: Path) -> None:
    stores: dict[str, ArtifactStore] = {}

    def parts_of(request: Any) -> Any:
        name = request.headers["authorization"].removeprefix("Bearer ")
        return make_parts(store=stores.setdefault(name, ArtifactStore(tmp_path / name)))

    async with serving(mcp_app(parts_of)) as url:
        for name in ("ann", "bob"):
            async with (
                create_mcp_http_client(headers={"Authorization": f"Bearer {name}"}) as http,
                Client(streamable_http_client(url, http_client=http), mode=MODES[version]) as client,
            ):
                await client.call_tool("draw", {"prompt": f"the fox of {name}"})
    assert {name: store.list()[0].title for name, store in stores.items()} == {
        "ann": "the fox of ann", "bob": "the fox of bob",
    }  # fmt: skip


async def test_a_token_is_required_where_one_is_set(make_parts: Any) -> None:
    async with serving(BearerToken(mcp_app(make_parts()), TOKEN)) as url, httpx.AsyncClient() as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = await http.post(url, json={}, headers=headers)
            assert answer.status_code == 401 and "Authorization: Bearer TOKEN" in answer.text
        answer = await http.post(url, json={}, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code != 401


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8766", ("127.0.0.1", 8766)),
        (":0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("box.local:8766", ("box.local", 8766)),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert read_address(text) == expected


@pytest.mark.parametrize("text", ["", "8766", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="Give HOST:PORT"):
        read_address(text)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`mgem mcp --http` in a process of its own."""
    folders = {"MGEM_HOME": str(tmp_path), "MGEM_CONFIG": str(tmp_path / "none.toml")}
    code = "from mgem_agent.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "mcp", "--http", "127.0.0.1:0", "-g", "flat"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **folders, "PYTHONUNBUFFERED": "1"},
    )
    with process:  # which closes its pipe
        yield process
        process.kill()


async def test_the_command_serves_checks_the_host_and_stops(command: Any) -> None:
    line = await asyncio.to_thread(command.stdout.readline)
    url = re.fullmatch(r"Serving MCP at (http://127\.0\.0\.1:\d+/mcp)\n", line)[1]  # type: ignore[index]
    async with Client(url) as client:
        result = await client.call_tool("draw", {"prompt": "a fox"})
        assert result.structured_content["picture"]["generator"] == "flat"
    async with httpx.AsyncClient() as http:
        for headers, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)):
            assert (await http.post(url, json={}, headers=headers)).status_code == status
    async with Client(url) as client, client.listen(resources_list_changed=True) as stream:
        command.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert [event async for event in stream] == []  # it is ended, and does not delay the stop
    assert await asyncio.to_thread(command.wait, 20) in (0, -signal.SIGTERM)
    told = command.stderr.read().splitlines()
    assert told == ["Invalid Host header: evil.example", "Invalid Origin header: http://evil.example"]

"""`mgem serve`: its ready line, its options, and that it stops at SIGTERM without losing a request."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from typer.testing import CliRunner

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli import serve as serve_command
from mgem_agent.cli.app import app
from mgem_agent.cli.mcp_mount import mcp_mount
from mgem_agent.cli.server_parts import open_service
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.settings import load_settings
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

READY = r"Serving at (http://127\.0\.0\.1:\d+) \(model: http://127\.0\.0\.1:9/v1#m, generator: flat\)\n"


def test_the_options_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(serve_command, "run_server", lambda *arguments, **options: seen.append((arguments, options)))
    line = [
        "serve",
        "-m",
        "ollama:x",
        "-g",
        "flat",
        "-g",
        "nano",
        "--host",
        "::1",
        "--port",
        "0",
        "--look",
        "1",
        "--mcp",
    ]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    [((settings, generators), options)] = seen
    assert options == {"mcp": True}
    assert (settings.model, settings.generator, settings.look) == ("ollama:x", "flat", 1)
    assert (settings.server.host, settings.server.port, generators) == ("::1", 0, ["flat", "nano"])


def test_a_generator_that_is_unknown_is_told_at_the_start(tmp_path: Path) -> None:
    line = ["serve", "-m", "http://127.0.0.1:9/v1#m", "-g", "flt", "--port", "0", "--store", str(tmp_path)]
    result = CliRunner().invoke(app, line, env={"MGEM_HOME": str(tmp_path)})
    assert result.exit_code == 1
    assert "There is no generator 'flt'. Did you mean 'flat'?" in result.stderr


def test_the_service_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(
        generator="flat",
        generator_options={"size": [40, 30]},
        store=tmp_path / "images",
        sessions=str(tmp_path / "sessions"),
        picture={"seed": 7},
        draw="always",
    )
    service = open_service(settings, reasoner=ScriptedReasoner(script=["<h>a fox</h>"]))
    user = serve_command._local_user()  # pyright: ignore[reportPrivateUsage]
    turn = service.agent(user).invoke("Draw.", session="fox")
    service.generators.close()
    service.sessions(user).close()
    artifact = service.store(user).get(turn.pictures[0].artifact_id)
    assert (artifact.width, artifact.height, artifact.seed) == (40, 30, 7)


async def test_mcp_on_the_same_server(tmp_path: Path) -> None:
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    from mgem_agent.server.app import create_app
    from mgem_agent.server.security import Access, User
    from mgem_agent.server.service import AgentService

    alice = User("alice", "alice")
    settings = load_settings(model="scripted", generator="flat", store=tmp_path / "images")
    service = AgentService(
        settings,
        reasoner=ScriptedReasoner(script=["Yes."]),
        generators=["flat"],
        make_generator=lambda name: FlatColourGenerator(size=(16, 16)),
        store=ArtifactStore(tmp_path / "images"),
        sessions=Sessions.in_memory(),
        access=Access(users={"alice-0123456789abcdef": alice}),
    )
    server = uvicorn.Server(uvicorn.Config(create_app(service, [mcp_mount(service)]), port=0, log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/mcp", json={})).status_code == 401
    async with create_mcp_http_client(headers={"Authorization": "Bearer alice-0123456789abcdef"}) as http_client:
        async with Client(streamable_http_client(f"{url}/mcp", http_client=http_client)) as client:
            result = await client.call_tool("draw", {"prompt": "a fox"})
    server.should_exit = True
    await task
    assert result.structured_content is not None and result.structured_content["picture"]["prompt"] == "a fox"
    assert [each.title for each in service.store(alice).list()] == ["a fox"]
    assert b'mgem_pictures_total{generator="flat",outcome="drawn"} 1.0' in service.metrics.text()


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "a-token-of-my-own-1"])
def test_it_serves_until_sigterm_and_finishes_what_runs(tmp_path: Path, token: str | None) -> None:
    environment = {**os.environ, "MGEM_HOME": str(tmp_path), "MGEM_GENERATOR_OPTIONS": '{"delay_s": 2}'}
    environment |= {"MGEM_SERVER_TOKEN": token} if token else {}
    arguments = ["-m", "http://127.0.0.1:9/v1#m", "-g", "flat", "--port", "0"]
    command = [sys.executable, "-m", "mgem_agent", "serve", *arguments]
    errors = tmp_path / "errors.txt"
    with (
        errors.open("w") as file,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=file, text=True) as server,
    ):
        try:
            _ask_and_stop(server, token)
        finally:
            server.kill()
    assert "Traceback" not in errors.read_text()
    assert len(list(tmp_path.rglob("img-*.png"))) == 1


def _ask_and_stop(server: subprocess.Popen[str], token: str | None) -> None:
    assert server.stdout is not None
    ready = server.stdout.readline()
    found = re.search(READY, ready)
    assert found, ready
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=found[1], headers=headers, timeout=30) as client, ThreadPoolExecutor(1) as pool:
        models = [each["id"] for each in client.get("/v1/models").json()["data"]]
        assert models == ["mgem", "http://127.0.0.1:9/v1#m", "flat"]
        assert httpx.get(f"{found[1]}/v1/models").status_code == (401 if token else 200)
        drawing = pool.submit(client.post, "/v1/images/generations", json={"prompt": "a fox"})
        while client.get("/health").json()["running"] == 0:
            pass
        server.send_signal(signal.SIGTERM)
        answer = drawing.result(30)
        assert answer.status_code == 200 and answer.json()["data"][0]["b64_json"]
    assert server.wait(30) in (0, -signal.SIGTERM)

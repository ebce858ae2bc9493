"""`mgem mcp` over real pipes: a quick start, a clean stdout, both versions of the protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

MODES = {"2026-07-28": "auto", "2025-11-25": "legacy"}
COMMAND = "from mgem_agent.cli import main; main()"

NOISY = """
import os, subprocess, sys, warnings
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.mcp import Books, McpParts, serve_stdio
from mgem_agent.testing import FlatColourGenerator

class Noisy(FlatColourGenerator):
    def generate(self, requests, **options):
        print("a print without a flush")
        os.write(1, b"a write of a library in C\\n")
        subprocess.run(["echo", "a child process"])
        warnings.warn("a warning")
        yield from super().generate(requests, **options)

home = sys.argv[1]
serve_stdio(McpParts(generators=["flat"], make_generator=lambda name: Noisy(), store=ArtifactStore(home + "/pictures"),
                     books=Books(home + "/books")))
"""


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "MGEM_HOME": str(folder), "MGEM_CONFIG": str(folder / "none.toml")}


async def test_a_client_starts_the_command_and_draws(version: str, tmp_path: Path) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-c", COMMAND, "mcp", "-g", "flat"], env=environment(tmp_path)
    )
    async with Client(server, mode=MODES[version]) as client:
        assert client.protocol_version == version
        result = await client.call_tool("draw", {"prompt": "a fox"})
        assert result.structured_content["picture"]["generator"] == "flat"
    assert list((tmp_path / "images").rglob("img-*.png"))


def exchange(command: list[str], messages: list[dict[str, Any]], folder: Path) -> tuple[list[str], str]:
    """Send messages, one a line, and return the lines of stdout and stderr."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(folder),
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    lines = []
    for message in messages:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
        if "id" in message:
            lines.append(process.stdout.readline())
    rest, errors = process.communicate(timeout=60)
    return [*lines, *rest.splitlines()], errors


HELLO = [
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
]


def test_whatever_is_printed_goes_to_stderr(tmp_path: Path) -> None:
    call = {"id": 2, "method": "tools/call", "params": {"name": "draw", "arguments": {"prompt": "a fox"}}}
    lines, errors = exchange([sys.executable, "-c", NOISY, str(tmp_path)], [*HELLO, call], tmp_path)
    messages = [json.loads(line) for line in lines if line.strip()]  # all of it is the protocol's
    assert [message["id"] for message in messages if "id" in message] == [1, 2]
    assert not json.loads(lines[1])["result"]["isError"]
    for noise in ("a print without a flush", "a write of a library in C", "a child process", "a warning"):
        assert noise in errors


def test_tools_are_listed_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print('loaded:', sorted({'torch', 'langchain_core', 'langgraph', "
        "'transformers', 'diffusers'} & set(sys.modules)), file=sys.stderr)); " + COMMAND
    )
    lines, errors = exchange([sys.executable, "-c", code, "mcp"], [*HELLO, {"id": 2, "method": "tools/list"}], tmp_path)
    assert len(json.loads(lines[1])["result"]["tools"]) >= 8
    assert "loaded: []" in errors


@pytest.mark.slow
async def test_nano_draws_and_looks(tmp_path: Path) -> None:
    server = StdioServerParameters(command=sys.executable, args=["-c", COMMAND, "mcp"], env=environment(tmp_path))
    async with Client(server) as client:
        result = await client.call_tool("draw", {"prompt": "a red apple on a table", "seed": 1})
        facts = result.structured_content["picture"]
        assert (facts["generator"], facts["seed"]) == ("nano", 1)
        seen = await client.call_tool("look", {"image": facts["id"], "question": "What is in the picture?"})
        assert seen.structured_content["answer"]

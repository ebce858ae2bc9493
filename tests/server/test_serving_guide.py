"""The examples of the guide work on a running server."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.server.pictures import ids_in_text

SCRIPT = ["Here: <h> a red fox </h>", "At night: <h> a red fox at night </h>"]


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs/guides/server.md").read_text(encoding="utf-8")


def block(page: str, language: str, words: str) -> str:
    [found] = [text for text in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if words in text]
    assert "http://127.0.0.1:8765" in found
    return str(found)


def test_the_example_of_openais_sdk(page: str, open_service: Any, running: Any) -> None:
    printed = io.StringIO()
    with running(open_service(SCRIPT)) as address, contextlib.redirect_stdout(printed):
        names: dict[str, Any] = {}
        exec(block(page, "py", "OpenAI").replace("http://127.0.0.1:8765", address), names)
        names["client"].close()
    first, second = ids_in_text(printed.getvalue())
    lines = printed.getvalue().splitlines()
    assert lines[:4] == ["Here:", "", f"![a red fox]({address}/pictures/{first})", "data:image/png;base64,"]
    assert f"![a red fox at night]({address}/pictures/{second})" in lines


def test_the_example_of_curl(page: str, open_service: Any, running: Any) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with running(open_service(SCRIPT)) as address:
        command = block(page, "sh", "curl").replace("http://127.0.0.1:8765", address)
        found = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=20)
    answer = json.loads(found.stdout)
    [picture] = answer["mgem"]["pictures"]
    assert (picture["prompt"], picture["seed"]) == ("a red fox", 7)


def test_every_path_of_the_guide_is_a_route(page: str, open_service: Any) -> None:
    from mgem_agent.server.app import create_app

    schema = create_app(open_service()).openapi()
    named = set(re.findall(r"`(?:GET |POST )?(/[\w/{}]+)`", page.partition("## Ask it")[0]))
    routes = {re.sub(r"\{\w+", "{id", path) for path in schema["paths"]}
    assert named and named - {"/mcp"} <= routes

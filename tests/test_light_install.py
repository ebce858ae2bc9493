"""Without the packages of any extra: what works, and what the rest says.

Each test is one new interpreter in which those packages cannot be imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mgem_agent.extras import EXTRAS

BLOCK = """
import json, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{each}.") for each in BLOCKED):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = json.loads(sys.argv.pop(1))
sys.meta_path.insert(0, Block())
"""


def run(code: str, folder: Path) -> Any:
    """Run code without the extras; it returns what the code prints as JSON in its last line."""
    blocked = [module for packages in EXTRAS.values() for module in packages]
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "MGEM_OFFLINE": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", BLOCK + code, json.dumps(blocked)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env={**os.environ, **home},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


WORK = """
import base64, io, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from PIL import Image

from mgem_agent import MgemAgent, image_tools
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.core_model import load_image
from mgem_agent.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools import ImageRequest, make_generator

class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        file = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(file, "PNG")
        data = json.dumps({"data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass

store = ArtifactStore("images")
sessions = Sessions.at("sessions")
reasoner = ScriptedReasoner(script=["Here. <h> a fox </h>"])
agent = MgemAgent(reasoner, FlatColourGenerator(), store=store, sessions=sessions)
turn = agent.invoke("Draw me a fox.")
sessions.close()

server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
remote = make_generator(f"openai:any@http://127.0.0.1:{server.server_port}/v1", api_key="x")
*_, served = remote.generate([ImageRequest(prompt="a red card", width=64, height=64)])
for name in (f"a1111:http://127.0.0.1:{server.server_port}", f"comfyui:http://127.0.0.1:{server.server_port}"):
    make_generator(name)

names = [tool.name for tool in image_tools(FlatColourGenerator(), store=store)]
white = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
white.paste((255, 255, 255, 255), (0, 0, 4, 4))
lost = load_image(white).getpixel((7, 7))
loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(BLOCKED))
print(json.dumps([turn.text, [p.prompt for p in turn.pictures], served.image.getpixel((0, 0)), names, lost, loaded]))
"""


def test_an_agent_its_tools_and_a_server_that_draws(tmp_path: Path) -> None:
    text, prompts, pixel, tools, lost, loaded = run(WORK, tmp_path)
    assert (text, prompts) == ("Here.", ["a fox"])
    assert pixel == [255, 0, 0]
    assert tools == ["generate_image", "edit_image"]
    assert lost != [255, 255, 255]  # a white drawing on a transparent ground is shown on another colour
    assert loaded == []


CLI = """
import contextlib, io
from mgem_agent.cli import main

told = []
for line in LINES:
    sys.argv = ["mgem", *line]
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main()
    except SystemExit as end:
        told.append([end.code or 0, " ".join(out.getvalue().split())])
print(json.dumps(told))
"""


def mgem(folder: Path, *lines: list[str]) -> list[tuple[int, str]]:
    return run(f"LINES = {[*lines]!r}\n{CLI}", folder)


def test_the_command_line_helps_and_makes_a_book(tmp_path: Path) -> None:
    commands = "chat ask draw story see images sessions config doctor generators models data train bench eval".split()
    book = ["story", "the_dragon", "-g", "flat", "--out", "book"]
    told = mgem(tmp_path, *([name, "--help"] for name in commands), book, ["images", "list"], ["sessions", "list"])
    assert [code for code, _ in told] == [0] * (len(commands) + 3), told
    assert {"book.html", "book.md", "book.pdf"} <= {path.name for path in (tmp_path / "book").iterdir()}


LOCAL = "Run: pip install 'mgem-agent[local]'"


def test_what_needs_an_extra_names_the_command(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    lines = {
        "The generator 'nano'": ["draw", "cat", "-g", "nano"],
        "The generator 'diffusers:sdxl'": ["draw", "cat", "-g", "diffusers:sdxl"],
        "The reasoner 'nano'": ["ask", "hello"],
        "The reasoner 'weights'": ["ask", "hello", "-m", "weights"],
        "'mgem bench'": ["bench", "mining"],
        "'mgem train'": ["train", "run", "nano_align"],
    }
    told = mgem(tmp_path, *lines.values(), ["doctor"])
    *errors, (code, report) = told
    for feature, (status, text) in zip(lines, errors, strict=True):
        assert status == 1
        assert text.startswith(f"Error: {feature} needs the package "), text
        assert text.endswith(LOCAL)
    assert (code, report.count("✗ model The reasoner 'nano' needs the package 'torch'.")) == (1, 1)


NAMES = """
import mgem_agent
from mgem_agent import ChatMiniGemini
from mgem_agent.nano import NanoGenerator
from mgem_agent.reasoners import make_reasoner

def told(use):
    try:
        use()
    except ImportError as error:
        return [type(error).__name__, str(error)]

uses = [
    *(lambda name=name: getattr(mgem_agent, name) for name in ("Conversation", "MiniGeminiConfig", "PatchInfoMining")),
    lambda: ChatMiniGemini(model="YanweiLi/MGM-2B").invoke("Hello"),
    lambda: list(NanoGenerator().generate([])),
    lambda: make_reasoner("openai:gpt-5"),
]
print(json.dumps([told(use) for use in uses]))
"""


def test_public_names_that_need_an_extra_name_the_command(tmp_path: Path) -> None:
    *local, openai = run(NAMES, tmp_path)
    for kind, text in local:
        assert kind == "MissingDependencyError", text
        assert text.endswith(LOCAL)
    assert openai == [
        "MissingDependencyError",
        "The reasoner 'openai:gpt-5' needs the package 'langchain-openai'. Run: pip install 'mgem-agent[openai]'",
    ]

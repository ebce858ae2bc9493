"""Commands find a server by the models that it holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mgem_agent import __version__
from mgem_agent.resident.running_server import advertised, find_server, first_use, model_key, running_servers


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@contextmanager
def healthy(status: str = "ok", version: str = __version__) -> Iterator[str]:
    """A server that says how it is."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": status, "version": version}).encode())

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


NANO = model_key("reasoner", "nano", {})
DRAWS = model_key("generator", "nano", {"dtype": "float32"})


def test_a_server_is_found_by_its_models_while_it_runs() -> None:
    with healthy() as address, advertised(address, reasoner=NANO, generators={DRAWS: "nano"}):
        found = find_server("reasoner", "nano", {})
        assert found is not None and found.address == address
        assert find_server("generator", "nano", {"dtype": "float32"}) == found
        assert find_server("reasoner", "nano", {"temperature": 1}) is None
        assert find_server("generator", "nano", {}) is None
    assert find_server("reasoner", "nano", {}) is None


@pytest.mark.parametrize(("status", "version"), [("stopping", __version__), ("ok", "0.0.1")])
def test_a_server_that_stops_or_is_another_is_not_used(status: str, version: str) -> None:
    with healthy(status, version) as address, advertised(address, reasoner=NANO, generators={}):
        assert find_server("reasoner", "nano", {}) is None


def test_a_server_that_does_not_answer_is_not_used() -> None:
    with advertised("http://127.0.0.1:9", reasoner=NANO, generators={}):
        assert find_server("reasoner", "nano", {}) is None


def test_the_first_use_of_each_server_is_told(cache: Path) -> None:
    for _ in range(2):
        with healthy() as address, advertised(address, reasoner=NANO, generators={}):
            (server,) = running_servers()
            assert [first_use(server) for _ in range(3)] == [True, False, False]
    assert list((cache / "servers").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="processes are not looked for on Windows")
def test_a_server_that_was_killed_is_forgotten(cache: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    place = cache / "servers" / f"{gone.pid}.json"
    with advertised("http://127.0.0.1:9", reasoner=NANO, generators={}):
        data = json.loads((cache / "servers" / f"{os.getpid()}.json").read_text())
        place.write_text(json.dumps(data | {"process": gone.pid}))
        (cache / "servers" / "damaged.json").write_text("{")
        assert [server.process for server in running_servers()] == [os.getpid()]
    assert not place.exists()


def test_a_cache_folder_that_is_not_writable_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "file"))
    with advertised("http://127.0.0.1:9", reasoner=NANO, generators={}):
        assert running_servers() == []
    assert "commands do not find this server" in caplog.text


def test_a_cache_folder_without_a_home_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MGEM_CACHE", "~no-such-user/cache")
    with advertised("http://127.0.0.1:9", reasoner=NANO, generators={}):
        assert running_servers() == []
    assert "commands do not find this server" in caplog.text


def test_a_folder_has_one_key_from_wherever_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    names = ("diffusers:./weights", f"diffusers:{tmp_path}/weights/")
    assert len({model_key("generator", name, {}) for name in names}) == 1
    assert model_key("reasoner", "weights", {}) == model_key("reasoner", str(tmp_path / "weights"), {})
    assert model_key("reasoner", "nano", {}) != model_key("generator", "nano", {})

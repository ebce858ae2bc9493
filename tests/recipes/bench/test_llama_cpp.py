"""A llama.cpp server in a benchmark, with a server of its protocol on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mgem_agent.errors import GeneratorOutputError, MgemError
from mgem_agent.recipes.bench.decode import bench_decode
from mgem_agent.recipes.bench.llama_cpp import LlamaCppServer

ANSWER: dict[str, Any] = {"tokens": [5, 6, 2, 7], "timings": {"predicted_ms": 250.0}}


class Served(BaseHTTPRequestHandler):
    """Answers as `llama-server` does."""

    asked: list[dict[str, Any]] = []
    answer: dict[str, Any] = ANSWER

    def do_GET(self) -> None:
        self._send({"model_path": "/models/nano-q8_0.gguf"} if self.path == "/props" else {})

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._send(self.answer)

    def _send(self, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Served, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_tokens_and_seconds_are_those_of_the_server(address: str) -> None:
    server = LlamaCppServer(address)
    assert server.name == "llama.cpp nano-q8_0.gguf"
    answer = server.answer([1, 4], max_tokens=4)
    assert (answer.tokens, answer.seconds) == ((5, 6, 2, 7), 0.25)
    [body] = Served.asked
    assert (body["prompt"], body["n_predict"], body["temperature"], body["ignore_eos"]) == ([1, 4], 4, 0, True)


def test_a_stop_token_ends_the_answer(address: str) -> None:
    assert LlamaCppServer(address).answer([1], max_tokens=4, stop=[2]).tokens == (5, 6)
    assert Served.asked[0]["ignore_eos"] is False


def test_an_answer_without_times_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Served, "answer", {"content": "foxes"})
    with pytest.raises(GeneratorOutputError, match=r"nano-q8_0.gguf answered without 'tokens' and 'timings'\. Use a"):
        LlamaCppServer(address).answer([1], max_tokens=4)


def test_a_missing_server_is_named() -> None:
    with pytest.raises(MgemError, match=r"The llama.cpp server at http://127.0.0.1:1 "):
        LlamaCppServer("http://127.0.0.1:1")


def test_the_benchmark_compares_with_each_server(address: str) -> None:
    comparison = bench_decode(model="small", tokens=4, repeats=2, llama_cpp=[address, address], prompts=2)
    assert [server.run.seconds for server in comparison.servers] == [(0.25, 0.25)] * 2
    assert comparison.servers[0].ratio == pytest.approx(0.25 / comparison.ours)
    ours, theirs, *_ = comparison.answers
    assert (ours.label, ours.num_prompts, ours.parted) == ("ours", 2, ())
    assert [place for _, place in theirs.parted] == [0, 0], "its answer is always 5, 6"
    assert len(comparison.tables()) == 4

"""Costs of the server: `mgem bench serve --json`.

A scripted reasoner and a generator of coloured cards are used, so that only the server is measured. It runs in its own
process and is asked over HTTP, by clients with one connection each. There are three figures:

* requests a second and latency at 1, 8 and 64 clients, against the bare graph of the agent called in this process;
* memory of the server's process over many requests;
* pictures of 64 clients, with a generator whose batch of eight takes twice as long as a single picture, gathered into
  batches and drawn one by one.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import torch
from langchain_core.messages import HumanMessage
from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.turn_context import TurnContext
from mgem_agent.agent.turn_state import begin_turn
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_seconds, format_times
from mgem_agent.recipes.bench.measure import describe_machine, require_positive
from mgem_agent.recipes.bench.progress import report, steps
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

__all__ = [
    "Asker",
    "ConstantReasoner",
    "Load",
    "RunningServer",
    "ServeComparison",
    "ServerPlan",
    "bench_serve",
    "joined_loads",
    "run_clients",
]

WORDS = "A red fox sits in the snow and looks at the moon."
CAPTION = "Here it is: <h> a red fox in the snow </h>"
CLIENTS = (1, 8, 64)
NUM_DRAWING = 64
ROUNDS = 5
CPU = torch.device("cpu")
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class ServerPlan:
    """A server to be measured.

    Attributes:
        answer: What the reasoner always writes.
        single_s: Seconds of one picture; a batch of eight takes twice as long.
        max_batch: Maximum number of pictures in a batch.
        workers: Maximum number of running requests.
        queue: Maximum number of waiting requests.
    """

    answer: str = WORDS
    single_s: float = 0.0
    max_batch: int = 8
    workers: int = 16
    queue: int = 64


@dataclass(frozen=True)
class RunningServer:
    """A server that accepts requests.

    Attributes:
        address: Its address.
    """

    address: str


Start = Callable[[ServerPlan], AbstractContextManager[RunningServer]]
"""Starts a server in another process, and stops it."""


class ConstantReasoner(ScriptedReasoner):
    """A reasoner that always writes the same, and keeps nothing of what it was asked."""

    def _next_line(self, request: TextRequest) -> str:
        return str(self.script[0])


class Load(BaseModel):
    """Requests of a number of clients, each with one request at a time.

    Attributes:
        label: What was asked.
        num_clients: Number of clients.
        requests_per_s: Requests that were answered in a second.
        seconds: Seconds of each request.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    num_clients: int
    requests_per_s: float
    seconds: tuple[float, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def median_s(self) -> float:
        """Median seconds of a request."""
        return statistics.median(self.seconds)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p95_s(self) -> float:
        """Seconds below which 95 of 100 requests were answered."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


class ServeComparison(Comparison):
    """The three figures: latency, memory and batches.

    Attributes:
        served: Requests of the server, by number of clients.
        in_process: The same turns of the bare graph, by number of threads.
        num_memory_requests: Requests over which memory was measured.
        early_memory_bytes: Memory of the server's process after a tenth of them; None if the system does not tell it.
        late_memory_bytes: The same after all of them.
        gathered: Pictures of many clients, gathered into batches.
        one_by_one: The same with batches of one.
    """

    served: tuple[Load, ...]
    in_process: tuple[Load, ...]
    num_memory_requests: int
    early_memory_bytes: int | None
    late_memory_bytes: int | None
    gathered: Load
    one_by_one: Load

    @computed_field  # type: ignore[prop-decorator]
    @property
    def overhead_s(self) -> float:
        """Seconds that the server adds to a request of one client, by the medians."""
        return self.served[0].median_s - self.in_process[0].median_s

    @computed_field  # type: ignore[prop-decorator]
    @property
    def memory_growth_bytes(self) -> float | None:
        """Bytes that a request adds to the memory of the server's process; None if unknown."""
        if self.early_memory_bytes is None or self.late_memory_bytes is None:
            return None
        num = self.num_memory_requests - self.num_memory_requests // 10
        return (self.late_memory_bytes - self.early_memory_bytes) / max(num, 1)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def batch_ratio(self) -> float:
        """How many times more pictures a second batches give; the generator alone allows 4."""
        return self.gathered.requests_per_s / self.one_by_one.requests_per_s

    def tables(self) -> list[Table]:
        """Return the latency, the memory and the batches."""
        latency = Table("clients", "served: a second", "median", "p95", "in process: a second", "median", "p95")
        for ours, bare in zip(self.served, self.in_process, strict=True):
            cells = [
                text
                for each in (ours, bare)
                for text in (f"{each.requests_per_s:,.0f}", format_seconds(each.median_s), format_seconds(each.p95_s))
            ]
            latency.add_row(str(ours.num_clients), *cells)
        memory = Table("memory of the server", "after a tenth", "after all", "growth per request")
        known = (self.early_memory_bytes, self.late_memory_bytes)
        sizes = ["–" if size is None else f"{size / 2**20:,.1f} MiB" for size in known]
        growth = "–" if self.memory_growth_bytes is None else f"{self.memory_growth_bytes:,.0f} B"
        memory.add_row(f"{self.num_memory_requests:,} requests", *sizes, growth)
        batches = Table(f"{self.gathered.num_clients} clients draw", "gathered", "one by one", "ratio")
        rates = [f"{each.requests_per_s:,.1f}" for each in (self.gathered, self.one_by_one)]
        batches.add_row("pictures/s", *rates, format_times(self.batch_ratio))
        for table in (latency, memory, batches):
            for column in table.columns[1:]:
                column.justify = "right"
        return [latency, memory, batches]


class Asker(Protocol):
    """A client that sends one request at a time."""

    def ask(self) -> None:
        """Send a request, and read its answer."""

    def close(self) -> None:
        """End the connection."""


def bench_serve(
    start: Start, *, requests: int = 200, memory_requests: int = 3_000, single_s: float = 0.5
) -> ServeComparison:
    """Measure the server.

    Args:
        start: Starts a server in another process.
        requests: Timed requests for each number of clients.
        memory_requests: Requests over which memory is measured.
        single_s: Seconds of one picture.

    Raises:
        InputError: If a number is less than one.
    """
    require_positive(requests=requests, memory_requests=memory_requests)
    with tempfile.TemporaryDirectory(prefix="mgem-bench-", ignore_cleanup_errors=True) as folder:
        bare = _BareGraph(Path(folder))
        with start(ServerPlan()) as server:
            _ask_all(server, WORDS, 1, 20)  # warms up
            bare.run_all(1, 20)
            pairs = []
            for clients in CLIENTS:
                pairs.append(_in_turns(server, bare, clients, requests))
                rates = [load.requests_per_s for load in pairs[-1]]
                report("", result="{} clients: {:.0f} requests a second, in process {:.0f}".format(clients, *rates))
            early, late = _memory(server, memory_requests)
    served, in_process = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    drawn = []
    for max_batch in (8, 1):
        plan = ServerPlan(answer=CAPTION, single_s=single_s, max_batch=max_batch, queue=2 * NUM_DRAWING)
        report(f"{NUM_DRAWING} clients who draw, {max_batch} a batch")
        with start(plan) as server:
            drawn.append(_ask_all(server, "pictures", NUM_DRAWING, NUM_DRAWING))
    return ServeComparison(
        name="serve",
        setting="an answer in words over HTTP, scripted reasoner and generator",
        note="Both run the same turn; the server also reads the request and writes the response.",
        ours_run=Run(label="mgem serve", seconds=served[0].seconds),
        alternative_run=Run(label="the graph in process", seconds=in_process[0].seconds),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(CPU),
        served=tuple(served),
        in_process=tuple(in_process),
        num_memory_requests=memory_requests,
        early_memory_bytes=early,
        late_memory_bytes=late,
        gathered=drawn[0],
        one_by_one=drawn[1],
    )


def run_clients(label: str, num_clients: int, num_requests: int, make: Callable[[], Asker]) -> Load:
    """Let clients send requests until enough are answered.

    Args:
        label: What is asked.
        num_clients: Number of clients, each in a thread of its own.
        num_requests: Number of requests of all clients.
        make: Creates a client.
    """
    seconds: list[float] = []
    left = iter(range(num_requests))
    lock, ready = threading.Lock(), threading.Barrier(num_clients + 1)

    def client() -> None:
        with closing(make()) as asker:
            ready.wait(TIMEOUT_S)
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                started = time.perf_counter()
                asker.ask()
                ended = time.perf_counter()
                with lock:
                    seconds.append(ended - started)

    with ThreadPoolExecutor(num_clients) as pool:
        running = [pool.submit(client) for _ in range(num_clients)]
        ready.wait(TIMEOUT_S)
        started = time.perf_counter()
        for future in running:
            future.result()
        spent = time.perf_counter() - started
    return Load(label=label, num_clients=num_clients, requests_per_s=num_requests / spent, seconds=tuple(seconds))


def _ask_all(server: RunningServer, label: str, num_clients: int, num_requests: int) -> Load:
    return run_clients(label, num_clients, num_requests, lambda: _Client(server.address))


def _in_turns(server: RunningServer, bare: _BareGraph, num_clients: int, num_requests: int) -> tuple[Load, Load]:
    """Measure the server and the bare graph in turns, so that both see the same load of the machine."""
    num_rounds = min(ROUNDS, num_requests)
    parts = [num_requests // num_rounds + (part < num_requests % num_rounds) for part in range(num_rounds)]
    loads = [
        (_ask_all(server, WORDS, num_clients, part), bare.run_all(num_clients, part))
        for part in steps(f"{num_clients} clients", parts)
    ]
    return joined_loads([ours for ours, _ in loads]), joined_loads([other for _, other in loads])


def joined_loads(loads: Sequence[Load]) -> Load:
    """Return several loads of one kind as one.

    Args:
        loads: At least one.
    """
    seconds = tuple(each for load in loads for each in load.seconds)
    spent = sum(len(load.seconds) / load.requests_per_s for load in loads)
    return loads[0].model_copy(update={"seconds": seconds, "requests_per_s": len(seconds) / spent})


class _Client:
    """A client with one connection that is kept open."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        messages = [{"role": "user", "content": "Tell me of a fox."}]
        self._body = json.dumps({"model": "mgem", "messages": messages}).encode()
        self._connection.connect()

    def ask(self) -> None:
        """Send a request, and read its answer."""
        self._connection.request("POST", "/v1/chat/completions", self._body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"The server answered with status {answer.status}: {data[:500]!r}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _memory(server: RunningServer, num_requests: int) -> tuple[int | None, int | None]:
    """Return the memory of a server's process after a tenth of some requests, and after all of them."""
    first = max(1, num_requests // 10)
    report(f"memory over {num_requests:,} requests", 0, num_requests)
    _ask_all(server, WORDS, 8, first)
    early = _resident_bytes(server)
    report(f"memory over {num_requests:,} requests", first, num_requests)
    if num_requests > first:
        _ask_all(server, WORDS, 8, num_requests - first)
    return early, _resident_bytes(server)


def _resident_bytes(server: RunningServer) -> int | None:
    """Return the memory that a server reports in its metrics; None where the system does not tell it."""
    text = httpx.get(f"{server.address}/metrics", timeout=TIMEOUT_S, trust_env=False).text
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    return None if found is None else int(float(found[1]))


class _BareGraph:
    """The graph of the agent, called in this process as LangGraph offers it."""

    def __init__(self, folder: Path) -> None:
        sessions = Sessions.in_memory()
        reasoner = ConstantReasoner(script=[WORDS])
        generator = FlatColourGenerator()
        self._agent = MgemAgent(reasoner, generator, store=ArtifactStore(folder), sessions=sessions)
        self._numbers = iter(range(10**9))

    def run_all(self, num_clients: int, num_requests: int) -> Load:
        """Run turns in threads."""
        return run_clients("the graph in process", num_clients, num_requests, lambda: self)

    def ask(self) -> None:
        """Run a turn."""
        turn = f"turn-{next(self._numbers)}"
        graph: Any = self._agent.graph
        state = begin_turn("bench", turn, HumanMessage("Tell me of a fox."), "auto")
        config = {"configurable": {"thread_id": turn}}
        graph.invoke(state, config, context=TurnContext([]), durability="sync")
        self._agent.sessions.checkpointer.delete_thread(turn)

    def close(self) -> None:
        """Do nothing: all threads share the graph."""

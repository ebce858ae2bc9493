"""The benchmark of the server: its loads are what they say, and its figures follow from them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.serve import (
    ConstantReasoner,
    Load,
    RunningServer,
    ServeComparison,
    ServerPlan,
    bench_serve,
)
from mgem_agent.server.app import create_app
from mgem_agent.server.service import AgentService
from mgem_agent.server.serving import GracefulServer
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.settings import load_settings
from mgem_agent.testing import FlatColourGenerator

made: list[tuple[ServerPlan, FlatColourGenerator]] = []


@contextmanager
def start(plan: ServerPlan, folder: Path) -> Iterator[RunningServer]:
    """A server in a thread of this process."""
    generator = FlatColourGenerator(size=(16, 16), delay_s=plan.single_s, extra_delay_s=plan.single_s / 7)
    made.append((plan, generator))
    server = {"max_batch": plan.max_batch, "workers": plan.workers, "queue": plan.queue, "images_as": "url"}
    service = AgentService(
        load_settings(model="scripted", generator="flat", server=server),
        reasoner=ConstantReasoner(script=[plan.answer]),
        generators=["flat"],
        make_generator=lambda name: generator,
        store=ArtifactStore(folder),
        sessions=Sessions.in_memory(),
    )
    ready: queue.SimpleQueue[str] = queue.SimpleQueue()
    config = uvicorn.Config(create_app(service), port=0, log_config=None, access_log=False)
    running = GracefulServer(config, service, ready.put)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        yield RunningServer(ready.get(timeout=10))
    finally:
        running.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> ServeComparison:
    folder = tmp_path_factory.mktemp("images")
    return bench_serve(lambda plan: start(plan, folder), requests=3, memory_requests=12, single_s=0.01)


def test_each_client_asks_and_draws(comparison: ServeComparison) -> None:
    assert [load.num_clients for load in comparison.served] == [1, 8, 64]
    assert [len(load.seconds) for load in (*comparison.served, *comparison.in_process)] == [3] * 6
    assert [(plan.max_batch, len(generator.drawn)) for plan, generator in made] == [(8, 0), (8, 64), (1, 64)]
    gathered, single = (generator.num_batches for _, generator in made[1:])
    assert single == 64 and gathered < 40


def test_the_figures(comparison: ServeComparison) -> None:
    assert comparison.overhead_s == comparison.served[0].median_s - comparison.in_process[0].median_s
    assert comparison.batch_ratio == comparison.gathered.requests_per_s / comparison.one_by_one.requests_per_s
    assert (comparison.early_memory_bytes or 0) > 10_000_000
    known = comparison.model_copy(
        update={"num_memory_requests": 100, "early_memory_bytes": 1000, "late_memory_bytes": 10_000}
    )
    assert known.memory_growth_bytes == 100
    assert comparison.model_copy(update={"late_memory_bytes": None}).memory_growth_bytes is None
    load = Load(label="", num_clients=1, requests_per_s=1, seconds=tuple(range(100)))
    assert (load.median_s, load.p95_s) == (49.5, 95)
    assert ServeComparison.model_validate_json(comparison.model_dump_json()) == comparison
    assert [table.row_count for table in comparison.tables()] == [3, 1, 1]


def test_a_number_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="requests must be at least 1, got 0"):
        bench_serve(lambda plan: start(plan, tmp_path), requests=0)

"""Run a server of a scripted reasoner in a process of its own, for `mgem bench serve`."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from mgem_agent.errors import ToolError

if TYPE_CHECKING:
    from mgem_agent.recipes.bench.serve import RunningServer, ServerPlan

__all__ = ["start_server"]

START_S = 120.0
STOP_S = 20.0


@contextmanager
def start_server(plan: ServerPlan) -> Iterator[RunningServer]:
    """Start a server on a free port of this machine, and stop it at the end.

    Args:
        plan: What it does.

    Raises:
        ToolError: If it does not start.
    """
    from mgem_agent.recipes.bench.serve import RunningServer

    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="mgem-bench-", ignore_cleanup_errors=True) as folder:
        process = context.Process(target=_serve, args=(plan, folder, sending), daemon=True)
        process.start()
        sending.close()
        try:
            address = receiving.recv() if receiving.poll(START_S) else None
        except EOFError:
            address = None
        try:
            if address is None:
                raise ToolError("The server of the benchmark did not start. Its output says why.")
            yield RunningServer(address)
        finally:
            process.terminate()
            process.join(STOP_S)
            process.kill()


def _serve(plan: ServerPlan, folder: str, ready: Connection) -> None:
    """Run the server until it is terminated."""
    os.environ["MGEM_CONFIG"] = os.path.join(folder, "no-config.toml")  # the user's settings change nothing
    from mgem_agent.artifacts.store import ArtifactStore
    from mgem_agent.recipes.bench.serve import ConstantReasoner
    from mgem_agent.server.service import AgentService
    from mgem_agent.server.serving import serve
    from mgem_agent.sessions.sessions import Sessions
    from mgem_agent.settings import load_settings
    from mgem_agent.testing import FlatColourGenerator

    server = {
        "host": "127.0.0.1",
        "port": 0,
        "max_batch": plan.max_batch,
        "workers": plan.workers,
        "queue": plan.queue,
        "images_as": "url",
        "log": "none",
    }
    generator = FlatColourGenerator(size=(64, 64), delay_s=plan.single_s, extra_delay_s=plan.single_s / 7)
    service = AgentService(
        load_settings(model="scripted", generator="flat", server=server),
        reasoner=ConstantReasoner(script=[plan.answer]),
        generators=["flat"],
        make_generator=lambda name: generator,
        store=ArtifactStore(os.path.join(folder, "images")),
        sessions=Sessions.in_memory(),
    )
    serve(service, ready.send)

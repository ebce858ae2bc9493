"""Runs of books: one whose work is saved has ended for the next call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mgem_agent.mcp import book_runs
from mgem_agent.mcp.book_runs import BookRun, find_run, running_long


async def test_a_run_whose_work_is_saved_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, go = BookRun(num_pages=2), asyncio.Event()

    async def told() -> None:
        await go.wait()

    run.task = asyncio.create_task(told())
    runs: dict[Path, BookRun] = book_runs._runs  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setitem(runs, tmp_path.absolute(), run)
    assert await running_long(tmp_path) is run and find_run(tmp_path) is run  # at once: it is not done
    run.is_done = True
    waiting = asyncio.create_task(running_long(tmp_path))
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    assert await waiting is None

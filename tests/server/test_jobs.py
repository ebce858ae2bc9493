"""The queue: how much runs, what waits, what is refused, and that a cancellation is nobody else's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from mgem_agent.errors import GenerationCancelledError
from mgem_agent.server.http_errors import QueueFullError, ServerStoppingError
from mgem_agent.server.jobs import Jobs
from mgem_agent.server.security import LOCAL_USER, User
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest

ALICE = User("alice", "alice")


async def running(jobs: Jobs, num: int) -> None:
    while jobs.num_running != num:
        await asyncio.sleep(0.001)


async def test_so_many_run_so_many_wait_and_one_more_is_refused() -> None:
    jobs, go = Jobs(workers=2, queue=3), threading.Event()
    seen: list[int] = []

    def work(cancel: threading.Event) -> int:
        seen.append(jobs.num_running)
        go.wait(5)
        return len(seen)

    tasks = [asyncio.create_task(jobs.run(LOCAL_USER, "test", work)) for _ in range(5)]
    await running(jobs, 2)
    assert (jobs.num_running, jobs.num_waiting) == (2, 3)
    with pytest.raises(QueueFullError, match="2 requests run and 3 wait") as caught:
        await jobs.run(LOCAL_USER, "test", work)
    assert int(caught.value.headers["Retry-After"]) >= 1
    go.set()
    await asyncio.gather(*tasks)
    assert max(seen) == 2 and len(seen) == 5
    assert (jobs.num_running, jobs.num_waiting) == (0, 0)
    jobs.close()


async def test_a_cancelled_job_is_one_users_own() -> None:
    jobs = Jobs(workers=2, queue=3)

    def work(cancel: threading.Event) -> bool:
        return cancel.wait(5)

    mine = asyncio.create_task(jobs.run(LOCAL_USER, "chat", work, title="mine"))
    others = asyncio.create_task(jobs.run(ALICE, "chat", work, title="hers"))
    waiting = asyncio.create_task(jobs.run(ALICE, "chat", work, title="later"))
    await running(jobs, 2)
    await asyncio.sleep(0)
    assert [(job.title, job.state) for job in jobs.list(ALICE)] == [("hers", "running"), ("later", "waiting")]
    [own] = jobs.list(LOCAL_USER)
    assert not jobs.cancel(ALICE, own.id)
    assert jobs.cancel(ALICE, jobs.list(ALICE)[1].id)
    with pytest.raises(GenerationCancelledError, match="cancelled before it began"):
        await waiting
    assert jobs.cancel(LOCAL_USER, own.id)
    assert await mine is True
    assert not others.done()
    others.cancel()
    with pytest.raises(asyncio.CancelledError):
        await others
    assert jobs.num_running == 0
    jobs.close()


async def test_a_task_that_is_cancelled_while_it_waits_frees_its_place() -> None:
    jobs, go = Jobs(workers=1, queue=1), threading.Event()
    first = asyncio.create_task(jobs.run(LOCAL_USER, "test", lambda cancel: go.wait(5)))
    await running(jobs, 1)
    second = asyncio.create_task(jobs.run(LOCAL_USER, "test", lambda cancel: "second"))
    await asyncio.sleep(0)
    assert jobs.num_waiting == 1
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    third = asyncio.create_task(jobs.run(LOCAL_USER, "test", lambda cancel: "third"))
    await asyncio.sleep(0)
    go.set()
    assert await third == "third" and await first
    jobs.close()


async def test_a_stream_holds_a_place_until_its_thread_has_ended() -> None:
    jobs, stop = Jobs(workers=1, queue=0), threading.Event()
    ended: list[str] = []

    def events() -> Iterator[int]:
        try:
            yield 1
            stop.wait(5)
            yield 2
        finally:
            ended.append("ended")

    stream = jobs.stream(LOCAL_USER, "chat", events, abandon=stop.set)  # type: ignore[arg-type]
    assert await anext(stream) == 1
    with pytest.raises(QueueFullError):
        await jobs.run(LOCAL_USER, "test", lambda cancel: None)
    await stream.aclose()
    assert ended == ["ended"] and jobs.num_running == 0
    jobs.close()


async def test_draining_finishes_what_runs_and_hands_back_what_waits() -> None:
    jobs, go = Jobs(workers=1, queue=2), threading.Event()
    first = asyncio.create_task(jobs.run(LOCAL_USER, "test", lambda cancel: go.wait(5)))
    await running(jobs, 1)
    second = asyncio.create_task(jobs.run(LOCAL_USER, "test", lambda cancel: "second"))
    await asyncio.sleep(0)
    draining = asyncio.create_task(jobs.drain(5))
    with pytest.raises(ServerStoppingError, match="Send the request again"):
        await second
    with pytest.raises(ServerStoppingError):
        await jobs.run(LOCAL_USER, "test", lambda cancel: None)
    assert not draining.done()
    go.set()
    assert await draining == 0
    assert await first is True
    jobs.close()


async def test_draining_cancels_what_takes_too_long() -> None:
    jobs = Jobs(workers=1)
    first = asyncio.create_task(jobs.run(LOCAL_USER, "test", lambda cancel: cancel.wait(5)))
    await running(jobs, 1)
    assert await jobs.drain(0.01) == 1
    assert await first is True
    jobs.close()


async def test_drawing_reports_progress_and_results_in_order() -> None:
    jobs, steps = Jobs(), []
    requests = [ImageRequest(prompt=prompt, seed=1) for prompt in ("a fox", "a dog")]
    generator = FlatColourGenerator(size=(16, 16), fail_on="dog")
    found = await jobs.draw(LOCAL_USER, generator, requests, on_progress=steps.append)
    assert [result.request.prompt for result in found] == ["a fox", "a dog"]
    assert found[0].image is not None and "came out blank" in str(found[1].error)
    await asyncio.sleep(0)
    assert {step.index for step in steps} == {0, 1}
    jobs.close()

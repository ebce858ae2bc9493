"""Runs in the background that pages watch: states, not events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.server.page.live import Live, LivePlace


async def seen_by(live: Live) -> list[list[tuple[str, bool, Any]]]:
    found = []
    async for changes in live.watch():
        found.append([(change.part.key, change.is_new, change.part.data["n"]) for change in changes])
    return found


async def test_a_page_gets_all_parts_and_then_what_changes() -> None:
    live, go = Live(), asyncio.Event()
    live.show("a", "text", n=1)

    async def work() -> None:
        await go.wait()
        for n in (2, 3, 4):
            live.show("a", "text", n=n)
        live.show("b", "text", n=0)

    live.begin(work)
    early = asyncio.create_task(seen_by(live))
    await asyncio.sleep(0.01)
    go.set()
    assert await early == [[("a", True, 1)], [("a", False, 4), ("b", True, 0)]]
    assert await seen_by(live) == [[("a", True, 4), ("b", True, 0)]]
    assert live.is_over and live.error == ""


async def test_two_pages_see_the_same() -> None:
    live = Live()

    async def work() -> None:
        for n in range(5):
            live.show(f"p{n}", "text", n=n)
            await asyncio.sleep(0.02)

    live.begin(work)
    for shown in await asyncio.gather(seen_by(live), seen_by(live)):
        assert [key for changes in shown for key, is_new, _ in changes if is_new] == [f"p{n}" for n in range(5)]


async def test_an_error_is_kept_and_a_stop_says_so() -> None:
    live = Live()

    async def fail() -> None:
        raise InputError("The box is empty. Fill it.")

    live.begin(fail)
    await live.wait()
    assert live.error == "The box is empty. Fill it."
    stopped = Live()
    stopped.begin(lambda: asyncio.sleep(60))
    await asyncio.sleep(0)
    stopped.abort()
    await stopped.wait()
    assert stopped.is_over and stopped.error == "It was stopped before it began."


async def test_an_unexpected_error_is_named_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    live = Live()

    async def fail() -> None:
        raise ValueError("a path /home/ann")

    live.begin(fail)
    await live.wait()
    assert live.error == "The server failed unexpectedly (ValueError). Its log has the details."
    assert "a path /home/ann" in caplog.text


async def test_a_run_whose_work_is_saved_is_waited_for() -> None:
    class Saved(Live):
        is_saved = False

        @property
        def is_done(self) -> bool:
            return self.is_saved

    place: LivePlace[Saved] = LivePlace()
    live, go = Saved(), asyncio.Event()

    async def work() -> None:
        await go.wait()

    live.begin(work)
    place.put("x", live)
    assert await place.running_long("x") is live  # at once: it is not done
    live.is_saved = True
    waiting = asyncio.create_task(place.running_long("x"))
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    assert await waiting is None and live.is_over


async def test_a_run_that_has_ended_is_kept_until_it_is_removed() -> None:
    place: LivePlace[Live] = LivePlace()
    live, go = Live(), asyncio.Event()

    async def work() -> None:
        await go.wait()

    live.begin(work)
    place.put("x", live)
    place.remove("x")
    assert place.running("x") is live and place.keys() == ["x"]
    go.set()
    await live.wait()
    assert place.get("x") is live and place.running("x") is None and place.keys() == []
    place.remove("x")
    assert place.get("x") is None

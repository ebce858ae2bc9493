"""Many clients at once: each request is answered once, with its own picture, and nobody suffers from another."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
import time
from collections import Counter
from typing import Any

import httpx
import pytest
import uvicorn

from mgem_agent.server.app import create_app
from mgem_agent.server.pictures import ids_in_text
from mgem_agent.server.security import LOCAL_USER
from mgem_agent.server.serving import GracefulServer
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator

NUM_CLIENTS = 64


def caption_of(request: Any) -> str:
    """A model that draws what it is asked for."""
    return f"Yes. <h> {request.dialogue[-1]['content']} </h>"


def body_of(text: str, **options: Any) -> dict[str, Any]:
    return {"model": "mgem", "messages": [{"role": "user", "content": text}], **options}


def pictures_of(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["prompt"], each["id"]) for each in answer["mgem"]["pictures"]]


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True])
async def test_every_request_is_answered_once_with_its_own_picture(
    open_service: Any, client_of: Any, stream: bool
) -> None:
    generator = FlatColourGenerator(size=(16, 16), delay_s=0.01, extra_delay_s=0.001)
    service = open_service([caption_of], generator, images_as="url", gather_s=1)

    async def ask(client: httpx.AsyncClient, number: int) -> str:
        answer = await client.post("/v1/chat/completions", json=body_of(f"card {number}", stream=stream))
        assert answer.status_code == 200
        [found] = set(ids_in_text(answer.text))
        return found

    async with client_of(service, timeout=60) as client:
        found = await asyncio.gather(*(ask(client, number) for number in range(NUM_CLIENTS)))
    prompts = [service.store(LOCAL_USER).get(picture_id).title for picture_id in found]
    assert prompts == [f"card {number}" for number in range(NUM_CLIENTS)]
    assert Counter(each.prompt for each in generator.drawn) == Counter(prompts)
    assert generator.num_batches < NUM_CLIENTS / 3
    assert (service.jobs.num_running, service.jobs.num_waiting) == (0, 0)


async def test_the_same_seed_gives_the_same_bytes_alone_and_in_a_batch(open_service: Any, client_of: Any) -> None:
    generator = FlatColourGenerator(size=(16, 16), delay_s=0.01)
    async with client_of(open_service([caption_of], generator, gather_s=1)) as client:
        alone = (await client.post("/v1/chat/completions", json=body_of("a fox", seed=7))).json()
        others = [client.post("/v1/chat/completions", json=body_of(f"card {n}", seed=n)) for n in range(6)]
        again = client.post("/v1/chat/completions", json=body_of("a fox", seed=7))
        answers = [answer.json() for answer in await asyncio.gather(*others[:3], again, *others[3:])]
    assert pictures_of(answers[3]) == pictures_of(alone)  # the id is the hash of the bytes
    assert generator.num_batches < 5


async def test_a_client_that_disconnects_cancels_its_own_drawing(open_service: Any, running: Any) -> None:
    generator = FlatColourGenerator(size=(16, 16), delay_s=0.8, num_steps=40)
    service = open_service([caption_of], generator)
    with running(service) as address:
        async with httpx.AsyncClient(base_url=address, timeout=20) as client:
            kept = asyncio.create_task(client.post("/v1/chat/completions", json=body_of("kept")))
            lost = [
                asyncio.create_task(client.post("/v1/chat/completions", json=body_of(f"lost {stream}", stream=stream)))
                for stream in (False, True)
            ]
            await until(lambda: service.jobs.num_running == 3)
            await asyncio.sleep(0.1)
            for task in lost:
                task.cancel()
            await asyncio.gather(*lost, return_exceptions=True)
            await until(lambda: service.jobs.num_running == 1)
            answer = (await kept).json()
    assert [prompt for prompt, _ in pictures_of(answer)] == ["kept"]
    assert {each.title for each in service.store(LOCAL_USER).list()} == {"kept"}


async def test_a_full_queue_says_when_to_come_back(open_service: Any, client_of: Any) -> None:
    generator = FlatColourGenerator(size=(16, 16), delay_s=0.2)
    async with client_of(open_service([caption_of], generator, workers=1, queue=1)) as client:
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", json=body_of("a", stream=stream)) for stream in (False, True, True)),
            client.post("/v1/chat/completions", json=body_of("a")),
        )
    refused = [answer for answer in answers if answer.status_code == 429]
    assert Counter(answer.status_code for answer in answers) == {200: 2, 429: 2}
    for answer in refused:
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert "1 requests run and 1 wait" in answer.json()["error"]["message"]


class Stoppable:
    """A server in a thread that gets signals."""

    def __init__(self, service: Any) -> None:
        self.addresses: list[str] = []
        config = uvicorn.Config(create_app(service), port=0, log_config=None, timeout_graceful_shutdown=20)
        self.server = GracefulServer(config, service, self.addresses.append)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        end = time.monotonic() + 10
        while not self.addresses and time.monotonic() < end:
            time.sleep(0.005)


async def test_at_sigterm_what_runs_is_finished_and_what_waits_is_handed_back(open_service: Any) -> None:
    generator = FlatColourGenerator(size=(16, 16), delay_s=0.6)
    service = open_service([caption_of], generator, workers=1, queue=5)
    stoppable = Stoppable(service)
    async with httpx.AsyncClient(base_url=stoppable.addresses[0], timeout=20) as client:
        runs = asyncio.create_task(client.post("/v1/chat/completions", json=body_of("runs", stream=True)))
        await until(lambda: service.jobs.num_running == 1)
        waits = [
            asyncio.create_task(client.post("/v1/chat/completions", json=body_of("waits", stream=stream)))
            for stream in (False, True)
        ]
        await until(lambda: service.jobs.num_waiting == 2)
        stoppable.server.handle_exit(signal.SIGTERM, None)
        for answer in await asyncio.gather(*waits):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_stopping")
            assert int(answer.headers["retry-after"]) >= 1
        answer = await runs
    assert answer.status_code == 200 and answer.text.endswith("data: [DONE]\n\n")
    assert len(set(ids_in_text(answer.text))) == 1
    await asyncio.to_thread(stoppable.thread.join, 10)
    assert not stoppable.thread.is_alive()


async def test_after_the_time_to_stop_what_is_drawn_is_kept(open_service: Any) -> None:
    generator = FlatColourGenerator(size=(16, 16), delay_s=30, num_steps=600)
    service = open_service([caption_of], generator, drain_s=0.1)
    stoppable = Stoppable(service)
    async with httpx.AsyncClient(base_url=stoppable.addresses[0], timeout=20) as client:
        runs = asyncio.create_task(client.post("/v1/chat/completions", json=body_of("runs")))
        await until(lambda: generator.num_batches == 1)
        started = time.monotonic()
        stoppable.server.handle_exit(signal.SIGTERM, None)
        answer = (await runs).json()
    assert answer["mgem"]["outcome"] == "cancelled"
    assert [each["prompt"] for each in answer["mgem"]["failures"]] == ["runs"]
    await asyncio.to_thread(stoppable.thread.join, 10)
    assert not stoppable.thread.is_alive() and time.monotonic() - started < 10


async def test_a_session_of_the_dialogue_leaves_nothing_behind(
    open_service: Any, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing: list[Sessions] = []
    made = Sessions.in_memory
    monkeypatch.setattr(Sessions, "in_memory", lambda: passing.append(made()) or passing[-1])
    service = open_service([caption_of], sessions=made())
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    async with client_of(service) as client:
        for _ in range(2):
            await client.post("/v1/chat/completions", json={"messages": turns})
    [sessions] = passing
    assert sessions.list() == []
    records: Any = sessions._records  # pyright: ignore[reportPrivateUsage]
    checkpoints: Any = sessions.checkpointer
    assert not records._data and not checkpoints.storage and not checkpoints.writes and not checkpoints.blobs


async def test_the_reasoner_finds_its_caches_by_the_dialogue(open_service: Any, client_of: Any) -> None:
    seen: list[str] = []

    def note(request: Any) -> str:
        seen.append(request.thread_id)
        return "Yes."

    first = [{"role": "user", "content": "Hello."}]
    second = [*first, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Go on."}]
    async with client_of(open_service([note])) as client:
        for messages in (first, second, [{"role": "user", "content": "Another."}]):
            await client.post("/v1/chat/completions", json={"messages": messages})
    assert seen[0] == seen[1] != seen[2]
    assert all(re.fullmatch(r"dialogue-[0-9a-f]{24}", name) for name in seen)

"""Two servers that share their sessions in PostgreSQL and their pictures in S3, alone and behind a round robin."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

GATEWAY = """
import sys
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.server.service import AgentService
from mgem_agent.server.security import open_access
from mgem_agent.server.serving import serve
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.settings import load_settings
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

class Paced(FlatColourGenerator):
    def __init__(self):
        one_by_one = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_batch_size": 1})
        super().__init__(size=(16, 16), num_steps=100, capabilities=one_by_one)
    def generate(self, requests, **options):
        self._delay_s = 60.0 if "slowly" in requests[0].prompt else 0.0
        yield from super().generate(requests, **options)

def answer(request):
    texts = [str(each["content"]) for each in request.dialogue]
    asked = texts[-1].rpartition("text': '")[2] if "text': '" in texts[-1] else texts[-1]
    if "raw" in asked:
        return f"Here: <h> a fox, {asked.rstrip('.}]').strip(chr(39))} </h>"
    return f"I was asked {sum(each['role'] == 'user' for each in request.dialogue)} times."

sessions, store, *rest = sys.argv[1:]
settings = load_settings(
    model="scripted", generator="flat", store=store, sessions=sessions,
    server={"port": 0, "drain_s": 2, "log": "none", "token_file": rest[0] if rest else None},
)
service = AgentService(
    settings, reasoner=ScriptedReasoner(script=[answer], is_endless=True), generators=["flat"],
    make_generator=lambda name: Paced(), store=ArtifactStore(settings.store),
    sessions=Sessions.postgres(settings.sessions), access=open_access(settings.server),
)
serve(service, lambda address: print(address, flush=True))
"""
DRAW: Any = {"type": "image_generation"}


class Gateway:
    """A server in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-W", "ignore", "-c", GATEWAY, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.address
        self._clients = ExitStack()

    def client(self, key: str = "unused") -> Any:
        made = openai.OpenAI(base_url=f"{self.address}/v1", api_key=key, max_retries=0)
        return self._clients.enter_context(made)

    def end(self) -> None:
        self._clients.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def gateways(postgres: str, s3: str) -> Iterator[list[Gateway]]:
    """Two servers; started at once, on an empty database and an empty bucket."""
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: Gateway(postgres, f"{s3}/pictures"), range(2)))
    yield both
    for gateway in both:
        gateway.end()


@contextmanager
def round_robin(addresses: list[str]) -> Iterator[str]:
    """A proxy that sends each request to the next server, as nginx does by default; yields its address."""
    turns = itertools.cycle(addresses)  # so two requests in a row go to different servers
    started = threading.Event()

    async def forward(request: Request) -> StreamingResponse:
        client: httpx.AsyncClient = request.app.state.client
        url = f"{next(turns)}{request.url.path}" + (f"?{request.url.query}" if request.url.query else "")
        headers = [(name, value) for name, value in request.headers.raw if name != b"content-length"]
        sent = client.build_request(request.method, url, headers=headers, content=await request.body())
        answer = await client.send(sent, stream=True)
        told = {"content-type": answer.headers["content-type"]}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, told, background=BackgroundTask(answer.aclose))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(timeout=60) as app.state.client:
            started.set()
            yield

    routes = [Route("/{path:path}", forward, methods=["GET", "POST", "DELETE"])]
    config = uvicorn.Config(Starlette(routes=routes, lifespan=lifespan), port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(20)
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=20)


def text_of(response: Any) -> str:
    return str(response.output_text)


@pytest.mark.slow
def test_each_continues_what_the_other_began(gateways: list[Gateway]) -> None:
    with ExitStack() as stack:
        address = stack.enter_context(round_robin([each.address for each in gateways]))
        client: Any = stack.enter_context(openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0))
        # Responses that continue each other, each on the other server.
        first = client.responses.create(model="mgem", input="Draw it red", tools=[DRAW])
        second = client.responses.create(model="mgem", input="How often?", previous_response_id=first.id)
        assert text_of(second) == "I was asked 2 times."
        again = client.responses.retrieve(first.id)
        [drawn] = [item for item in first.output if item.type == "image_generation_call"]
        assert [item.result for item in again.output if item.type == "image_generation_call"] == [drawn.result]
        # A picture by its id, from both.
        made = client.images.generate(model="flat", prompt="a hen", response_format="url", n=1)
        path = httpx.URL(made.data[0].url).path
        pngs = [httpx.get(f"{each.address}{path}") for each in gateways]
        assert [each.status_code for each in pngs] == [200, 200] and pngs[0].content == pngs[1].content
        # A conversation, and its items.
        conversation = client.conversations.create()
        for number in range(1, 5):
            answer = client.responses.create(model="mgem", input="How often?", conversation=conversation.id)
            assert text_of(answer) == f"I was asked {number} times."
        items = client.conversations.items.list(conversation.id, order="asc").data
        assert [item.role for item in items] == ["user", "assistant"] * 4
        # A dialogue that the client sends whole, with the picture that the other server drew.
        chat = [{"role": "user", "content": "Draw it blue"}]
        told = client.chat.completions.create(model="mgem", messages=chat).choices[0].message
        chat += [{"role": "assistant", "content": told.content}, {"role": "user", "content": "How often?"}]
        assert client.chat.completions.create(model="mgem", messages=chat).choices[0].message.content == (
            "I was asked 2 times."
        )


@pytest.mark.slow
def test_responses_at_once_on_both_are_all_added_to_a_conversation(gateways: list[Gateway]) -> None:
    clients = [each.client() for each in gateways]
    conversation = clients[0].conversations.create()

    def ask(number: int) -> str:
        options: Any = {"model": "mgem", "input": f"Question {number}?", "conversation": conversation.id}
        return str(clients[number % 2].responses.create(**options).id)

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(ask, range(12)))) == 12
    items = clients[1].conversations.items.list(conversation.id, order="asc", limit=100).data
    asked = [item.content[0].text for item in items if item.role == "user"]
    assert sorted(asked) == sorted(f"Question {number}?" for number in range(12))


@pytest.mark.slow
def test_a_response_in_the_background_is_known_to_the_other(gateways: list[Gateway]) -> None:
    here, there = (each.client() for each in gateways)
    options: Any = {"model": "mgem", "tools": [DRAW], "background": True}
    # It is retrieved, its input is listed, and its end is waited for.
    quick = here.responses.create(input="How often?", **options)
    *_, last = list(streamed_events(f"{gateways[1].address}/v1/responses/{quick.id}?stream=true"))
    assert last["type"] == "response.completed" and there.responses.retrieve(quick.id).status == "completed"
    slow = here.responses.create(input="Draw it slowly", **options)
    wait_until(lambda: there.responses.input_items.list(slow.id).data)
    assert there.responses.retrieve(slow.id).status == "in_progress"
    assert there.responses.input_items.list(slow.id).data[0].content[0].text == "Draw it slowly"
    # It is cancelled from there, and deleted from there.
    assert there.responses.cancel(slow.id).status == "cancelled"
    assert here.responses.retrieve(slow.id).status == "cancelled"
    other = here.responses.create(input="Draw it slowly", **options)
    there.responses.delete(other.id)
    with pytest.raises(openai.NotFoundError):
        here.responses.retrieve(other.id)
    # Its server is killed.
    lost = here.responses.create(input="Draw it slowly", **options)
    assert there.responses.retrieve(lost.id).status in ("queued", "in_progress")
    gateways[0].end()
    wait_until(lambda: there.responses.retrieve(lost.id).status == "failed")
    assert "The server was stopped before the response was finished" in there.responses.retrieve(lost.id).error.message


@pytest.mark.slow
def test_users_are_the_same_on_both(postgres: str, s3: str, tmp_path: Any) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text('ann = "a-token-of-ann-0123456789"\nben = "a-token-of-ben-0123456789"\n')
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: Gateway(postgres, f"{s3}/pictures", str(tokens)), range(2)))
    ann, ben = both[0].client("a-token-of-ann-0123456789"), both[1].client("a-token-of-ben-0123456789")
    made = ann.images.generate(model="flat", prompt="a hen", response_format="url", n=1)
    signed = httpx.URL(made.data[0].url)
    assert httpx.get(f"{both[1].address}{signed.raw_path.decode()}").status_code == 200
    assert httpx.get(f"{both[1].address}{signed.path}").status_code == 401
    response = ann.responses.create(model="mgem", input="How often?")
    with pytest.raises(openai.NotFoundError):
        ben.responses.retrieve(response.id)
    assert both[1].client("a-token-of-ann-0123456789").responses.retrieve(response.id).id == response.id
    for gateway in both:
        gateway.end()


def wait_until(is_so: Any) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def streamed_events(url: str) -> Iterator[dict[str, Any]]:
    with httpx.stream("GET", url, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))

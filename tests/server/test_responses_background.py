"""Responses in the background, cancelled or followed; and responses whose client leaves, which can be continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from mgem_agent.errors import ReasonerUnavailableError
from mgem_agent.server.security import LOCAL_USER
from mgem_agent.server.service import AgentService
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
DRAW: Any = {"type": "image_generation"}
TWO = "Two: <h> a red fox </h> <h> a blue hen </h>"
LONG_S = 60.0


class Paced(FlatColourGenerator):
    """Cards one by one; the first is there at once, and the second takes as long as `delay_s`."""

    def __init__(self, delay_s: float = LONG_S) -> None:
        one_by_one = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_batch_size": 1})
        super().__init__(size=(32, 24), num_steps=100, capabilities=one_by_one)
        self.slow_s = delay_s

    def generate(self, requests: Any, **options: Any) -> Any:
        self._delay_s = self.slow_s if "hen" in requests[0].prompt else 0.0
        yield from super().generate(requests, **options)


@pytest.fixture
def connect(open_service: Callable[..., AgentService], running: Any) -> Iterator[Callable[..., Any]]:
    """Opens a client of a server whose reasoner writes the given lines; the client has `reasoner` and `service`."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def connected(*lines: Any, **options: Any) -> Any:
            reasoner = ScriptedReasoner(script=lines, is_endless=True)
            service = open_service(reasoner=reasoner, **{"generator": Paced(), **options})
            address = stack.enter_context(running(service))
            client: Any = openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0)
            client.reasoner, client.service = reasoner, service
            return stack.enter_context(client)

        yield connected


def checked(response: Any) -> Any:
    Response.model_validate(response.model_dump(warnings=False))
    return response


def until(found: Callable[[], Any], is_there: Callable[[Any], Any]) -> Any:
    end = time.monotonic() + 15
    while not is_there(latest := found()):
        assert time.monotonic() < end, latest
        time.sleep(0.02)
    return latest


def drawn(response: Any) -> list[Any]:
    return [item for item in response.output if item.type == "image_generation_call"]


def asked(client: Any) -> list[str]:
    """Return the texts of the reasoner's latest request."""
    contents = [each["content"] for each in client.reasoner.requests[-1].dialogue]
    blocks = [[{"text": content}] if isinstance(content, str) else content for content in contents]
    return ["".join(block.get("text", "") for block in each) for each in blocks]


def leave(client: Any, **options: Any) -> str:
    """Begin a streamed response, and leave when its first picture is drawn; return its id when it is saved."""
    given: Any = {"model": "mgem", "input": "Draw two.", "tools": [DRAW], **options}
    with client.responses.create(**given, stream=True) as stream:
        first = next(stream)
        assert any(event.type.endswith("call.completed") for event in stream)
    sessions = client.service.sessions(LOCAL_USER)
    until(lambda: sessions.note("responses", first.response.id), bool)
    return str(first.response.id)


def test_it_is_there_later(connect: Any) -> None:
    client = connect("Here: <h> a red fox </h>")
    begun = checked(client.responses.create(model="mgem", input="Draw.", tools=[DRAW], background=True))
    assert (begun.status, begun.output, begun.background) == ("queued", [], True)
    done = until(lambda: client.responses.retrieve(begun.id), lambda found: found.status == "completed")
    assert len(drawn(checked(done))) == 1 and drawn(done)[0].result and done.id == begun.id
    second = client.responses.create(model="mgem", input="What is it?", previous_response_id=begun.id)
    assert second.status == "completed" and "Draw." in asked(client)
    with pytest.raises(openai.BadRequestError, match="is completed. It cannot be cancelled"):
        client.responses.cancel(begun.id)
    with pytest.raises(openai.BadRequestError, match="not created with background=true"):
        client.responses.cancel(second.id)


def test_it_is_cancelled_and_what_is_drawn_is_kept(connect: Any) -> None:
    client = connect(TWO, "A fox.")
    begun = client.responses.create(model="mgem", input="Draw two.", tools=[DRAW], background=True)
    is_half = lambda found: [item.status for item in drawn(found)][:1] == ["completed"]  # noqa: E731
    running = until(lambda: client.responses.retrieve(begun.id), is_half)
    assert running.status == "in_progress"
    cancelled = checked(client.responses.cancel(begun.id))
    assert cancelled.status == "cancelled"
    assert [item.status for item in drawn(cancelled)] == ["completed", "failed"]
    for again in (client.responses.cancel(begun.id), client.responses.retrieve(begun.id)):
        assert again.status == "cancelled" and drawn(again)[0].result == drawn(cancelled)[0].result
    client.responses.create(model="mgem", input="What is it?", previous_response_id=begun.id)
    assert asked(client)[0] == "Draw two." and asked(client)[-1].endswith("What is it?")
    client.responses.delete(begun.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(begun.id)


def test_its_events_are_followed_from_any_one_on(connect: Any) -> None:
    client = connect("Here: <h> a red fox </h>")
    with client.responses.create(model="mgem", input="Draw.", tools=[DRAW], background=True, stream=True) as stream:
        begun = next(stream).response
    rest = list(client.responses.retrieve(begun.id, stream=True, starting_after=0))
    for event in rest:
        EVENT.validate_python(event.model_dump(warnings=False))
    assert rest[-1].type == "response.completed" and len(drawn(rest[-1].response)) == 1
    done = until(lambda: client.responses.retrieve(begun.id), lambda found: found.status == "completed")
    [last] = client.responses.retrieve(begun.id, stream=True)
    assert (last.type, last.response.output[-1].id) == ("response.completed", done.output[-1].id)


def test_one_that_fails_says_why(connect: Any) -> None:
    def fail(request: Any) -> str:
        raise ReasonerUnavailableError("The model's server is gone. Start it.")

    client = connect(fail)
    begun = client.responses.create(model="mgem", input="Hello.", background=True)
    failed = until(lambda: client.responses.retrieve(begun.id), lambda found: found.status == "failed")
    assert failed.error.message == "The model's server is gone. Start it."
    with pytest.raises(openai.BadRequestError, match="is failed"):
        client.responses.cancel(begun.id)


def test_one_that_waits_is_cancelled_and_a_full_queue_refuses_the_next(connect: Any) -> None:
    client = connect(TWO, workers=1, queue=1)
    options: Any = {"model": "mgem", "input": "Draw two.", "tools": [DRAW], "background": True}
    first = client.responses.create(**options)
    until(lambda: client.responses.retrieve(first.id), lambda found: found.status == "in_progress")
    second = client.responses.create(**options)
    until(lambda: client.service.jobs.num_waiting, lambda found: found == 1)
    with pytest.raises(openai.RateLimitError):
        client.responses.create(**options)
    assert client.responses.cancel(second.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError, match="ended before its turn began"):
        client.responses.create(model="mgem", input="More.", previous_response_id=second.id)
    client.responses.delete(first.id)  # which cancels it
    assert client.service.sessions(LOCAL_USER).list() == []


def test_one_that_a_killed_server_left_has_failed(connect: Any) -> None:
    client = connect("Hi.")
    done = client.responses.create(model="mgem", input="Hello.")
    sessions = client.service.sessions(LOCAL_USER)
    note = sessions.note("responses", done.id)
    sessions.put_note("responses", done.id, {**note, "response": {**note["response"], "status": "in_progress"}})
    assert client.responses.retrieve(done.id).error.message.startswith("The server was stopped before")


def test_the_turn_of_a_client_that_left_is_ended_by_the_next_message(connect: Any) -> None:
    client = connect(TWO, "It is a fox.")
    left = leave(client)
    [session] = client.service.sessions(LOCAL_USER).list()
    assert (session.title, session.unfinished, session.num_turns) == ("Draw two.", True, 0)
    found = checked(client.responses.retrieve(left))
    assert found.status == "incomplete" and [item.status for item in drawn(found)] == ["completed", "failed"]
    second = client.responses.create(model="mgem", input="What is it?", previous_response_id=left)
    assert second.output_text == "It is a fox."
    assert asked(client)[0] == "Draw two." and asked(client)[-1].endswith("What is it?")
    assert client.service.store(LOCAL_USER).list()[0].id in str(client.reasoner.requests[-1].dialogue)
    [session] = client.service.sessions(LOCAL_USER).list()
    assert (session.unfinished, session.num_turns) == (False, 2)


def test_the_turn_of_a_client_that_left_is_resumed_without_an_input(connect: Any) -> None:
    generator = Paced()
    client = connect(TWO, "Never asked.", generator=generator)
    left = leave(client)
    generator.slow_s = 0.0
    second = checked(client.responses.create(model="mgem", previous_response_id=left, tools=[DRAW]))
    assert (second.status, len(drawn(second)), second.previous_response_id) == ("completed", 2, left)
    assert [request.prompt for request in generator.drawn] == ["a red fox", "a blue hen"]
    assert len(client.reasoner.requests) == 1
    client.responses.delete(left)  # the turn is now that of the second response
    third = client.responses.create(model="mgem", input="Thanks.", previous_response_id=second.id)
    assert third.output_text == "Never asked."


def test_a_client_that_leaves_an_edit_or_a_conversation(connect: Any) -> None:
    client = connect("Here: <h> a red fox </h>", TWO, "Yes.")
    conversation = client.conversations.create()
    client.responses.create(model="mgem", input="Draw.", conversation=conversation.id, tools=[DRAW])
    leave(client, conversation=conversation.id)
    last = client.responses.create(model="mgem", input="Is it a fox?", conversation=conversation.id)
    assert last.output_text == "Yes."
    assert asked(client)[0] == "Draw." and asked(client)[-1].endswith("Is it a fox?")
    assert "Draw two." in str(asked(client))
    [session] = client.service.sessions(LOCAL_USER).list()
    assert session.num_turns == 3


def test_a_client_with_functions_that_leaves_is_answered_on(connect: Any) -> None:
    client = connect(TWO, "A fox.")
    weather: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    left = leave(client, tools=[DRAW, weather])
    [session] = client.service.sessions(LOCAL_USER).list()
    assert (session.unfinished, session.num_turns) == (False, 1)
    second = client.responses.create(model="mgem", input="What is it?", previous_response_id=left)
    assert second.output_text == "A fox."
    assert asked(client)[0] == "Draw two." and asked(client)[-1].endswith("What is it?") and "Two:" in asked(client)[1]


def test_a_server_that_stops_keeps_the_turns_that_run(open_service: Callable[..., AgentService], running: Any) -> None:
    service = open_service(script=[TWO], generator=Paced(), drain_s=0.2)
    with running(service) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="unused") as client:
        begun = client.responses.create(model="mgem", input="Draw two.", tools=[DRAW], background=True)
        is_half = lambda found: [item.status for item in drawn(found)][:1] == ["completed"]  # noqa: E731
        until(lambda: client.responses.retrieve(begun.id), is_half)
    note = service.sessions(LOCAL_USER).note("responses", begun.id)
    assert note is not None and note["response"]["status"] == "incomplete" and len(note["drawn"]) == 1
    [session] = service.sessions(LOCAL_USER).list()
    assert session.unfinished


def test_a_stream_that_is_not_stored_leaves_nothing(connect: Any) -> None:
    client = connect(TWO)
    with client.responses.create(model="mgem", input="Draw.", tools=[DRAW], stream=True, store=False) as stream:
        assert any(event.type.endswith("call.completed") for event in stream)
    until(lambda: client.service.jobs.num_running, lambda found: found == 0)
    assert client.service.sessions(LOCAL_USER).list() == []
    assert len(client.service.store(LOCAL_USER).list()) == 1  # the picture is kept


def test_another_server_knows_a_response_in_the_background(connect: Any, tmp_path: Path) -> None:
    """Two servers with their sessions in one SQLite database."""
    databases = [Sessions.at(tmp_path / "sessions") for _ in range(2)]
    here, there = (connect(TWO, sessions=sessions) for sessions in databases)
    begun = here.responses.create(model="mgem", input="Draw two.", background=True, tools=[DRAW])
    until(lambda: there.responses.input_items.list(begun.id).data, bool)
    assert there.responses.retrieve(begun.id).status == "in_progress"
    events = there.responses.retrieve(begun.id, stream=True)
    assert next(iter(events)).type == "response.in_progress"
    cancelled = checked(there.responses.cancel(begun.id))
    assert cancelled.status == "cancelled" and here.responses.retrieve(begun.id).status == "cancelled"
    assert [event.type for event in events] == ["response.incomplete"]
    for sessions in databases:
        sessions.close()

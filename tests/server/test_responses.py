"""Responses by the openai SDK over a real connection: every response and event is validated by the SDK's types."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from openai.types.responses import Response, ResponseStreamEvent
from PIL import Image
from pydantic import TypeAdapter

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.server.security import LOCAL_USER, Access, User
from mgem_agent.server.service import AgentService
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
DRAW: Any = {"type": "image_generation"}
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    "strict": False,
}


def data_url(colour: str = "red", size: tuple[int, int] = (32, 32)) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def checked(response: Response) -> Response:
    """Validate a response strictly, which the SDK itself does not."""
    Response.model_validate(response.model_dump(warnings=False))
    return response


def drawn(response: Response) -> list[Any]:
    return [item for item in checked(response).output if item.type == "image_generation_call"]


@pytest.fixture
def generator() -> FlatColourGenerator:
    return FlatColourGenerator(size=(64, 48), num_steps=4)


@pytest.fixture
def connect(
    open_service: Callable[..., AgentService], running: Any, generator: FlatColourGenerator
) -> Iterator[Callable[..., openai.OpenAI]]:
    """Opens a client of a server whose reasoner writes the given lines; the client has `reasoner` and `service`."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def connected(*lines: Any, **options: Any) -> Any:
            reasoner = options.pop("reasoner", None) or ScriptedReasoner(script=lines, is_endless=True)
            service = open_service(reasoner=reasoner, **{"generator": generator, **options})
            address = stack.enter_context(running(service))
            client: Any = openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0)
            client.reasoner, client.service, client.address = reasoner, service, address
            stack.enter_context(client)
            return client

        yield connected


def test_words(connect: Any) -> None:
    client = connect("Hello there.")
    response = checked(client.responses.create(model="mgem", input="Hi.", metadata={"a": "b"}, max_output_tokens=99))
    assert response.output_text == "Hello there."
    assert (response.status, response.model, response.metadata) == ("completed", "mgem", {"a": "b"})
    assert (response.usage.input_tokens, response.usage.output_tokens) == (1, 3)  # type: ignore[union-attr]
    assert client.reasoner.requests[0].max_tokens == 99


def test_nothing_is_drawn_without_the_tool(connect: Any, generator: FlatColourGenerator) -> None:
    client = connect("Here: <h> a red fox </h>")
    response = client.responses.create(model="mgem", input="Draw a fox.")
    assert [item.type for item in response.output] == ["message"]
    response = client.responses.create(model="mgem", input="Draw a fox.", tools=[DRAW], tool_choice="none")
    assert [item.type for item in response.output] == ["message"]
    assert generator.drawn == []


def test_a_picture_as_an_item_after_the_words(connect: Any, generator: FlatColourGenerator) -> None:
    client = connect("Here it is: <h> a red fox </h>")
    tool = {**DRAW, "size": "96x80", "quality": "high", "output_format": "webp", "seed": 7, "model": "flat"}
    response = client.responses.create(model="mgem", input="Draw a fox.", tools=[tool])
    [item] = drawn(response)
    assert response.output_text.strip() == "Here it is:"
    assert [each.type for each in response.output] == ["message", "image_generation_call"]
    with Image.open(io.BytesIO(base64.b64decode(item.result))) as image:
        assert (image.format, image.size) == ("WEBP", (96, 80))
    assert (item.status, item.size, item.output_format, item.revised_prompt) == (
        "completed", "96x80", "webp", "a red fox"
    )  # fmt: skip
    assert generator.drawn[0].seed == 7
    assert response.model_extra["notices"] == ["flat has no quality; it was left out."]
    assert client.service.store(LOCAL_USER).get(item.picture_id).title == "a red fox"


def test_the_tool_can_be_required(connect: Any, generator: FlatColourGenerator) -> None:
    client = connect("a blue hen </h>")
    for choice in ("required", {"type": "image_generation"}):
        assert len(drawn(client.responses.create(input="A hen.", tools=[DRAW], tool_choice=choice, model=""))) == 1
    assert [request.prompt for request in generator.drawn] == ["a blue hen"] * 2


def test_streamed_events_in_the_order_of_the_sdk(connect: Any) -> None:
    client = connect("Here: <h> a red fox </h>")
    tool = {**DRAW, "partial_images": 2}
    events = list(client.responses.create(model="mgem", input="Draw.", tools=[tool], stream=True))
    for event in events:
        EVENT.validate_python(event.model_dump(warnings=False))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "image_generation_call.in_progress",
        "image_generation_call.generating",
        "image_generation_call.partial_image",
        "image_generation_call.partial_image",
        "image_generation_call.completed",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    partial = [event for event in events if event.type.endswith("partial_image")]
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert {load_image(base64.b64decode(event.partial_image_b64)).size for event in partial} == {(64, 48)}
    assert {event.item_id for event in partial} == {events[-1].response.output[1].id}
    assert {event.output_index for event in partial} == {1}
    assert events[-2].item == events[-1].response.output[1]
    assert events[0].response.output == [] and events[0].response.status == "in_progress"


def test_the_stream_helper_of_the_sdk_accumulates_the_response(connect: Any) -> None:
    client = connect("Some words. <h> a red fox </h>")
    with client.responses.stream(model="mgem", input="Draw.", tools=[DRAW]) as stream:
        for _ in stream:
            pass
        response = stream.get_final_response()
    assert response.output_text.strip() == "Some words."
    assert len(drawn(response)) == 1


def test_a_response_continues_another(connect: Any) -> None:
    client = connect("A fox.", "It is red.", "Yes.")
    first = client.responses.create(model="mgem", input="What is it?", instructions="Be short.")
    second = client.responses.create(model="mgem", input="Which colour?", previous_response_id=first.id)
    third = client.responses.create(model="mgem", input="Sure?", previous_response_id=second.id)
    asked = [[str(each["content"]) for each in request.dialogue] for request in client.reasoner.requests]
    assert asked == [
        ["Be short.", "What is it?"],
        ["What is it?", "A fox.", "Which colour?"],
        ["What is it?", "A fox.", "Which colour?", "It is red.", "Sure?"],
    ]
    assert (third.previous_response_id, third.output_text) == (second.id, "Yes.")
    [session] = client.service.sessions(LOCAL_USER).list()
    assert (session.num_turns, session.title) == (3, "What is it?")


def test_two_responses_may_continue_the_same_one(connect: Any) -> None:
    client = connect("Zero.", "One.", "Two.", "Three.")
    first = client.responses.create(model="mgem", input="0")
    client.responses.create(model="mgem", input="1", previous_response_id=first.id)
    other = client.responses.create(model="mgem", input="2", previous_response_id=first.id)
    client.responses.create(model="mgem", input="3", previous_response_id=other.id)
    last = [str(each["content"]) for each in client.reasoner.requests[-1].dialogue]
    assert last == ["0", "Zero.", "2", "Two.", "3"]
    assert sorted(each.num_turns for each in client.service.sessions(LOCAL_USER).list()) == [2, 3]


def test_system_messages_stay_and_instructions_do_not(connect: Any) -> None:
    client = connect("a", "b")
    items = [{"role": "developer", "content": "Speak French."}, {"role": "user", "content": "Hi."}]
    first = client.responses.create(model="mgem", input=items, instructions="Be short.")
    client.responses.create(model="mgem", input="More.", previous_response_id=first.id, instructions="Be long.")
    systems = [request.dialogue[0]["content"] for request in client.reasoner.requests]
    assert systems == ["Be short.\n\nSpeak French.", "Speak French.\n\nBe long."]


def test_the_last_picture_is_edited(connect: Any, generator: FlatColourGenerator) -> None:
    client = connect("<h> a red fox </h>", "Anything.")
    first = client.responses.create(model="mgem", input="Draw a fox.", tools=[DRAW])
    [before] = drawn(first)
    tool = {**DRAW, "action": "edit", "seed": 5}
    second = client.responses.create(model="mgem", input="Make it night.", previous_response_id=first.id, tools=[tool])
    [after] = drawn(second)
    request = generator.drawn[-1]
    assert (request.task, request.prompt, request.image, request.seed) == (
        "edit",
        "Make it night.",
        before.picture_id,
        5,
    )
    assert (after.action, before.action) == ("edit", "generate")
    assert len(client.reasoner.requests) == 1  # the reasoner is not asked for an edit
    third = client.responses.create(
        model="mgem", input="And blue.", previous_response_id=second.id, tools=[{**DRAW, "action": "edit"}]
    )
    assert generator.drawn[-1].image == after.picture_id
    assert len(drawn(third)) == 1


def test_a_picture_is_named_by_its_call_in_the_next_input(connect: Any, generator: FlatColourGenerator) -> None:
    client = connect("<h> a red fox </h>", "Nice.")
    [item] = drawn(client.responses.create(model="mgem", input="Draw a fox.", tools=[DRAW]))
    # The order of OpenAI's guide: the call follows the message.
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "Make it night."}]},
        {"type": "image_generation_call", "id": item.id},
    ]
    client.responses.create(model="mgem", input=given, tools=[{**DRAW, "action": "edit"}])
    assert generator.drawn[-1].image == item.picture_id
    client.responses.create(model="mgem", input=[given[1], given[0]])
    assert [each["role"] for each in client.reasoner.requests[-1].dialogue] == ["user", "assistant", "user"]
    given[1] = {"type": "image_generation_call", "id": "ig_other", "result": data_url("blue").partition(",")[2]}
    client.responses.create(model="mgem", input=given, tools=[{**DRAW, "action": "edit"}])
    assert client.service.store(LOCAL_USER).open(generator.drawn[-1].image).getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(openai.BadRequestError, match="no picture of the call 'ig_none'") as caught:
        client.responses.create(model="mgem", input=[{"type": "image_generation_call", "id": "ig_none"}, given[0]])
    assert caught.value.param == "input.0.id"


def test_pictures_in_and_a_mask(connect: Any, generator: FlatColourGenerator) -> None:
    client = connect("A red square.")
    parts = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": data_url("red")}]
    client.responses.create(model="mgem", input=[{"role": "user", "content": parts}])
    [picture] = client.service.store(LOCAL_USER).list()
    assert "image" in json.dumps(client.reasoner.requests[0].dialogue[0]["content"], default=str)
    parts[1] = {"type": "input_image", "file_id": picture.id}
    mask = {"image_url": data_url("white")}
    tool = {**DRAW, "input_image_mask": mask, "strength": 0.4}
    client.responses.create(model="mgem", input=[{"role": "user", "content": parts}], tools=[tool])
    request = generator.drawn[-1]
    assert (request.task, request.image, request.strength) == ("inpaint", picture.id, 0.4)


def test_what_the_back_end_cannot_do_is_an_error(connect: Any) -> None:
    able = FlatColourGenerator.CAPABILITIES.model_copy(
        update={"tasks": frozenset({"text_to_image"}), "max_references": 0}
    )
    client = connect("<h> a fox </h>", generator=FlatColourGenerator(capabilities=able))
    picture = {"role": "user", "content": [
        {"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": data_url()}
    ]}  # fmt: skip
    for tool, message in (
        ({"input_fidelity": "high"}, "does not support input_fidelity='high'"),
        ({"background": "transparent"}, "does not support background='transparent'"),
        ({"input_image_mask": {"image_url": data_url()}}, "task='inpaint' is not supported"),
        ({"action": "edit"}, "cannot edit this picture"),
    ):
        with pytest.raises(openai.BadRequestError, match=message):
            client.responses.create(model="mgem", input=[picture], tools=[{**DRAW, **tool}])


@pytest.mark.parametrize(
    ("given", "message", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "type 'web_search' is not supported", "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "A function must have a name", "tools.0.name"),
        ({"tools": [{**DRAW, "size": "big"}]}, "size='big' is not valid", "size"),
        ({"tools": [{**DRAW, "output_format": "gif"}]}, "output_format='gif' is not supported", "output_format"),
        ({"tools": [{**DRAW, "steps": 3}]}, "There is no field 'tools.0.steps'", "tools.0.steps"),
        ({"tools": [{**DRAW, "action": "edit"}]}, "There is no picture to edit", "input"),
        ({"tool_choice": "required"}, "there are no tools", "tool_choice"),
        ({"tool_choice": {"type": "image_generation"}}, "tool_choice names 'image_generation'", "tool_choice"),
        ({"input": [{"type": "computer_call"}]}, "type 'computer_call' is not supported", "input.0"),
        ({"input": [{"role": "king", "content": "x"}]}, "role 'king'", "input.0.role"),
        ({"input": [{"role": "user", "content": "x"}, {"role": "user", "content": ""}]}, "is empty", "input.1"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "The last message must be from the user", "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://10.0.0.1/a.png"}]}]},
            "does not fetch pictures from the web",
            "input.0.content.0",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "'input_file' is not supported",
            "input.0.content.0",
        ),
        ({"input": ""}, "The message is empty", "input.0"),
        ({"text": {"format": {"type": "grammar"}}}, "format 'grammar' is not supported", "text.format.type"),
        ({"background": True, "store": False}, "background=true needs store=true", "background"),
        ({"conversation": {}}, "conversation must be an id", "conversation"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "exclude each other", "conversation"),
        ({"instructions": "x", "input": [{"role": "user", "content": ""}]}, "is empty", "input.0"),
    ],
)
def test_what_is_not_valid_is_named(connect: Any, given: Any, message: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        connect("x").responses.create(**{"model": "mgem", "input": "Hi.", **given})
    assert message in str(caught.value)
    assert caught.value.param == param


def test_models_and_generators_that_do_not_exist(connect: Any) -> None:
    client = connect("x")
    with pytest.raises(openai.NotFoundError, match="no chat model 'gpt-9'"):
        client.responses.create(model="gpt-9", input="Hi.")
    with pytest.raises(openai.NotFoundError, match="no image generator 'gpt-image-1'"):
        client.responses.create(model="mgem", input="Hi.", tools=[{**DRAW, "model": "gpt-image-1"}])


def test_stored_responses_are_found_and_deleted(connect: Any) -> None:
    client = connect("Here: <h> a red fox </h>")
    response = client.responses.create(model="mgem", input="Draw.", tools=[{**DRAW, "output_format": "jpeg"}])
    found = client.responses.retrieve(response.id)
    assert found.model_dump(warnings=False) == response.model_dump(warnings=False)
    client.responses.delete(response.id)
    for ask in (
        lambda: client.responses.retrieve(response.id),
        lambda: client.responses.delete(response.id),
        lambda: client.responses.create(model="mgem", input="More.", previous_response_id=response.id),
        lambda: client.responses.retrieve("resp_../../x"),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert client.service.sessions(LOCAL_USER).list() == []
    with pytest.raises(openai.BadRequestError, match="no picture of the call"):
        client.responses.create(
            model="mgem",
            input=[{"type": "image_generation_call", "id": response.output[1].id}, {"role": "user", "content": "x"}],
        )


def test_a_deleted_response_that_was_continued_keeps_its_turn(connect: Any) -> None:
    client = connect("One.", "Two.", "Three.")
    first = client.responses.create(model="mgem", input="1")
    second = client.responses.create(model="mgem", input="2", previous_response_id=first.id)
    client.responses.delete(first.id)
    client.responses.create(model="mgem", input="3", previous_response_id=second.id)
    assert [str(each["content"]) for each in client.reasoner.requests[-1].dialogue] == ["1", "One.", "2", "Two.", "3"]


def test_a_response_that_is_not_stored_leaves_nothing(connect: Any) -> None:
    client = connect("One.", "Two.")
    first = client.responses.create(model="mgem", input="1")
    second = client.responses.create(model="mgem", input="2", previous_response_id=first.id, store=False)
    assert len(client.reasoner.requests[-1].dialogue) == 3
    with pytest.raises(openai.NotFoundError, match="store=false"):
        client.responses.retrieve(second.id)
    [session] = client.service.sessions(LOCAL_USER).list()
    assert session.num_turns == 1


def test_a_response_whose_dialogue_was_undone(connect: Any) -> None:
    client = connect("One.")
    first = client.responses.create(model="mgem", input="1")
    sessions: Sessions = client.service.sessions(LOCAL_USER)
    sessions.undo(sessions.list()[0].name)
    with pytest.raises(openai.NotFoundError, match="was undone or deleted"):
        client.responses.create(model="mgem", input="2", previous_response_id=first.id)


def test_a_session_in_use_is_continued_as_a_new_one(connect: Any) -> None:
    client = connect("One.", "Two.")
    first = client.responses.create(model="mgem", input="1")
    sessions: Sessions = client.service.sessions(LOCAL_USER)
    with sessions.hold(sessions.list()[0].name):
        client.responses.create(model="mgem", input="2", previous_response_id=first.id)
    assert sorted(each.num_turns for each in sessions.list()) == [1, 2]


def test_one_users_response_is_not_found_by_another(connect: Any) -> None:
    tokens = {"a" * 20: User("ann", "ann"), "b" * 20: User("bob", "bob")}
    client = connect("<h> a fox </h>", access=Access(tokens))
    ann, bob = (client.with_options(api_key=token) for token in tokens)
    response = ann.responses.create(model="mgem", input="Draw.", tools=[DRAW])
    assert ann.responses.retrieve(response.id).id == response.id
    call = {"type": "image_generation_call", "id": response.output[0].id}
    for ask in (
        lambda: bob.responses.retrieve(response.id),
        lambda: bob.responses.delete(response.id),
        lambda: bob.responses.create(model="mgem", input="More.", previous_response_id=response.id),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    with pytest.raises(openai.BadRequestError, match="no picture of the call"):
        bob.responses.create(model="mgem", input=[call, {"role": "user", "content": "x"}])


def test_functions_are_the_clients(connect: Any) -> None:
    call = AIMessage(
        content="", tool_calls=[{"name": "weather", "args": {"place": "Oslo"}, "id": "call_1", "type": "tool_call"}]
    )
    client = connect(call, "It rains.", "Yes.")
    first = client.responses.create(model="mgem", input="The weather in Oslo?", tools=[WEATHER])
    [item] = [each for each in checked(first).output if each.type == "function_call"]
    assert (item.name, json.loads(item.arguments), item.status) == ("weather", {"place": "Oslo"}, "completed")
    output = {"type": "function_call_output", "call_id": item.call_id, "output": "rain"}
    second = client.responses.create(model="mgem", input=[output], previous_response_id=first.id, tools=[WEATHER])
    assert second.output_text == "It rains."
    third = client.responses.create(model="mgem", input="Sure?", previous_response_id=second.id)
    assert third.output_text == "Yes."
    roles = [each["role"] for each in client.reasoner.requests[-1].dialogue]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    # The same with the whole dialogue in the input.
    client = connect(call, "It rains.")
    items: list[Any] = [{"role": "user", "content": "The weather?"}]
    items += [each.model_dump() for each in client.responses.create(model="mgem", input=items, tools=[WEATHER]).output]
    items.append({"type": "function_call_output", "call_id": items[-1]["call_id"], "output": "rain"})
    assert client.responses.create(model="mgem", input=items, tools=[WEATHER]).output_text == "It rains."
    with pytest.raises(openai.BadRequestError, match="answers the call 'call_9'"):
        client.responses.create(model="mgem", input=[{**output, "call_id": "call_9"}, items[0]])


def test_streamed_calls_of_functions(connect: Any) -> None:
    call = AIMessage(
        content="Let me see.",
        tool_calls=[{"name": "weather", "args": {"place": "Oslo"}, "id": "call_1", "type": "tool_call"}],
    )
    client = connect(call)
    events = list(client.responses.create(model="mgem", input="?", tools=[WEATHER], stream=True))
    for event in events:
        EVENT.validate_python(event.model_dump(warnings=False))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[-5:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


def test_functions_and_pictures_in_one_turn(connect: Any, generator: FlatColourGenerator) -> None:
    both = AIMessage(
        content="",
        tool_calls=[
            {"name": "generate_image", "args": {"prompt": "a fox"}, "id": "call_1", "type": "tool_call"},
            {"name": "weather", "args": {"place": "Oslo"}, "id": "call_2", "type": "tool_call"},
        ],
    )
    client = connect(both, "Done.")
    first = client.responses.create(model="mgem", input="Both.", tools=[DRAW, WEATHER])
    assert sorted(item.type for item in checked(first).output if item.type != "message") == [
        "function_call",
        "image_generation_call",
    ]
    output = {
        "type": "function_call_output",
        "call_id": next(item.call_id for item in first.output if item.type == "function_call"),
        "output": "rain",
    }
    second = client.responses.create(model="mgem", input=[output], previous_response_id=first.id, tools=[DRAW, WEATHER])
    assert second.output_text == "Done."
    assert len(generator.drawn) == 1
    roles = [each["role"] for each in client.reasoner.requests[-1].dialogue]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]


def test_json_answers(connect: Any) -> None:
    client = connect('"colour": "red"}')  # the answer's beginning is given
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}}
    form = {"format": {"type": "json_schema", "name": "answer", "schema": schema}}
    response = client.responses.create(model="mgem", input="Which?", text=form)
    assert json.loads(response.output_text) == {"colour": "red"}


def test_an_answer_that_is_cut_is_incomplete(connect: Any) -> None:
    cut = AIMessageChunk(content="A long", response_metadata={"finish_reason": "length"})

    class Cut(ScriptedReasoner):
        def _stream(self, *given: Any, **options: Any) -> Any:
            from langchain_core.outputs import ChatGenerationChunk

            yield ChatGenerationChunk(message=cut)

    client = connect(reasoner=Cut(script=["x"]))
    response = client.responses.create(model="mgem", input="Tell.", max_output_tokens=2)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert checked(response).output[0].status == "incomplete"  # type: ignore[union-attr]


def test_a_picture_that_fails_is_a_failed_item(connect: Any) -> None:
    client = connect("<h> a red fox </h> <h> an owl </h>", generator=FlatColourGenerator(size=(32, 32), fail_on="fox"))
    response = client.responses.create(model="mgem", input="Draw both.", tools=[DRAW])
    failed, good = drawn(response)
    assert (failed.status, failed.result, good.status) == ("failed", None, "completed")
    assert "came out blank" in failed.error.message


def test_at_most_as_many_pictures_as_tool_calls(connect: Any, generator: FlatColourGenerator) -> None:
    client = connect("<h> a fox </h> <h> an owl </h>")
    response = client.responses.create(model="mgem", input="Draw both.", tools=[DRAW], max_tool_calls=1)
    assert [item.status for item in drawn(response)] == ["completed", "failed"]
    assert len(generator.drawn) == 1


def test_a_reasoner_that_fails_at_once_has_a_status_and_later_an_event(connect: Any) -> None:
    from mgem_agent.errors import ReasonerUnavailableError

    class Breaking(ScriptedReasoner):
        def _stream(self, *given: Any, **options: Any) -> Any:
            from langchain_core.outputs import ChatGenerationChunk

            yield ChatGenerationChunk(message=AIMessageChunk(content="Well"))
            raise ReasonerUnavailableError("The reasoner is gone.")

    client = connect(ReasonerUnavailableError("The reasoner is gone."))
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model="mgem", input="Hi.", stream=True)
    assert caught.value.status_code == 503
    client = connect(reasoner=Breaking(script=["x"]))
    events = list(client.responses.create(model="mgem", input="Hi.", stream=True))
    for event in events:
        EVENT.validate_python(event.model_dump(warnings=False))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.message == "The reasoner is gone."


async def test_async_clients_each_continue_their_own(connect: Any) -> None:
    def echo(request: Any) -> str:
        return " ".join(str(each["content"]) for each in request.dialogue)

    client = connect(echo)
    async with openai.AsyncOpenAI(base_url=f"{client.address}/v1", api_key="unused", max_retries=0) as own:

        async def talk(name: str) -> str:
            first = await own.responses.create(model="mgem", input=f"{name}1")
            stream = await own.responses.create(
                model="mgem", input=f"{name}2", previous_response_id=first.id, stream=True
            )
            return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])

        told = await asyncio.gather(*map(talk, "abcdefgh"))
    assert told == [f"{name}1 {name}1 {name}2" for name in "abcdefgh"]


async def test_a_client_that_leaves_stops_its_turn_which_is_kept_if_it_was_streamed(connect: Any) -> None:
    generator = FlatColourGenerator(size=(32, 32), num_steps=200, delay_s=20)
    client = connect("<h> a fox </h>", generator=generator)
    url, body = f"{client.address}/v1/responses", {"model": "mgem", "input": "Draw.", "tools": [DRAW]}
    async with httpx.AsyncClient() as own:
        async with own.stream("POST", url, json={**body, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                if "generating" in line:
                    break
        with pytest.raises(httpx.ReadTimeout):
            await own.post(url, json=body, timeout=0.3)
    for _ in range(200):
        if not client.service.jobs.num_running:
            break
        await asyncio.sleep(0.02)
    assert client.service.jobs.num_running == 0
    assert generator.drawn == []
    [session] = client.service.sessions(LOCAL_USER).list()  # nobody knows the id of the other response
    assert (session.unfinished, session.num_turns) == (True, 0)

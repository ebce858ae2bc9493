"""Conversations and lists of items by the openai SDK: everything is validated by the SDK's types."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage
from openai.types.conversations import ConversationItem
from openai.types.responses import ResponseItem
from PIL import Image
from pydantic import TypeAdapter

from mgem_agent.server.security import LOCAL_USER, Access, User
from mgem_agent.server.service import AgentService
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

CONVERSATION_ITEM: TypeAdapter[Any] = TypeAdapter(ConversationItem)
INPUT_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
DRAW: Any = {"type": "image_generation"}


def data_url() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.fixture
def connect(open_service: Callable[..., AgentService], running: Any) -> Iterator[Callable[..., Any]]:
    """Opens a client of a server whose reasoner writes the given lines; the client has `reasoner` and `service`."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def connected(*lines: Any, **options: Any) -> Any:
            reasoner = ScriptedReasoner(script=lines, is_endless=True)
            service = open_service(reasoner=reasoner, generator=FlatColourGenerator(size=(16, 16)), **options)
            address = stack.enter_context(running(service))
            client: Any = openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0)
            client.reasoner, client.service = reasoner, service
            return stack.enter_context(client)

        yield connected


def kinds(items: Any) -> list[str]:
    return [f"{item.type} {item.role}" if item.type == "message" else item.type for item in items]


def asked(client: Any) -> list[str]:
    """Return the texts of the reasoner's latest request."""
    contents = [each["content"] for each in client.reasoner.requests[-1].dialogue]
    blocks = [[{"text": content}] if isinstance(content, str) else content for content in contents]
    return ["".join(block.get("text", "") for block in each) for each in blocks]


def test_responses_are_added_to_a_conversation(connect: Any) -> None:
    client = connect("Here: <h> a red fox </h>", "Red.")
    conversation = client.conversations.create(metadata={"topic": "foxes"})
    assert (conversation.object, conversation.metadata) == ("conversation", {"topic": "foxes"})
    first = client.responses.create(model="mgem", input="Draw a fox.", conversation=conversation.id, tools=[DRAW])
    assert first.conversation.id == conversation.id
    client.responses.create(model="mgem", input="Which colour?", conversation={"id": conversation.id})
    assert asked(client)[0] == "Draw a fox." and asked(client)[-1].endswith("Which colour?")
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    for item in items:
        CONVERSATION_ITEM.validate_python(item.model_dump(warnings=False))
    assert kinds(items) == [
        "message user", "message assistant", "image_generation_call", "message user", "message assistant"
    ]  # fmt: skip
    assert items[2].result and client.conversations.items.retrieve(items[2].id, conversation_id=conversation.id).id
    newest = list(client.conversations.items.list(conversation.id, limit=2))
    assert [item.id for item in newest] == [item.id for item in items][::-1]  # the SDK loads every page
    [session] = client.service.sessions(LOCAL_USER).list()
    assert (session.num_turns, session.title) == (2, "Draw a fox.")


def test_items_are_given_at_the_beginning_and_later(connect: Any) -> None:
    client = connect("Yes.")
    developer = {"type": "message", "role": "developer", "content": "Be short."}
    parts = [{"type": "input_text", "text": "Mine."}, {"type": "input_image", "image_url": data_url()}]
    conversation = client.conversations.create(items=[developer, {"role": "user", "content": parts}])
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Nice."}]}
    added = client.conversations.items.create(conversation.id, items=[answer])
    assert kinds(added.data) == ["message assistant"]
    client.responses.create(model="mgem", input="Is it?", conversation=conversation.id)
    assert asked(client)[0] == "Be short." and asked(client)[2:] == ["Nice.", "Is it?"]
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    assert kinds(items) == [
        "message system", "message user", "message assistant", "message user", "message assistant"
    ]  # fmt: skip
    picture = items[1].content[1]
    assert picture.type == "input_image" and picture.file_id in picture.image_url
    assert items[2].id == added.data[0].id


def test_a_conversation_is_changed_and_deleted_and_its_session_is_kept(connect: Any) -> None:
    client = connect("Hi.")
    conversation = client.conversations.create()
    client.responses.create(model="mgem", input="Hello.", conversation=conversation.id)
    assert client.conversations.update(conversation.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert client.conversations.retrieve(conversation.id).metadata == {"a": "b"}
    assert client.conversations.delete(conversation.id).deleted
    for ask in (
        lambda: client.conversations.retrieve(conversation.id),
        lambda: client.conversations.items.list(conversation.id),
        lambda: client.responses.create(model="mgem", input="More.", conversation=conversation.id),
        lambda: client.conversations.retrieve("conv_../x"),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert len(client.service.sessions(LOCAL_USER).list()) == 1


def test_responses_at_once_are_all_added(connect: Any) -> None:
    client = connect(*(f"Answer {n}." for n in range(6)))
    conversation = client.conversations.create()

    def say(number: int) -> Any:
        return client.responses.create(model="mgem", input=f"Message {number}.", conversation=conversation.id)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(say, range(6)))
    items = list(client.conversations.items.list(conversation.id))
    said = sorted(item.content[0].text for item in items if item.role == "user")
    assert said == [f"Message {n}." for n in range(6)] and len(items) == 12


def test_one_users_conversation_is_not_found_by_another(connect: Any) -> None:
    tokens = {"a" * 20: User("ann", "ann"), "b" * 20: User("bob", "bob")}
    client = connect("Hi.", access=Access(tokens))
    ann, bob = (client.with_options(api_key=token) for token in tokens)
    conversation = ann.conversations.create()
    with pytest.raises(openai.NotFoundError):
        bob.responses.create(model="mgem", input="Hello.", conversation=conversation.id)


def test_the_items_of_an_input(connect: Any) -> None:
    call = AIMessage(
        content="", tool_calls=[{"name": "weather", "args": {"place": "Oslo"}, "id": "call_1", "type": "tool_call"}]
    )
    client = connect("One.", call, "Rain.")
    parts = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": data_url()}]
    given = [{"role": "developer", "content": "Be short."}, {"role": "user", "content": parts}]
    first = client.responses.create(model="mgem", input=given)
    items = list(client.responses.input_items.list(first.id, order="asc"))
    for item in items:
        INPUT_ITEM.validate_python(item.model_dump(warnings=False))
    assert kinds(items) == ["message system", "message user"]
    assert [part.type for part in items[1].content] == ["input_text", "input_image"]
    weather: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    second = client.responses.create(model="mgem", input="And?", previous_response_id=first.id, tools=[weather])
    assert kinds(client.responses.input_items.list(second.id)) == ["message user"]
    [called] = [each for each in second.output if each.type == "function_call"]
    output = {"type": "function_call_output", "call_id": called.call_id, "output": "rain"}
    third = client.responses.create(model="mgem", input=[output], previous_response_id=second.id, tools=[weather])
    [item] = client.responses.input_items.list(third.id)
    assert (item.type, item.output) == ("function_call_output", "rain")
    for options, message in (({"limit": 0}, "limit=0"), ({"after": "msg_x"}, "no item 'msg_x'")):
        with pytest.raises(openai.BadRequestError, match=message):
            client.responses.input_items.list(first.id, **options)


def test_a_picture_of_a_list_is_named_in_an_input(connect: Any) -> None:
    client = connect("Here: <h> a red fox </h>", "A fox.")
    conversation = client.conversations.create()
    client.responses.create(model="mgem", input="Draw.", conversation=conversation.id, tools=[DRAW])
    [drawn] = [each for each in client.conversations.items.list(conversation.id) if each.type != "message"]
    named = {"type": "image_generation_call", "id": drawn.id}
    done = client.responses.create(model="mgem", input=[named, {"role": "user", "content": "What is it?"}])
    assert done.output_text == "A fox."
    for wrong in ("ig_img-000000000000", "ig_img-../x"):
        with pytest.raises(openai.BadRequestError, match="no picture of the call"):
            client.responses.create(model="mgem", input=[{**named, "id": wrong}, {"role": "user", "content": "x"}])

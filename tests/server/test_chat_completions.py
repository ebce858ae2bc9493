"""Chat completions by the openai SDK: words, pictures out and in, tools, limits, usage, streaming, errors."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage
from PIL import Image

from mgem_agent.server.pictures import ids_in_text
from mgem_agent.server.security import LOCAL_USER
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


def data_url(colour: str = "red", size: tuple[int, int] = (8, 6), kind: str = "PNG") -> str:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def user(*parts: Any) -> dict[str, Any]:
    content = [
        {"type": "image_url", "image_url": {"url": part}} if part.startswith(("data:", "http")) else
        {"type": "text", "text": part}
        for part in parts
    ]  # fmt: skip
    return {"role": "user", "content": content if len(content) > 1 else parts[0]}


def sdk(address: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, **options)


def test_words(open_service: Any, running: Any) -> None:
    reasoner = ScriptedReasoner(script=["A red fox."])
    with running(open_service(reasoner=reasoner)) as address, sdk(address) as client:
        system = {"role": "system", "content": "Be short."}
        answer = client.chat.completions.create(
            model="mgem", messages=[system, user("What is it?")], max_tokens=7, temperature=0, seed=3, top_p=0.5
        )
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason, answer.model) == ("A red fox.", "stop", "mgem")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 4, 9)
    [asked] = reasoner.requests
    assert (asked.max_tokens, asked.temperature, asked.seed, asked.top_p) == (7, 0, 3, 0.5)
    assert [message["role"] for message in asked.dialogue] == ["system", "user"]


def test_a_picture_in_both_forms_and_its_address(open_service: Any, running: Any) -> None:
    service = open_service(["Here it is. <h> a red fox [1] </h>"])
    with running(service) as address, sdk(address) as client:
        answer = client.chat.completions.create(model="mgem", messages=[user("Draw a fox.")], seed=7)
        message = answer.choices[0].message
        assert message.content is not None and message.model_extra is not None
        [picture_id] = ids_in_text(message.content)
        assert message.content == f"Here it is.\n\n![a red fox (1)]({address}/pictures/{picture_id})"
        drawn = httpx.get(f"{address}/pictures/{picture_id}")
    [image] = message.model_extra["images"]
    assert image["type"] == "image_url"
    assert image["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(drawn.content).decode()
    assert (service.store(LOCAL_USER).get(picture_id).seed, drawn.headers["content-type"]) == (7, "image/png")
    facts = answer.model_extra and answer.model_extra["mgem"]["pictures"]
    assert facts == [
        {
            "id": picture_id,
            "url": f"{address}/pictures/{picture_id}",
            "prompt": "a red fox [1]",
            "width": 64,
            "height": 48,
            "seed": 7,
            "parents": [],
        }
    ]


def test_a_streamed_answer(open_service: Any, running: Any) -> None:
    service = open_service(["Here it is. <h> a red fox </h>"], images_as="url")
    with running(service) as address, sdk(address) as client:
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(client.chat.completions.create(model="mgem", messages=[user("Draw a fox.")], **options))
    assert len({chunk.id for chunk in chunks}) == 1
    *deltas, usage = chunks
    assert usage.choices == [] and usage.usage is not None and usage.usage.completion_tokens == 10
    assert all(chunk.usage is None for chunk in deltas)
    assert [chunk.choices[0].finish_reason for chunk in deltas][-2:] == [None, "stop"]
    assert deltas[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in deltas)
    [picture_id] = ids_in_text(text)
    assert text == f"Here it is.\n\n![a red fox]({address}/pictures/{picture_id})\n\n"
    images = [(chunk.choices[0].delta.model_extra or {}).get("images") for chunk in deltas]
    [[image]] = [each for each in images if each]
    assert image == {"type": "image_url", "image_url": {"url": f"{address}/pictures/{picture_id}"}, "index": 0}


def test_pictures_in_the_text_only(open_service: Any, running: Any) -> None:
    with running(open_service(["<h> a red fox </h>"], images_as="none")) as address, sdk(address) as client:
        message = client.chat.completions.create(model="mgem", messages=[user("Draw.")]).choices[0].message
        assert "images" not in (message.model_extra or {}) and len(ids_in_text(message.content or "")) == 1
        chunks = list(client.chat.completions.create(model="mgem", messages=[user("Draw.")], stream=True))
    assert not any((chunk.choices[0].delta.model_extra or {}).get("images") for chunk in chunks)


async def test_the_asynchronous_client(open_service: Any, running: Any) -> None:
    with running(open_service(["One two three."])) as address:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
            messages: Any = [user("Count.")]
            answer = await client.chat.completions.create(model="mgem", messages=messages)
            stream = await client.chat.completions.create(model="mgem", messages=messages, stream=True)
            streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            models = [model.id async for model in client.models.list()]
    assert answer.choices[0].message.content == streamed == "One two three."
    assert models == ["mgem", "scripted", "flat"]


@pytest.mark.parametrize("model", ["mgem", "scripted"])
async def test_drawing_can_be_turned_off(open_service: Any, client_of: Any, model: str) -> None:
    generator = FlatColourGenerator(size=(16, 16))
    reasoner = ScriptedReasoner(script=["Words. <h> a fox </h>"], is_endless=True)
    async with client_of(open_service(reasoner=reasoner, generator=generator)) as client:
        options = [{"modalities": ["text"]}, {"draw": "never"}, {"tool_choice": "none"}]
        for option in options if model == "mgem" else [{}, {"draw": "always"}]:
            body = {"model": model, "messages": [user("Draw.")], **option}
            answer = (await client.post("/v1/chat/completions", json=body)).json()
            assert answer["choices"][0]["message"]["content"] == "Words."
        assert generator.drawn == []
        body = {"model": "mgem", "messages": [user("A hen.")], "modalities": ["image"]}
        await client.post("/v1/chat/completions", json=body)
        assert [each.prompt for each in generator.drawn] == ["a fox"]


async def test_pictures_in(open_service: Any, client_of: Any) -> None:
    service = open_service(["A red card."], reasoner=(reasoner := ScriptedReasoner(script=["A red card."])))
    async with client_of(service) as client:
        body = {"messages": [user(data_url("red", kind="JPEG"), "What is it?", data_url("blue"))]}
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "A red card."
    parts = reasoner.requests[0].dialogue[-1]["content"]
    assert [part["type"] for part in parts] == ["image", "image", "text"]
    assert len(service.store(LOCAL_USER).list()) == 2


@pytest.mark.parametrize("by", ["markdown", "data", "url"])
async def test_the_last_picture_can_be_edited_by_the_next_turn(open_service: Any, client_of: Any, by: str) -> None:
    generator = FlatColourGenerator(size=(16, 16))
    reasoner = native_caller(
        [{"prompt": "a red fox", "seed": 1}],
        "There.",
        lambda messages: [{"prompt": "make it blue", "task": "edit", "image": drawn_id(messages)}],
        "Blue.",
    )
    service = open_service(reasoner=reasoner, generator=generator, images_as="url" if by == "url" else "data")
    async with client_of(service) as client:
        asked = {"role": "user", "content": "Draw a fox."}
        first = (await client.post("/v1/chat/completions", json={"messages": [asked]})).json()["choices"][0]["message"]
        told = {"role": "assistant", "content": first["content"] if by == "markdown" else "There."}
        if by != "markdown":
            told["images"] = first["images"]
        body = {"messages": [asked, told, {"role": "user", "content": "Make it blue."}]}
        second = (await client.post("/v1/chat/completions", json=body)).json()
    [old] = ids_in_text(first["content"])
    [new] = second["mgem"]["pictures"]
    assert new["parents"] == [old] and generator.drawn[-1].task == "edit"


async def test_another_users_picture_is_not_found(open_service: Any, client_of: Any) -> None:
    service = open_service(reasoner=(reasoner := ScriptedReasoner(script=["Fine."])))
    told = {"role": "assistant", "content": "![fox](http://127.0.0.1:8765/pictures/img-0123456789ab)"}
    async with client_of(service) as client:
        await client.post("/v1/chat/completions", json={"messages": [user("Draw."), told, user("And?")]})
    assert reasoner.requests[0].dialogue[1]["content"] == told["content"]


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


@pytest.mark.parametrize("streamed", [False, True])
def test_the_clients_tools(open_service: Any, running: Any, streamed: bool) -> None:
    call = AIMessage("", tool_calls=[{"name": "weather", "args": {"town": "Oslo"}, "id": "1"}])
    reasoner = ScriptedReasoner(script=[call, "It snows in Oslo."])
    with running(open_service(reasoner=reasoner)) as address, sdk(address) as client:
        messages: list[Any] = [user("How is the weather in Oslo?")]
        tools: Any = [TOOL]
        if streamed:
            with client.chat.completions.stream(model="mgem", messages=messages, tools=tools) as stream:
                answer = stream.get_final_completion()
        else:
            answer = client.chat.completions.create(model="mgem", messages=messages, tools=tools)
        [choice] = answer.choices
        assert choice.finish_reason == "tool_calls" and choice.message.tool_calls is not None
        [made] = choice.message.tool_calls
        assert made.type == "function"
        assert (made.function.name, json.loads(made.function.arguments)) == ("weather", {"town": "Oslo"})
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [made.model_dump(include={"id", "type", "function"})]},
            {"role": "tool", "tool_call_id": made.id, "content": "Snow."},
        ]
        answer = client.chat.completions.create(model="mgem", messages=messages, tools=tools)
    assert answer.choices[0].message.content == "It snows in Oslo."
    assert "Snow." in str(reasoner.requests[1].dialogue[-1]["content"])


async def test_the_agent_draws_beside_the_clients_tools(open_service: Any, client_of: Any) -> None:
    service = open_service(["Here. <h> a fox </h>"])
    async with client_of(service) as client:
        body = {"messages": [user("Draw a fox.")], "tools": [TOOL]}
        answer = (await client.post("/v1/chat/completions", json=body)).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert [each["prompt"] for each in answer["mgem"]["pictures"]] == ["a fox"]
    assert ids_in_text(answer["choices"][0]["message"]["content"])


async def test_stop_strings_and_length(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service(["One. Two. Three."])) as client:
        for stop in ("Two", ["Three", "Two"]):
            body = {"messages": [user("Count.")], "stop": stop}
            answer = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]
            assert (answer["message"]["content"], answer["finish_reason"]) == ("One.", "stop")


async def test_json_answers(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service(['"colour": "red"}'])) as client:
        body = {"messages": [user("Which colour?")], "response_format": {"type": "json_object"}}
        answer = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
    assert json.loads(answer["content"]) == {"colour": "red"}


async def test_a_failed_drawing_is_told(open_service: Any, client_of: Any) -> None:
    service = open_service(["Two: <h> a fox </h> <h> a dog </h>"], FlatColourGenerator(size=(16, 16), fail_on="dog"))
    async with client_of(service) as client:
        answer = (await client.post("/v1/chat/completions", json={"messages": [user("Draw.")]})).json()
    assert "*A picture was not drawn: The card 'a dog' came out blank.*" in answer["choices"][0]["message"]["content"]
    assert [each["prompt"] for each in answer["mgem"]["failures"]] == ["a dog"]
    assert len(answer["mgem"]["pictures"]) == 1


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "messages", "Field required"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [user("Hi.")], "model": "gpt-9"}, "model", "There is no chat model 'gpt-9'. Available: 'mgem'"),
        ({"messages": [user("Hi.")], "model": "flat"}, "model", "Draw with it by /v1/images/generations."),
        ({"messages": [user("Hi.")], "generator": "dall-e"}, "model", "There is no image generator 'dall-e'"),
        ({"messages": [user("Hi.")], "n": 2}, "n", "Input should be 1"),
        ({"messages": [user("Hi.")], "temperature": 3}, "temperature", "less than or equal to 2"),
        ({"messages": [user(" ")]}, "messages.0", "The message is empty"),
        ({"messages": [user("Hi."), {"role": "assistant", "content": "Hi."}]}, "messages", "The last message must be"),
        ({"messages": [{"role": "robot", "content": "Hi."}]}, "messages.0.role", "Input should be 'system'"),
        ({"messages": [user("Look.", "http://10.0.0.1/a.png")]}, "messages.0.content.1", "does not fetch pictures"),
        ({"messages": [user("Look.", "data:image/png;base64,!!")]}, None, "not valid base64"),
        ({"messages": [user("Look.", "data:text/plain;base64,aGk=")]}, None, "not a picture"),
        ({"messages": [user("Look.", *[data_url()] * 3)]}, "messages.0.content.3", "more than 2 pictures"),
        ({"messages": [user("Hi.")], "tools": [{"type": "web_search"}]}, "tools", "must have the type 'function'"),
        ({"messages": [user("a"), {"role": "tool", "content": "b"}]}, "messages.1.tool_call_id", "no earlier message"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_wrong_is_named(
    open_service: Any, client_of: Any, body: Any, param: str | None, words: str, stream: bool
) -> None:
    async with client_of(open_service(max_pictures_in=2)) as client:
        answer = await client.post("/v1/chat/completions", json=body | {"stream": stream})
    error = answer.json()["error"]
    assert answer.status_code == (404 if param == "model" else 400), error
    assert words in error["message"] and error["param"] == param
    assert error["type"] == "invalid_request_error"


async def test_a_body_that_is_no_json(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service()) as client:
        answer = await client.post("/v1/chat/completions", content=b"{")
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        answer = await client.post("/v1/chat/completions", content=b"[" * 100_000)
        assert answer.status_code == 400


async def test_a_reasoner_that_fails_midway_ends_the_stream_with_an_error(open_service: Any, client_of: Any) -> None:
    def fail(request: Any) -> str:
        raise RuntimeError("secret details")

    async with client_of(open_service([fail])) as client:
        answer = await client.post("/v1/chat/completions", json={"messages": [user("Hi.")]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert "secret" not in answer.text


def drawn_id(messages: Any) -> str:
    """The id of the last picture that a tool's message names."""
    return next(str(each.artifact or ids(each)) for each in reversed(messages) if each.type == "tool")


def ids(message: Any) -> str:
    return str(message.text).split("Drawn: ")[1].split(",")[0]


def native_caller(*script: Any) -> Any:
    """A chat model with tool calling of its own: calls of the drawing tool, functions that return them, or words."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.outputs import ChatGeneration, ChatResult

    class NativeCaller(BaseChatModel):
        lines: list[Any]

        @property
        def _llm_type(self) -> str:
            return "native"

        def bind_tools(self, tools: Any, **options: Any) -> Any:
            return self

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> ChatResult:
            line = self.lines.pop(0)
            line = line(messages) if callable(line) else line
            calls = [] if isinstance(line, str) else [
                {"name": "generate_image", "args": args, "id": f"call-{place}"} for place, args in enumerate(line)
            ]  # fmt: skip
            message = AIMessage(line if isinstance(line, str) else "", tool_calls=calls)
            return ChatResult(generations=[ChatGeneration(message=message)])

    return NativeCaller(lines=list(script))


def test_an_alias_of_the_agent(open_service: Any, running: Any) -> None:
    with running(open_service(["Hello."], model_aliases={"gpt-4o": "mgem"})) as address, sdk(address) as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=[user("Hi.")])
        assert (answer.model, answer.choices[0].message.content) == ("gpt-4o", "Hello.")
        assert client.responses.create(model="gpt-4o", input="Hi.").model == "gpt-4o"


async def test_a_client_may_ask_for_a_smaller_budget(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service(["<h> a fox </h> <h> a hen </h>"])) as client:
        body = {"messages": [{"role": "user", "content": "Draw."}], "budget": "1picture"}
        answer = (await client.post("/v1/chat/completions", json=body)).json()
        assert len(answer["choices"][0]["message"]["images"]) == 1
        assert "The budget of this turn is 1 picture." in answer["choices"][0]["message"]["content"]
        refused = await client.post("/v1/chat/completions", json={**body, "budget": "much"})
        assert refused.status_code == 400 and "not an amount with a unit" in refused.json()["error"]["message"]


async def test_a_client_may_ask_for_a_look(open_service: Any, client_of: Any) -> None:
    generator = FlatColourGenerator(size=(16, 16), num_steps=1)
    script = ["<h> a fox </h>", '{"answers": ["no"]}', '{"answers": ["yes"]}']
    async with client_of(open_service(script, generator)) as client:
        body = {"messages": [{"role": "user", "content": "Draw."}], "look": "retry-1"}
        answer = (await client.post("/v1/chat/completions", json=body)).json()
        assert len(answer["choices"][0]["message"]["images"]) == 1 and len(generator.drawn) == 2
        refused = await client.post("/v1/chat/completions", json={**body, "look": "twice"})
        assert refused.status_code == 400 and "look is 'twice'" in refused.json()["error"]["message"]

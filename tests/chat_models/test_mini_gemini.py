"""The core model as a chat model: over a script where it is about reading, over tiny weights where it is about them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from PIL import Image
from pydantic import BaseModel, ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mgem_agent import ChatMiniGemini
from mgem_agent.chat_models.core_engine import CoreEngine
from mgem_agent.chat_models.text_engine import TextEnd, TextRequest
from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.errors import ContextOverflowError, ImageError, InputError, MgemError
from mgem_agent.testing import ScriptedReasoner

DRAW_TOOL = {
    "name": "generate_image",
    "description": "Draw.",
    "parameters": {"type": "object", "properties": {"prompt": {"type": "string"}, "seed": {"type": "integer"}}},
}
ADD_TOOL = {
    "name": "add",
    "description": "Add.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}
SUB_TOOL = {**ADD_TOOL, "name": "sub"}


def says(*lines: Any, **fields: Any) -> ScriptedReasoner:
    return ScriptedReasoner(script=list(lines), **fields)


def prompts(message: Any) -> list[str]:
    return [call["args"]["prompt"] for call in message.tool_calls]


def usage(message: BaseMessage) -> dict[str, Any]:
    """What an answer took: the counts and their details, in one dictionary."""
    counts: Any = getattr(message, "usage_metadata", None)
    return {**counts, **counts["input_token_details"]}


def png_block(colour: str = "teal") -> dict[str, str]:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), colour).save(buffer, "PNG")
    return {"type": "image", "base64": base64.b64encode(buffer.getvalue()).decode(), "mime_type": "image/png"}


class TestReading:
    @pytest.mark.parametrize("piece_length", [1, 2, 3, 50])
    def test_captions_become_calls_and_tags_are_never_shown(self, piece_length: int) -> None:
        model = says("Here: <h> a fox </h>\n\nAnd <h>a hen</h> done < h", piece_length=piece_length)
        chunks = list(model.stream("Draw."))
        assert not any("<" in text for text in [chunk.text for chunk in chunks if chunk.text][:-1])
        full = chunks[0]
        for chunk in chunks[1:]:
            full += chunk
        assert (full.text, prompts(full)) == ("Here:\n\nAnd done < h", ["a fox", "a hen"])
        assert len({call["id"] for call in full.tool_calls}) == 2
        assert [chunk.chunk_position for chunk in chunks if isinstance(chunk, AIMessageChunk)][-1] == "last"

    def test_arguments_are_those_of_an_image_request_with_defaults(self) -> None:
        call = says("<h>a fox</h>", draw_defaults={"seed": 7}).invoke("Draw.").tool_calls[0]
        assert call["name"] == "generate_image"
        assert (call["args"]["seed"], call["args"]["task"]) == (7, "text_to_image")

    def test_a_bound_drawing_tool_gets_the_arguments_that_it_knows(self) -> None:
        answer = says("<h>a fox</h>").bind_tools([DRAW_TOOL]).invoke("Draw.")
        assert answer.tool_calls[0]["args"] == {"prompt": "a fox", "seed": None}

    def test_never_draws_nothing_and_says_so(self) -> None:
        answer = says("Text <h>a fox</h>").invoke("Draw.", draw="never")
        assert (answer.text, answer.tool_calls) == ("Text", [])
        assert answer.response_metadata["notices"][0]["reason"] == "drawing_off"

    def test_where_tools_are_bound_and_drawing_is_not_nothing_is_drawn(self) -> None:
        assert says("Text <h>a fox</h>").bind_tools([ADD_TOOL]).invoke("Draw.").tool_calls == []

    def test_always_adds_the_trigger_and_opens_a_caption_that_is_missing(self) -> None:
        model = says("Here you are.", " a red fox </h> and more")
        answer = model.invoke("A fox!", draw="always")
        assert (answer.text, prompts(answer)) == ("Here you are.", ["a red fox"])
        assert model.requests[0].dialogue[-1]["draw"] is True
        assert [request.prefill for request in model.requests] == ["", "Here you are. <h>"]
        assert answer.response_metadata["finish_reason"] == "stop"

    @pytest.mark.parametrize("rest", ["", "   ", "</h>", "overflow"])
    def test_always_draws_the_question_if_the_model_has_no_caption_at_all(self, rest: str) -> None:
        overflow = ContextOverflowError(
            num_text_tokens=9, num_image_tokens=0, num_images=0, max_new_tokens=9, max_context=9
        )
        model = says("No.", overflow if rest == "overflow" else rest)
        assert prompts(model.invoke("A <h>fox</h>!", draw="always")) == ["A [h]fox[/h]!"]

    def test_always_asks_once_if_the_caption_is_there(self) -> None:
        model = says("<h>a fox</h>", draw="always")
        assert prompts(model.invoke("A fox!")) == ["a fox"]

    def test_a_choice_of_the_drawing_tool_is_always(self) -> None:
        for choice in ("any", "generate_image", True):
            bound = says("Hm.", "a fox</h>").bind_tools([DRAW_TOOL], tool_choice=choice)
            assert prompts(bound.invoke("A fox!")) == ["a fox"]

    def test_other_tools_are_called_in_json(self) -> None:
        model = says('So: <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', piece_length=3)
        answer = model.bind_tools([ADD_TOOL]).invoke("Add.")
        assert answer.text == "So:"
        assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("add", {"a": 1})]
        assert '"name": "add"' in model.requests[0].dialogue[0]["content"]

    @pytest.mark.parametrize("line", ['{"a": 2}}\n</tool_call> and so on', '{"a": 2}', '```json\n{"a": 2}}'])
    def test_a_call_that_must_be_made_is_begun(self, line: str) -> None:
        model = says(line.removeprefix("```json\n"))
        answer = model.bind_tools([ADD_TOOL, DRAW_TOOL], tool_choice="add").invoke("Add.")
        assert model.requests[0].prefill == '<tool_call>\n{"name": "add", "arguments": '
        assert (answer.text, answer.tool_calls[0]["args"]) == ("", {"a": 2})

    def test_what_is_no_call_is_an_invalid_one(self) -> None:
        answer = says("<tool_call>add one and two").bind_tools([ADD_TOOL]).invoke("Add.")
        assert answer.tool_calls == []
        assert answer.invalid_tool_calls[0]["args"] == "<tool_call>add one and two"

    @pytest.mark.parametrize("line", ["I would love to", "", " ", '{"a": ', 'add", "arguments": {"a": 1'])
    def test_a_call_that_cannot_be_read_never_becomes_a_valid_one(self, line: str) -> None:
        for model in (says(line), says(line, piece_length=3)):
            answer = model.bind_tools([ADD_TOOL, SUB_TOOL], tool_choice="any").invoke("Add.")
            assert [call["name"] for call in answer.tool_calls] in ([], ["add"])
            assert len(answer.tool_calls) + len(answer.invalid_tool_calls) == 1
            assert all(str(call["args"]).startswith("<tool_call>") for call in answer.invalid_tool_calls)

    def test_a_caption_where_a_call_was_begun_is_a_caption(self) -> None:
        answer = says("<tool_call>\n<h> a fox </h>").bind_tools([ADD_TOOL, DRAW_TOOL]).invoke("Draw.")
        assert (prompts(answer), answer.invalid_tool_calls) == (["a fox"], [])

    def test_an_answer_may_have_to_have_a_schema(self) -> None:
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        form = {"type": "json_schema", "json_schema": {"name": "A", "schema": schema}}
        model = says('"a": 4} and so on')
        assert model.bind(response_format=form).invoke("4").text == '{"a": 4}'
        assert json.dumps(schema) in model.requests[0].dialogue[0]["content"]
        for wrong in ({"type": "xml"}, {"type": "json_schema"}, "json"):
            with pytest.raises(InputError, match=r"^response_format is .* Allowed: an object with the type 'text'"):
                model.bind(response_format=wrong).invoke("4")

    def test_a_tool_that_is_not_bound_cannot_be_chosen(self) -> None:
        with pytest.raises(InputError, match=r"^tool_choice is 'sub'\. Allowed: 'auto', 'any', 'none', 'add'\. Bind"):
            says().bind_tools([ADD_TOOL], tool_choice="sub")

    def test_structured_output_in_each_way(self) -> None:
        class Sum(BaseModel):
            a: int

        assert says('{"a": 4}}').with_structured_output(Sum).invoke("4") == Sum(a=4)
        assert says('"a": 4} etc.').with_structured_output(Sum, method="json_mode").invoke("4") == Sum(a=4)
        failed = says('"a": "x"}').with_structured_output(Sum, method="json_mode", include_raw=True).invoke("4")
        assert failed["parsed"] is None and failed["parsing_error"] is not None
        with pytest.raises(InputError, match=r"^method is 'xml'\. Allowed: 'function_calling'"):
            says().with_structured_output(Sum, method="xml")

    @pytest.mark.parametrize("piece_length", [1, 4, 100])
    def test_stop_strings_are_not_part_of_the_answer(self, piece_length: int) -> None:
        model = says("one two END three", piece_length=piece_length)
        answer = model.invoke("Count.", stop=["END", "never"])
        assert (answer.text, answer.response_metadata["finish_reason"]) == ("one two", "stop")

    def test_an_option_that_means_nothing_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"^Unknown call options: 'temprature'\. Allowed: stop, cancel, draw,"):
            says("x").invoke("y", temprature=1)
        with pytest.raises(ValidationError, match="temprature"):
            says("x", temprature=1)

    def test_time_can_be_up(self) -> None:
        def slow(request: TextRequest) -> str:
            time.sleep(0.03)
            return "too late"

        with pytest.raises(
            MgemError, match=r"^The answer took longer than timeout=0\.01 seconds\. Increase the timeout"
        ):
            says(slow).invoke("x", timeout=0.01)

    def test_a_cancelled_answer_keeps_what_was_said_and_is_not_gone_on_with(self) -> None:
        cancel, model = threading.Event(), says("one two three four five six seven", piece_length=4)
        chunks = []
        for chunk in model.stream("Count.", cancel=cancel, draw="always"):
            chunks.append(chunk)
            cancel.set()
        assert "".join(chunk.text for chunk in chunks) == "one"
        assert chunks[-1].response_metadata["finish_reason"] == "cancelled"
        assert len(model.requests) == 1

    async def test_cancelling_the_task_ends_the_engine(self) -> None:
        begun, ended = threading.Event(), threading.Event()

        class Endless:
            def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
                begun.set()
                while not request.cancel.is_set():
                    time.sleep(0.001)
                    yield "<h> "  # nothing of it is ever shown
                ended.set()

        model = ChatMiniGemini(model="x", engine_factory=lambda name: Endless())
        task = asyncio.create_task(model.ainvoke("Go on."))
        assert await asyncio.to_thread(begun.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 5)


class TestDialogue:
    def dialogue(self, messages: list[BaseMessage], **fields: Any) -> list[Any]:
        model = says("ok", **fields)
        model.invoke(messages)
        return list(model.requests[0].dialogue)

    def test_sides_alternate_and_users_cannot_write_tags(self) -> None:
        assert self.dialogue(
            [
                SystemMessage("Be brief."),
                AIMessage("Hello."),
                HumanMessage("a <GEN>"),
                HumanMessage("b <h>c</h>"),
                SystemMessage("And kind."),
            ]
        ) == [
            {"role": "system", "content": "Be brief.\n\nAnd kind."},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "a [GEN]\n\nb [h]c[/h]"},
        ]

    def test_a_drawing_is_shown_again_and_keeps_its_caption_and_its_trigger(self) -> None:
        answer = says("Here: <h>a fox</h>", draw="always").invoke("A fox!")
        picture = png_block()
        result = ToolMessage([picture], tool_call_id=answer.tool_calls[0]["id"], name="generate_image")
        dialogue = self.dialogue([HumanMessage("A fox!"), answer, result, HumanMessage("Redder.")])
        source = f"data:image/png;base64,{picture['base64']}"
        assert dialogue == [
            {"role": "user", "content": "A fox!", "draw": True},
            {"role": "assistant", "content": "Here: <h> a fox </h>"},
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": source},
                    {"type": "text", "text": "Here is the picture you drew."},
                    {"type": "text", "text": "\n\n"},
                    {"type": "text", "text": "Redder."},
                ],
            },
        ]

    def test_results_and_failures_of_tools_are_told(self) -> None:
        call = {"name": "add", "args": {"a": 1}, "id": "1", "type": "tool_call"}
        told = [
            ToolMessage("3", tool_call_id="1", name="add"),
            ToolMessage("no b", tool_call_id="1", name="add", status="error"),
        ]
        dialogue = self.dialogue([HumanMessage("?"), AIMessage("", tool_calls=[call]), *told])
        assert dialogue[1]["content"] == '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
        assert dialogue[2]["content"] == "Result of add: 3\n\nError of add: no b"

    def test_ids_of_pictures_are_looked_up(self) -> None:
        shown = HumanMessage([{"type": "image", "file_id": "img-1"}, {"type": "text", "text": "What?"}])
        dialogue = self.dialogue([shown], image_resolver=lambda name: f"the picture {name}")
        assert dialogue[0]["content"][0] == {"type": "image", "image": "the picture img-1"}
        with pytest.raises(
            InputError,
            match=r"^A picture has the file_id 'img-1', and the chat model has no image_resolver to look it up",
        ):
            self.dialogue([shown])

    def test_what_cannot_be_read_is_refused(self) -> None:
        model = ChatMiniGemini(model="x", engine_factory=lambda name: pytest.fail("it was asked"))
        with pytest.raises(InputError, match=r"^A human message has a block of the type 'audio'\. This model reads"):
            says("x").invoke([HumanMessage([{"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}])])
        with pytest.raises(InputError, match=r"^There is nothing to answer: the last of 1 message\(s\)"):
            says("x").invoke([SystemMessage("x")])
        with pytest.raises(InputError, match="^There is nothing to answer"):
            says("x").invoke([HumanMessage("x"), AIMessage("y")])
        assert model.default_model_name() == "x"

    def test_nothing_is_fetched(self) -> None:
        class Unasked:
            def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
                raise AssertionError

        model = ChatMiniGemini(model="x", engine_factory=lambda name: Unasked())
        with pytest.raises(
            InputError, match=r"^A picture has the address 'https://example\.org/a\.png', and pictures are not down"
        ):
            model.invoke([HumanMessage([{"type": "image", "url": "https://example.org/a.png"}])])


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def weights() -> tuple[MiniGeminiForConditionalGeneration, MiniGeminiProcessor]:
    """A tiny model of 16 visual tokens an image that writes letters, one token each."""
    torch.manual_seed(0)
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "Ċ", "Ġ", *map(chr, range(33, 127))]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    characters = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    characters.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=characters, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    vision = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7
    )
    text = dict(
        model_type="llama", hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, vocab_size=100, max_position_embeddings=2048, initializer_range=0.3,
    )  # fmt: skip
    config = MiniGeminiConfig(
        text_config=text,
        vision_config=vision,
        high_res_vision_config={"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 2, 1], "layer_scale_init_value": 0.5},
        high_res_image_size=64,
        image_token_id=100,
    )
    model = MiniGeminiForConditionalGeneration(config).eval()
    model.generation_config.suppress_tokens = [0, 1, 2, 3, 4, 5]
    model.config.prompt_template = "chatml"
    return model, MiniGeminiProcessor.from_model_config(model.config, tokenizer)


@pytest.fixture
def chat(weights: tuple[Any, Any]) -> Callable[..., ChatMiniGemini]:
    def make(**fields: Any) -> ChatMiniGemini:
        return ChatMiniGemini(
            **{"model": weights[0], "processor": weights[1], "temperature": 0, "max_tokens": 8, **fields}
        )

    return make


class TestWeights:
    def test_it_says_what_the_core_model_says(self, chat: Callable[..., ChatMiniGemini], weights: Any) -> None:
        from mgem_agent import Conversation

        conversation = Conversation(*weights, max_new_tokens=8, do_sample=False)
        first = conversation.say("Hello.")
        model = chat(draw="never")
        answer = model.invoke("Hello.")
        assert answer.text == first
        second = model.invoke([HumanMessage("Hello."), answer, HumanMessage("Why?")])
        assert second.text == conversation.say("Why?")
        assert usage(second)["cache_read"] > 0

    def test_pictures_count_and_matter_in_any_turn(self, chat: Callable[..., ChatMiniGemini]) -> None:
        model = chat()
        question = {"type": "text", "text": "What is it?"}
        messages = [HumanMessage("Hi."), AIMessage("Hi!"), HumanMessage([png_block(), question])]
        answer = model.invoke(messages)
        assert usage(answer)["image"] == 16
        assert usage(answer)["output_tokens"] == 8
        plain = model.invoke([*messages[:2], HumanMessage("What is it?")])
        assert usage(answer)["input_tokens"] - usage(plain)["input_tokens"] >= 16
        again = model.invoke(messages)
        assert again.text == answer.text == chat(max_dialogues=0).invoke(messages).text
        assert again.response_metadata["finish_reason"] == "length"

    def test_a_picture_is_the_same_however_it_is_given(
        self, chat: Callable[..., ChatMiniGemini], tmp_path: Path
    ) -> None:
        data = base64.b64decode(png_block()["base64"])
        (tmp_path / "a.png").write_bytes(data)
        sources = {"file": tmp_path / "a.png", "bytes": data, "picture": Image.open(io.BytesIO(data))}
        model = chat(image_resolver=sources.__getitem__)
        blocks = [png_block(), *({"type": "image", "file_id": name} for name in sources)]
        texts = {model.invoke([HumanMessage([block])]).text for block in blocks}
        assert len(texts) == 1
        with pytest.raises(ImageError, match="^There is no file"):
            chat(image_resolver=lambda name: tmp_path / name).invoke([HumanMessage([blocks[1]])])

    def test_it_always_draws_when_asked_to(self, chat: Callable[..., ChatMiniGemini]) -> None:
        answer = chat(draw="always").invoke("A fox!")
        assert len(prompts(answer)) == 1
        assert usage(answer)["output_tokens"] == 16

    def test_calls_and_json_come_whole_from_any_weights(self, chat: Callable[..., ChatMiniGemini]) -> None:
        class Sum(BaseModel):
            kind: Literal["sum", "product"]
            is_even: bool

        bound = chat(max_tokens=200).bind_tools([ADD_TOOL, Sum], tool_choice="any")
        [call] = bound.invoke("Add.").tool_calls
        assert call["name"] in ("add", "Sum")
        assert isinstance(chat(max_tokens=200).with_structured_output(Sum).invoke("4"), Sum)
        form = {"type": "json_schema", "json_schema": {"schema": Sum.model_json_schema()}}
        Sum.model_validate_json(chat(max_tokens=200).bind(response_format=form).invoke("4").text)

    def test_the_answer_to_a_tools_result_is_in_words(self, chat: Callable[..., ChatMiniGemini]) -> None:
        call = {"name": "generate_image", "args": {"prompt": "a fox"}, "id": "1", "type": "tool_call"}
        told = ToolMessage("Drew img-1.", tool_call_id="1", name="generate_image")
        asked = [HumanMessage("A fox!"), AIMessage("", tool_calls=[call]), told]
        for model in (chat(max_tokens=40), chat(max_tokens=40, draw="always")):
            answer = model.bind_tools([ADD_TOOL, DRAW_TOOL]).invoke(asked)
            assert answer.tool_calls == [] and answer.text.strip() and "<" not in answer.text

    def test_threads_do_not_disturb_each_other_and_caches_are_bounded(
        self, chat: Callable[..., ChatMiniGemini], weights: Any
    ) -> None:
        engine = CoreEngine(*weights, max_dialogues=2)
        shared = chat(engine_factory=lambda name: engine)
        texts = [f"Question {index % 4}?" for index in range(8)]
        alone = [chat(max_dialogues=0).invoke(text).text for text in texts]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda text: shared.invoke(text).text, texts)) == alone
        assert len(engine.dialogues) == 2

    def test_a_thread_of_a_graph_finds_its_cache_again(self, chat: Callable[..., ChatMiniGemini]) -> None:
        model = chat()
        graph: Any = StateGraph(MessagesState)
        graph.add_node("reason", lambda state: {"messages": [model.invoke(state["messages"])]})
        graph.add_edge(START, "reason")
        app = graph.compile()
        seen = []
        for thread in ("a", "b", "a", "b"):
            state = app.invoke({"messages": [HumanMessage("Hello.")]}, {"configurable": {"thread_id": thread}})
            seen.append(usage(state["messages"][-1])["cache_read"] > 0)
        assert seen == [False, False, True, True]

    def test_a_seed_makes_an_answer_repeatable(self, chat: Callable[..., ChatMiniGemini]) -> None:
        model = chat(temperature=1.0)
        texts = [model.invoke("Hello.", seed=seed).text for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]

    def test_closing_the_stream_ends_the_generation(self, chat: Callable[..., ChatMiniGemini]) -> None:
        stream: Any = chat(max_tokens=1500, draw="never").stream("Hello.")
        next(stream)
        stream.close()
        assert [thread.name for thread in threading.enumerate() if thread.name == "mgem-generate"] == []

    def test_a_dialogue_too_long_is_refused(self, chat: Callable[..., ChatMiniGemini]) -> None:
        with pytest.raises(ContextOverflowError, match="^The prompt does not fit"):
            chat().invoke("x" * 3000)
        with pytest.raises(
            InputError, match=r"^generation_options contains 'num_beams', which the chat model sets itself"
        ):
            chat(generation_options={"num_beams": 2}).invoke("x")

    def test_weights_are_read_from_a_folder_at_the_first_answer(
        self, chat: Callable[..., ChatMiniGemini], weights: Any, tmp_path: Path
    ) -> None:
        model = ChatMiniGemini(model=tmp_path / "later", temperature=0, max_tokens=8)
        weights[0].save_pretrained(tmp_path / "later")
        weights[1].save_pretrained(tmp_path / "later")
        expected = chat().invoke("Hello.").text
        assert model.invoke("Hello.").text == expected
        model.unload()
        assert model.invoke("Hello.").text == expected

    @pytest.mark.parametrize(
        ("has_gpu", "given", "used"), [(True, {}, "auto"), (False, {}, None), (True, {"device_map": "cpu"}, "cpu")]
    )
    def test_gpus_are_used_where_nothing_else_is_asked_for(
        self, weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, given: Any, used: str | None
    ) -> None:
        weights[1].save_pretrained(tmp_path)
        asked: list[Any] = []

        def from_pretrained(name: str, **options: Any) -> Any:
            asked.append(options["device_map"])
            return weights[0]

        monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
        monkeypatch.setattr(MiniGeminiForConditionalGeneration, "from_pretrained", from_pretrained)
        ChatMiniGemini(model=tmp_path, temperature=0, max_tokens=2, model_options=given).invoke("Hello.")
        assert asked == [used]

    def test_a_model_must_be_one(self, weights: Any) -> None:
        with pytest.raises(ValidationError, match=r"model is a 'int'\. Give a folder, a hub id"):
            ChatMiniGemini(model=3)
        with pytest.raises(ValidationError, match=r"A loaded model needs its processor"):
            ChatMiniGemini(model=weights[0])

    def test_yes_and_no_are_weighed_by_the_next_token(self, chat: Callable[..., ChatMiniGemini], weights: Any) -> None:
        model, question = chat(), [HumanMessage([png_block(), {"type": "text", "text": "Is it red?"}])]
        dialogue = [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (9, 7), "teal")}]}]
        dialogue[0]["content"].append({"type": "text", "text": "Is it red?"})  # pyright: ignore[reportAttributeAccessIssue]
        core, processor = weights
        inputs = processor.apply_chat_template(
            dialogue, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        logits = core(**inputs).logits[0, -1]
        blank, *letters = processor.tokenizer.convert_tokens_to_ids([" ", "y", "Y", "n", "N"])
        yes, no = logits.softmax(-1)[letters].view(2, 2).sum(-1).tolist()
        assert blank not in letters, "both words may begin with a blank, which then tells nothing"
        assert model.probability_of_yes(question) == pytest.approx(yes / (yes + no), abs=1e-4)
        assert says("Yes.").probability_of_yes(question) is None

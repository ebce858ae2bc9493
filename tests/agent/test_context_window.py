"""What fits a model's context is told, the newest first; the rest is named, and the session goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from mgem_agent import ChatMiniGemini
from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.context_window import DialogueTurns, Limits, Window
from mgem_agent.agent.events import AgentNotice, TurnFinished
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.chat_models.reasoner_facts import ReasonerFacts
from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.errors import ContextOverflowError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator

PICTURE_TOKENS, CONTEXT = 2_880, 4_096


def picture(name: str) -> dict[str, str]:
    return {"type": "image", "file_id": name}


def dialogue(*turns: list[Any]) -> list[Any]:
    """Turns of a person's pictures and an answer."""
    said: list[Any] = []
    for names in turns:
        said.append(HumanMessage([*map(picture, names), {"type": "text", "text": "x" * 35}]))
        said.append(AIMessage("y" * 35))
    return said


class TestWindow:
    """Sizes here: 18 tokens a message and 25 for the name of a picture; 100 tokens a picture that is shown."""

    @pytest.mark.parametrize(
        ("context", "expected"),
        [
            (None, Window(0, 3)),
            (1_000, Window(0, 3)),
            (450, Window(0, 2)),  # 172 of text
            (172 + 150, Window(0, 1)),
            (172 + 20, Window(2, 1)),
            (140, Window(1, 0)),
            (60, Window(3, 0)),
            (1, Window(3, 0)),  # the last turn is always told
        ],
    )
    def test_the_newest_that_fits(self, context: int | None, expected: Window) -> None:
        turns = DialogueTurns(dialogue(["a"], ["b"], ["c"]), [HumanMessage("z" * 35)])
        facts = ReasonerFacts(max_context=context, picture_tokens=100.0)
        assert turns.fitting(Limits(4, reserve=0), facts) == expected

    def test_pictures_of_the_question_go_before_earlier_turns(self) -> None:
        turns = DialogueTurns(dialogue(["a"]), [HumanMessage([picture("b"), picture("c")])])
        facts = ReasonerFacts(max_context=300, picture_tokens=100.0)
        assert turns.fitting(Limits(4, reserve=0), facts) == Window(1, 2)
        assert turns.fitting(Limits(1, reserve=0), facts) == Window(0, 1)
        assert turns.num_unseen(Window(0, 1)) == 1

    def test_each_smaller_window_is_smaller_and_the_last_is_the_turn_alone(self) -> None:
        turns = DialogueTurns(dialogue(*[["a"]] * 20), [HumanMessage([picture("b"), {"type": "text", "text": "?"}])])
        window: Window | None = turns.everything(Limits(4))
        seen = []
        while window is not None:
            seen.append(window)
            window = turns.smaller(window, Limits(4), ReasonerFacts())
        assert seen[0] == Window(0, 4) and seen[-1] == Window(20, 1) and len(seen) < 10
        assert all(before != after for before, after in zip(seen, seen[1:], strict=False))

    def test_what_is_left_out_is_named(self) -> None:
        turns = DialogueTurns(dialogue(["img-1"], ["img-2"], []), [HumanMessage("And?")])
        first = turns.messages(Window(2, 0))[0]
        assert first.text.startswith("[2 earlier turn(s) are left out; their latest pictures: img-1, img-2]\n\nxxx")
        assert [message.text for message in turns.messages(Window(3, 0))] == ["And?"]

    def test_the_smaller_of_two_limits_counts(self) -> None:
        facts = ReasonerFacts(max_context=8_000)
        assert (Limits(4).room(facts), Limits(4, max_tokens=800).room(facts)) == (7_488, 700)
        assert Limits(4).room(ReasonerFacts()) == float("inf")


@pytest.fixture(scope="module")
def hd_model() -> ChatMiniGemini:
    """Random weights with the visual tokens and the context of MGM-7B-HD, and one token a character."""
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "\n", *map(chr, range(32, 127))]
    words = Tokenizer(models.BPE(vocab={symbol: at for at, symbol in enumerate(symbols)}, merges=[], unk_token="<unk>"))
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    config = MiniGeminiConfig(
        text_config={
            "model_type": "llama", **sizes, "num_hidden_layers": 1, "num_key_value_heads": 1, "head_dim": 8,
            "vocab_size": 100, "max_position_embeddings": CONTEXT,
        },
        vision_config={**sizes, "num_hidden_layers": 2, "image_size": 48, "patch_size": 2},
        high_res_vision_config={"hidden_sizes": [4, 4, 4, 4], "depths": [1, 1, 1, 1]},
        high_res_image_size=192,
        image_grid=2,
        image_global=True,
        image_token_id=100,
    )  # fmt: skip
    model = MiniGeminiForConditionalGeneration(config).eval()
    processor = MiniGeminiProcessor.from_model_config(config, tokenizer)
    return ChatMiniGemini(model=model, processor=processor, temperature=0, max_tokens=3)


@pytest.fixture
def agent(hd_model: ChatMiniGemini, tmp_path: Path) -> Iterator[MgemAgent]:
    store = ArtifactStore(tmp_path)
    yield MgemAgent(hd_model, FlatColourGenerator(size=(32, 32)), store=store, sessions=Sessions.in_memory())


def card(colour: str) -> Image.Image:
    return Image.new("RGB", (8, 8), colour)


def notices(events: list[Any]) -> list[str]:
    return [event.message for event in events if isinstance(event, AgentNotice)]


def test_one_picture_after_the_other_in_a_context_that_holds_one(agent: MgemAgent, hd_model: ChatMiniGemini) -> None:
    first = list(agent.stream("What is it?", [card("red")]))
    second = list(agent.stream("And this?", [card("blue")]))
    assert isinstance(second[-1], TurnFinished)
    assert not any("context" in notice for notice in notices(first))
    said = "The context of 4096 tokens is full: 1 picture(s) are no longer sent to the reasoner."
    assert said in notices(second) and said in second[-1].turn.notices
    size = hd_model.prompt_size([HumanMessage([{"type": "image", "base64": "AA=="}, {"type": "text", "text": "?"}])])
    assert size is not None and (size.image_tokens, size.max_context) == (PICTURE_TOKENS, CONTEXT)


def test_drawing_always_goes_on(agent: MgemAgent) -> None:
    turns = [agent.invoke("A fox.", draw="always") for _ in range(3)]
    assert [len(turn.pictures) for turn in turns] == [1, 1, 1]


def test_old_turns_are_left_out_when_words_fill_the_context(agent: MgemAgent) -> None:
    *_, last = [list[Any](agent.stream("word " * 250)) for _ in range(4)]
    said = "The context of 4096 tokens is full: 1 earlier turn(s) are no longer sent to the reasoner."
    assert said in notices(last)
    assert last[-1].turn.finish_reason == "length"


def test_a_question_that_is_too_long_alone_leaves_nothing_unfinished(agent: MgemAgent) -> None:
    agent.invoke("Hello.")
    for text, images in (("word " * 900, []), ("Both?", [card("red"), card("blue")])):
        with pytest.raises(ContextOverflowError, match=r"^The prompt does not fit"):
            agent.invoke(text, images)
        assert agent.sessions.open_turn("default") is None
    assert len(agent.turns()) == 1
    agent.invoke("Hello again.")
    agent.undo()
    assert len(agent.turns()) == 1


def test_the_limit_can_be_set_lower(hd_model: ChatMiniGemini, tmp_path: Path) -> None:
    agent = MgemAgent(
        hd_model, FlatColourGenerator(), store=ArtifactStore(tmp_path), sessions=Sessions.in_memory(),
        max_context_tokens=400,
    )  # fmt: skip
    agent.invoke("word " * 40)
    last = list(agent.stream("word " * 40))
    assert "The context of 400 tokens is full: 1 earlier turn(s) are no longer sent to the reasoner." in notices(last)

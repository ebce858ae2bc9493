"""A model that knows few pictures says so where a question is about another one, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mgem_agent.chat_models.core_engine import CoreEngine
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.core_model import Conversation, MiniGeminiForConditionalGeneration
from mgem_agent.core_model.familiarity import Familiarity, ForcedAnswer
from mgem_agent.core_model.processing import MiniGeminiProcessor

DOUBT = "Unknown."
PICTURE = Image.new("RGB", (30, 20), "red")
OTHER = Image.effect_noise((30, 20), 90).convert("RGB")


@pytest.fixture
def parts(make_model: Callable[..., Any], tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """A model that knows no picture, whose answers are printable characters."""
    model = make_model("llama", initializer_range=0.3, max_position_embeddings=2048)
    model.generation_config.suppress_tokens = [0, 1, 3, 4, 5]
    model.config.prompt_template = "chatml"
    words = torch.randn(5, model.config.text_config.hidden_size)
    model.familiarity = Familiarity(words, least=2.0, answer=DOUBT)
    return model, MiniGeminiProcessor.from_model_config(model.config, tokenizer)


def test_tokens_near_a_word_are_familiar() -> None:
    words = torch.eye(4)
    known = Familiarity(words, least=0.8, answer=DOUBT)
    assert known.score(words[[0, 2, 2]]) == pytest.approx(1)
    assert known.score(words.mean(0) + 5 * (words[[1]] - words.mean(0))) == pytest.approx(1), "length does not count"
    between = words[:2].mean(0, keepdim=True)
    assert known.score(between) == pytest.approx(0.57735, abs=1e-4)
    assert known.knows(words[[0]]) and not known.knows(between)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Familiarity.read(tmp_path) is None
    known = Familiarity(torch.eye(3), least=0.4567, answer="I cannot tell – sorry.")
    known.write(tmp_path)
    read = Familiarity.read(tmp_path)
    assert read is not None
    assert torch.equal(read.words, known.words)
    assert (read.least, read.answer) == (known.least, known.answer)


def test_a_model_is_loaded_with_it(parts: tuple[Any, Any], tmp_path: Path) -> None:
    parts[0].save_pretrained(tmp_path)
    assert MiniGeminiForConditionalGeneration.from_pretrained(tmp_path).familiarity is None
    parts[0].familiarity.write(tmp_path)
    assert MiniGeminiForConditionalGeneration.from_pretrained(tmp_path).familiarity.answer == DOUBT


def test_a_question_about_an_unfamiliar_picture_gets_the_answer(parts: tuple[Any, Any]) -> None:
    talk = Conversation(*parts, max_new_tokens=12)
    assert talk.say("What is this?", [PICTURE]) == DOUBT
    assert (talk.finish_reason, talk.usage and talk.usage.output_tokens) == ("stop", len(DOUBT) + 1)
    assert talk.say("What is a fox?") != DOUBT, "only the message with the picture is about it"
    assert talk.say("And these?", [PICTURE, OTHER]) == DOUBT
    assert talk.say("Make one.", [PICTURE], draw=True) != DOUBT


def test_a_familiar_picture_is_answered_as_without_it(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    model.familiarity, known = None, model.familiarity
    plain = Conversation(model, processor, max_new_tokens=8).say("What is this?", [PICTURE])
    model.familiarity = replace(known, least=-2.0)
    assert Conversation(model, processor, max_new_tokens=8).say("What is this?", [PICTURE]) == plain != DOUBT


def test_one_unfamiliar_picture_of_two_is_enough(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    talk = Conversation(*parts, max_new_tokens=12)
    seen: Any = model.get_image_features(**processor.image_processor([PICTURE, OTHER], return_tensors="pt"))
    scores = [model.familiarity.score(tokens) for tokens in seen.pooler_output]
    model.familiarity = replace(model.familiarity, least=sum(scores) / 2)
    assert talk.say("And these?", [PICTURE, OTHER]) == DOUBT
    assert {talk.say("This?", [each]) == DOUBT for each in (PICTURE, OTHER)} == {True, False}


def test_an_engine_leaves_begun_answers_and_probabilities_alone(parts: tuple[Any, Any]) -> None:
    engine = CoreEngine(*parts)
    content: Any = [{"type": "image", "image": PICTURE}, {"type": "text", "text": "What is this?"}]
    request = TextRequest([{"role": "user", "content": content}], max_tokens=12, temperature=0)

    def said(request: TextRequest) -> str:
        return "".join(piece for piece in engine.stream(request) if isinstance(piece, str))

    assert said(request) == DOUBT
    assert said(replace(request, prefill="<h>")) != DOUBT
    weighed = engine.choice_probabilities(request, ["yes", "no"])
    parts[0].familiarity = None
    assert engine.choice_probabilities(request, ["yes", "no"]) == pytest.approx(weighed)


def test_another_constraint_takes_precedence() -> None:
    forced = ForcedAnswer([3, 1], [True, False, True])
    scores = torch.zeros(3, 5)
    scores[2, 3] = float("-inf")
    ids = torch.zeros(3, 4, dtype=torch.long)
    assert forced(ids, scores).argmax(-1).tolist() == [3, 0, 0]
    longer = torch.cat([ids, torch.tensor([[3], [0], [0]])], 1)
    assert forced(longer, torch.zeros(3, 5)).argmax(-1).tolist() == [1, 0, 0], "an answer that began freely stays free"
    assert torch.equal(forced(torch.cat([longer, longer[:, -1:]], 1), scores), scores), "nothing after the answer"

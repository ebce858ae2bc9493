"""A model that knows few pictures says so where a question is about another one, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mgem_agent.chat_models.core_engine import CoreEngine
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.core_model import Conversation, MiniGeminiForConditionalGeneration
from mgem_agent.core_model.forced_answer import ForcedAnswer
from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.core_model.visual_reader import THING

DOUBT = "Unknown."
PICTURE = Image.new("RGB", (30, 20), "red")
OTHER = Image.effect_noise((30, 20), 90).convert("RGB")

SIZES = {
    "num_tokens": 6, "num_labels": 5, "label_length": 1, "facts": ["number"], "fact_words": [2], "fact_length": 1,
    "hidden_size": 8, "num_layers": 1, "num_heads": 2,
}  # fmt: skip


@pytest.fixture
def parts(make_config: Callable[..., Any], tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """A model that knows no picture, whose answers are printable characters."""
    config = make_config("llama", initializer_range=0.3, max_position_embeddings=2048)
    config.reader_config = {**SIZES, "least_confidence": 2.0, "unknown": 4, "unknown_answer": DOUBT}
    model = MiniGeminiForConditionalGeneration(config).eval()
    reader: Any = model.model.reader
    reader.label_ids.copy_(torch.arange(10, 15)[:, None])
    reader.label_kinds[4] = THING  # so that a reading never begins with it
    reader.fact_ids.fill_(20)
    reader.label_embeds.normal_()
    model.generation_config.suppress_tokens = [0, 1, 3, 4, 5]
    model.config.prompt_template = "chatml"
    return model, MiniGeminiProcessor.from_model_config(model.config, tokenizer)


def test_a_question_about_an_unfamiliar_picture_gets_the_answer(parts: tuple[Any, Any]) -> None:
    talk = Conversation(*parts, max_new_tokens=12)
    assert talk.say("What is this?", [PICTURE]) == DOUBT
    assert (talk.finish_reason, talk.usage and talk.usage.output_tokens) == ("stop", len(DOUBT) + 1)
    assert talk.say("What is a fox?") != DOUBT, "only the message with the picture is about it"
    assert talk.say("And these?", [PICTURE, OTHER]) == DOUBT
    assert talk.say("Make one.", [PICTURE], draw=True) != DOUBT


def test_a_familiar_picture_is_answered_as_without_it(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    reader = model.model.reader
    reader.config = replace(reader.config, unknown_answer="", least_confidence=0.0)
    plain = Conversation(model, processor, max_new_tokens=8).say("What is this?", [PICTURE])
    reader.config = replace(reader.config, unknown_answer=DOUBT)
    assert Conversation(model, processor, max_new_tokens=8).say("What is this?", [PICTURE]) == plain != DOUBT


def test_one_unfamiliar_picture_of_two_is_enough(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    talk = Conversation(*parts, max_new_tokens=12)
    seen: Any = model.get_image_features(**processor.image_processor([PICTURE, OTHER], return_tensors="pt"))
    reader, tokens = model.model.reader, seen.last_hidden_state
    sure = reader.confidence(reader(tokens, model.model.multi_modal_projector(tokens)))
    reader.config = replace(reader.config, least_confidence=sure.mean().item())
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
    reader = parts[0].model.reader
    reader.config = replace(reader.config, unknown_answer="")
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

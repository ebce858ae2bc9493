from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.lmms.answering import BenchmarkModel, generation_options, limit_images

RED, NOISE = Image.new("RGB", (64, 64), "red"), Image.effect_noise((64, 64), 90).convert("RGB")


def question(text: str, *images: Image.Image) -> list[dict[str, Any]]:
    parts = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


DIALOGUES = [question("What is this?", RED), question("Why?"), question("Is it a red fox, or not?", NOISE)]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> BenchmarkModel:
    return BenchmarkModel.open(str(model_folder), device="cpu", dtype="float32")


def test_a_batch_gives_the_answers_of_single_questions(model: BenchmarkModel) -> None:
    options, _ = generation_options({"max_new_tokens": 6})
    together = model.answer(DIALOGUES, options)
    assert together == [model.answer([dialogue], options)[0] for dialogue in DIALOGUES]
    assert together[0].num_input_tokens > 16 and 1 <= together[0].num_output_tokens <= 6


def test_a_picture_is_encoded_once(model: BenchmarkModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = model.model.get_image_features

    def spy(*pixels: torch.Tensor, **named: torch.Tensor) -> Any:
        encoded.append(1)
        return encode(*pixels, **named)

    monkeypatch.setattr(model.model, "get_image_features", spy)
    picture = Image.effect_noise((40, 40), 50).convert("RGB")
    options, _ = generation_options({"max_new_tokens": 2})
    model.answer([question("One?", picture), question("Two?", picture)], options)
    model.answer([question("Three?", picture)], options)
    assert len(encoded) == 1


def test_an_answer_is_cut_to_the_room_of_the_context_and_at_a_stop_string(model: BenchmarkModel) -> None:
    room = model.model.config.text_config.max_position_embeddings
    options, _ = generation_options({"max_new_tokens": 16_384})
    text = "x" * (room - 80)
    answer = model.answer([question(text)], options)[0]
    assert answer.num_input_tokens + answer.num_output_tokens <= room
    whole = model.answer(DIALOGUES[:1], generation_options({"max_new_tokens": 8})[0])[0].text
    stop = whole[1]
    assert (
        model.answer(DIALOGUES[:1], generation_options({"max_new_tokens": 8})[0], (stop,))[0].text
        == whole.partition(stop)[0].strip()
    )


@torch.inference_mode()
def test_scores_are_the_log_likelihoods_of_the_tokens_of_the_continuation(model: BenchmarkModel) -> None:
    continuations = [" yes", "no, never", " red"]
    scores = model.score(DIALOGUES, continuations)
    for dialogue, told, (score, _) in zip(DIALOGUES, continuations, scores, strict=True):
        answered = [*dialogue, {"role": "assistant", "content": told.strip()}]
        inputs: Any = model.processor.apply_chat_template(
            answered, tokenize=True, return_dict=True, continue_final_message=True
        )
        logits = model.model(**inputs).logits[0].log_softmax(-1)
        ids, count = inputs["input_ids"][0], len(told.strip())  # one token a character
        alone = sum(float(logits[place - 1, ids[place]]) for place in range(len(ids) - count, len(ids)))
        assert math.isclose(score, alone, rel_tol=1e-4)


def test_the_greedy_answer_is_greedy(model: BenchmarkModel) -> None:
    options, _ = generation_options({"max_new_tokens": 3})
    text = model.answer(DIALOGUES[1:2], options)[0].text
    other = "zq" if text != "zq" else "qz"
    assert [greedy for _, greedy in model.score([DIALOGUES[1]] * 2, [text, other])] == [True, False]


def test_settings_of_tasks() -> None:
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    assert generation_options({})[0] == {"max_new_tokens": 1024, "num_beams": 1, **greedy}
    assert generation_options({"temperature": 0.2, "do_sample": False, "until": "\n"}) == (
        {"max_new_tokens": 1024, "num_beams": 1, **greedy},
        ("\n",),
    )
    sampled, until = generation_options(
        {"temperature": 0.7, "top_p": 0.9, "until": ["a", "b"], "image_aspect_ratio": 1}
    )
    assert sampled == {"max_new_tokens": 1024, "num_beams": 1, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    assert until == ("a", "b")
    assert generation_options({"repetition_penalty": 1.1})[0]["repetition_penalty"] == 1.1


def test_only_the_first_images_are_shown() -> None:
    dialogue = question("Both?", RED, NOISE)
    assert [part["type"] for part in limit_images(dialogue, 1)[0]["content"]] == ["image", "text"]
    assert limit_images(dialogue, 2) == dialogue
    assert limit_images([{"role": "user", "content": "Why?"}], 1) == [{"role": "user", "content": "Why?"}]


def test_a_data_type_that_does_not_exist_is_refused(model_folder: Path) -> None:
    with pytest.raises(InputError, match="dtype is 'int8'. Allowed: 'bfloat16', 'float16', 'float32'"):
        BenchmarkModel.open(str(model_folder), dtype="int8")

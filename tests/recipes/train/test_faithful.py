"""Records read by the authors' rules, against a second writing of these rules: ids and labels of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgem_agent.core_model import MiniGeminiProcessor
from mgem_agent.recipes.train.encoding import RecordEncoder
from mgem_agent.recipes.train.faithful import faithful_prompt
from mgem_agent.recipes.train.records import BrokenRecordError

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. "
)
LLAMA_3 = (
    "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and vision assistant. You are able to "
    "understand the visual content that the user provides, and assist the user with a variety of tasks using natural "
    "language.<|eot_id|>"
)
OPENINGS = {
    "vicuna_v1": VICUNA,
    "llama_3": LLAMA_3,
    "gemma": "",
    "mistral_instruct": "",
    "chatml_direct": "<|im_start|>system\nAnswer the questions.<|im_end|>",
}
ROUNDS = {
    "vicuna_v1": ("USER: {} ASSISTANT:", " {}</s>"),
    "llama_3": (
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>system<|end_header_id|>\n\n",
        "{}<|eot_id|>",
    ),
    "gemma": ("<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n", "{}<end_of_turn>\n<eos>"),
    "mistral_instruct": ("[INST] {} [/INST]", " {} </s>"),
    "chatml_direct": ("<|im_start|>user\n{}<|im_end|><|im_start|>assistant\n", "{}<|im_end|>"),
}
FAMILIES = sorted(ROUNDS)
SHOWN = "\x01"


@pytest.fixture(scope="module")
def processor(model_folder: Path) -> MiniGeminiProcessor:
    return MiniGeminiProcessor.from_pretrained(model_folder)


def record(*values: str, image: Any = "red.png") -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[place % 2], "value": value} for place, value in enumerate(values)]
    return {"conversations": turns} | ({} if image is None else {"image": image})


def authors(processor: MiniGeminiProcessor, family: str, one: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Return the ids and the labels of a record: the rules of sections 3.1 and 3.2, written a second time."""
    texts = []
    for turn in one["conversations"]:
        text = turn["value"]
        if "image" in one and "<image>" in text:
            text = (SHOWN + "\n" + text.replace("<image>", "").strip()).strip()
        texts.append(text)
    pieces = [(OPENINGS[family], False)]
    for number, (question, answer) in enumerate(zip(texts[::2], texts[1::2], strict=True)):
        before = "<s>" if family == "mistral_instruct" and number else ""
        asked, answered = ROUNDS[family]
        pieces += [(before + asked.format(question), False), (answered.format(answer), True)]
    ids: list[int] = []
    labels: list[int] = []
    for text, is_learned in pieces:
        for place, part in enumerate(text.split(SHOWN)):
            if place:
                ids += [processor.image_token_id] * processor.num_image_tokens
                labels += [0] * processor.num_image_tokens
            own = processor.tokenizer(part, add_special_tokens=False)["input_ids"]
            ids += own
            labels += [int(is_learned)] * len(own)
    return ids, labels


RECORDS = {
    "one picture": record("<image>\nWhat is it?", "A cat."),
    "a mark behind the text": record("What is it?\n<image>", "A cat."),
    "two marks for one picture": record("<image> What <image> is it?", "A cat."),
    "a mark in a later round": record("Hi.", "Hello.", "<image>\nWhat is it?", "A cat."),
    "marks in both rounds": record("<image>\nWhat?", "A cat.", "<image>\nSure?", "Yes."),
    "a mark in an answer": record("<image>\nWhat?", "It is <image> a cat."),
    "a picture without a mark": record("What is it?", "A cat."),
    "text with a mark": record("What does <image> mean?", "A mark.", image=None),
    "whitespace at the ends": record("  Hi. \n", " Hello.  ", "More? ", "\nNo.\n", image=None),
    "whitespace beside a mark": record("<image>\n  What? \n", " A cat. "),
    "a request to draw": record("Draw a cat. <GEN>", "<h> a cat </h>", image=None),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_labels_are_the_authors(processor: MiniGeminiProcessor, data_file: Path, family: str) -> None:
    encoder = RecordEncoder(processor, family, "faithful")
    for name, one in RECORDS.items():
        encoded = encoder.encode(one, data_file.parent)
        assert (encoded.input_ids, encoded.is_target) == authors(processor, family, one), name
        shown = encoded.input_ids.count(processor.image_token_id)
        assert shown == len(encoded.pictures) * processor.num_image_tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_clean_records_are_the_same_when_repaired(processor: MiniGeminiProcessor, data_file: Path, family: str) -> None:
    for name in ("one picture", "a mark behind the text", "a mark in a later round", "a request to draw"):
        faithful, repaired = (
            RecordEncoder(processor, family, rules).encode(RECORDS[name], data_file.parent)
            for rules in ("faithful", "repaired")
        )
        assert faithful == repaired, name


def test_a_caption_is_plain(processor: MiniGeminiProcessor, data_file: Path) -> None:
    encoder = RecordEncoder(processor, "plain", "faithful")
    encoded = encoder.encode(record("Describe it.\n<image>", " A red card. "), data_file.parent)
    caption = processor.tokenizer(" A red card. \n", add_special_tokens=False)["input_ids"]
    visual = [processor.image_token_id] * processor.num_image_tokens
    assert encoded.input_ids == visual + caption
    assert encoded.is_target == [0] * len(visual) + [1] * len(caption)


@pytest.mark.parametrize(
    ("template", "one", "expected"),
    [
        ("plain", record("Describe it.", "A cat."), "a caption needs a picture and the mark"),
        ("plain", record("<image>", "A cat.", "?", "!"), "a caption has one question and one answer, got 4 turns"),
        ("vicuna_v1", record("Hi.", "Hello.</s>", image=None), "cannot find the answers in it, and masks it"),
        ("vicuna_v1", record("Hi.", "", image=None), "cannot find the answers in it, and masks it"),
        ("llama_3", record("Hi.", "Hello.", image=[]), "its 'image' names no picture"),
        ("gemma", {"conversations": [{"from": "system", "value": "Hm."}] * 2}, "turn 1 must be from 'human'"),
        ("gemma", record("Hi.", image=None), "it has no answer"),
    ],
)
def test_what_the_authors_code_cannot_use_is_broken(
    data_file: Path, template: str, one: dict[str, Any], expected: str
) -> None:
    with pytest.raises(BrokenRecordError, match=expected):
        faithful_prompt(one, data_file.parent, template)

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import read_records
from mgem_agent.recipes.data.teacher import read_sources, teach
from mgem_agent.recipes.data.teacher_prompts import RejectedAnswerError, TeacherSource, read_answer, teacher_prompt

SOURCES = [TeacherSource(f"s{number}", f"A photo of fox number {number}.") for number in range(4)]
GOOD = '{"query": "Draw a fox.", "caption": "a red fox, snow, soft light"}'
TALK = TeacherSource("t", rounds=(("Who is Rex?", "Rex is a brown dog."), ("What is 2 + 2?", "Four.")))


def teacher(*answers: str | Exception) -> GenericFakeChatModel:
    def said() -> Iterator[Any]:
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            usage = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
            yield AIMessage(answer, usage_metadata=usage)

    return GenericFakeChatModel(messages=said())


def test_the_prompt_shows_examples_and_the_description() -> None:
    prompt = teacher_prompt(SOURCES[0], "recaption")
    assert "A photo of fox number 0." in prompt and "at most 30 words" in prompt
    assert prompt.count("\n- ") == 8  # five captions, three queries
    assert prompt == teacher_prompt(SOURCES[0], "recaption") != teacher_prompt(SOURCES[0], "recaption", seed=1)
    talk = teacher_prompt(TALK, "in_context")
    assert "[2] User: What is 2 + 2?" in talk and "2 rounds." in talk


def test_answers_become_turns() -> None:
    assert read_answer(f"```json\n{GOOD}\n```", SOURCES[0], "recaption") == [
        {"from": "human", "value": "Draw a fox.", "draw": True},
        {"from": "gpt", "value": "<h> a red fox, snow, soft light </h>"},
    ]
    assert read_answer('{"captions": ["a brown dog, garden", ""]}', TALK, "in_context") == [
        {"from": "human", "value": "Who is Rex?", "draw": True},
        {"from": "gpt", "value": "Rex is a brown dog.\n<h> a brown dog, garden </h>"},
        {"from": "human", "value": "What is 2 + 2?"},
        {"from": "gpt", "value": "Four."},
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I would rather not.", "not JSON"),
        ("[1]", "not JSON"),
        ('{"query": "Draw.", "caption": " "}', "no caption"),
        ('{"caption": "a fox"}', "no query"),
        ('{"query": "Draw. <GEN>", "caption": "a fox"}', "markup in the query"),
        ('{"query": "Draw.", "caption": "' + "very " * 60 + '"}', "caption too long"),
    ],
)
def test_what_is_not_as_it_must_be_is_rejected(answer: str, reason: str) -> None:
    with pytest.raises(RejectedAnswerError) as caught:
        read_answer(answer, SOURCES[0], "recaption")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [('{"captions": ["a"]}', "not one caption a round"), ('{"captions": ["", ""]}', "no caption at all")],
)
def test_conversations_need_a_caption_a_round(answer: str, reason: str) -> None:
    with pytest.raises(RejectedAnswerError, match=reason):
        read_answer(answer, TALK, "in_context")


def test_a_run_counts_and_the_next_asks_only_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "taught.jsonl"
    first = teach(
        teacher(GOOD, "no", GOOD, RuntimeError("overloaded")), SOURCES, path, kind="recaption", max_concurrency=1
    )
    assert (first.num_kept, dict(first.rejected), first.num_failed) == (2, {"not JSON": 1}, 1)
    assert first.last_failure == "RuntimeError: overloaded"
    assert (first.num_input_tokens, first.num_output_tokens) == (300, 60)
    assert first.cost(input_price=10, output_price=30) == pytest.approx(0.0048)
    second = teach(teacher(GOOD), SOURCES, path, kind="recaption", max_concurrency=1)
    assert (second.num_kept, second.num_done_before, second.num_failed) == (1, 3, 0)
    assert len({record["id"] for record in read_records(path)}) == 3
    rejected = json.loads((tmp_path / "taught.jsonl.rejected.jsonl").read_text())
    assert rejected["reason"] == "not JSON" and rejected["answer"] == "no"


def test_sources_are_read(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("A fox.\n\nAn owl.\n")
    assert [source.description for source in read_sources(tmp_path / "captions.txt", "recaption")] == [
        "A fox.",
        "An owl.",
    ]
    record = {"id": "r", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    (tmp_path / "talk.jsonl").write_text(json.dumps(record))
    assert read_sources(tmp_path / "talk.jsonl", "in_context") == [TeacherSource("r", rounds=(("Hi", "Hello"),))]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="has no sources"):
        read_sources(tmp_path / "empty.txt", "recaption")
    with pytest.raises(InputError, match="cannot be read: .* Name a text file, one description a line"):
        read_sources(tmp_path / "none.txt", "recaption")
    with pytest.raises(InputError, match="max_concurrency is 0. Give 1 or more"):
        teach(teacher(), SOURCES, tmp_path / "x.jsonl", kind="recaption", max_concurrency=0)

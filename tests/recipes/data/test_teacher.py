from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from mgem_agent.errors import InputError
from mgem_agent.recipes.data import teacher_limits
from mgem_agent.recipes.data.record_files import read_records
from mgem_agent.recipes.data.teacher import read_sources, teach
from mgem_agent.recipes.data.teacher_limits import TeacherLimits
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


def fox(number: int) -> str:
    return json.dumps({"query": "Draw a fox.", "caption": f"fox number {number}, snow"})


ONE = TeacherLimits(max_concurrency=1, max_attempts=1)
PRICED = {"input_price": 10.0, "output_price": 30.0}  # an answer of the fake teacher costs 0.0016


def test_a_run_counts_and_the_next_asks_only_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "taught.jsonl"
    limits = TeacherLimits(max_concurrency=1, max_attempts=1, input_price=10, output_price=30)
    answers = (GOOD, "no", fox(1), RuntimeError("overloaded"))
    first = teach(teacher(*answers), SOURCES, path, kind="recaption", limits=limits)
    assert (first.num_kept, dict(first.rejected), first.num_failed) == (2, {"not JSON": 1}, 1)
    assert first.last_failure == "RuntimeError: overloaded"
    failed = tmp_path / "taught.jsonl.failed.jsonl"
    assert json.loads(failed.read_text()) == {"id": "s3", "error": "overloaded", "error_kind": "RuntimeError"}
    assert (first.num_input_tokens, first.num_output_tokens) == (300, 60)
    assert first.cost == pytest.approx(0.0048)
    second = teach(teacher(fox(2)), SOURCES, path, kind="recaption", limits=limits)
    assert (second.num_kept, second.num_done_before, second.num_failed) == (1, 3, 0)
    assert not failed.exists()
    assert (second.num_sources, second.num_records, second.yield_share) == (4, 3, 0.75)
    assert (second.cost, second.rejected) == (pytest.approx(0.0064), {"not JSON": 1})  # of both runs
    assert second.num_caption_words / second.num_captions == pytest.approx((6 + 4 + 4) / 3)
    assert len({record["id"] for record in read_records(path)}) == 3
    rejected = json.loads((tmp_path / "taught.jsonl.rejected.jsonl").read_text())
    assert rejected["reason"] == "not JSON" and rejected["answer"] == "no"
    written = json.loads((tmp_path / "taught.jsonl.report.json").read_text())
    assert (written["num_sources"], written["num_records"], written["num_input_tokens"]) == (4, 3, 400)
    (tmp_path / "taught.jsonl.report.json").write_text("{}")
    with pytest.raises(InputError, match="is not the report of an earlier run, .* Delete it to count from zero"):
        teach(teacher(), SOURCES, path, kind="recaption")


def test_what_says_the_same_is_asked_and_kept_once(tmp_path: Path) -> None:
    sources = [*SOURCES[:2], TeacherSource("again", "a photo of FOX number 0!"), SOURCES[2]]
    done = teach(teacher(GOOD, GOOD.replace("red fox,", "Red Fox"), fox(2)), sources, tmp_path / "a.jsonl",
                 kind="recaption", limits=ONE)  # fmt: skip
    assert (done.num_sources, done.num_repeated, done.num_records) == (4, 1, 2)
    assert done.rejected == {"captions of an earlier record": 1}
    more = teach(teacher(GOOD), SOURCES, tmp_path / "a.jsonl", kind="recaption", limits=ONE)
    assert (more.num_done_before, more.num_kept, more.rejected.total()) == (3, 0, 2)  # known from the file


def test_no_request_is_made_that_might_pass_the_cost(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    limits = TeacherLimits(max_concurrency=1, max_cost=0.03, **PRICED)  # a first request is guessed at 0.01
    asked = teacher(GOOD, fox(1), fox(2), fox(3))
    few = teach(asked, SOURCES, path, kind="recaption", limits=limits)
    assert few.num_kept == len(SOURCES) and few.stopped_by == ""
    limits = TeacherLimits(max_concurrency=4, max_cost=0.0064 + 0.025, **PRICED)
    more = [TeacherSource(f"m{number}", f"Owl {number}.") for number in range(20)]
    done = teach(teacher(*map(fox, range(10, 40))), [*SOURCES, *more], path, kind="recaption", limits=limits)
    assert 0 < done.num_kept < 20
    assert done.cost <= 0.0064 + 0.025
    assert done.stopped_by == "the next request might pass the maximum cost of 0.0314"


def test_a_failed_request_is_tried_again_and_many_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_limits, "_LONGEST_PAUSE_S", 0.002)

    class Flaky(GenericFakeChatModel):
        """Fails before each answer."""

        fails: list[bool] = []

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            self.fails.append(len(self.fails) % 2 == 0)
            if self.fails[-1]:
                raise ConnectionError("overloaded")
            return super()._generate(*args, **kwargs)

    model = Flaky(messages=iter(AIMessage(fox(number)) for number in range(4)), fails=[])
    done = teach(model, SOURCES, tmp_path / "a.jsonl", kind="recaption", limits=TeacherLimits(max_concurrency=1))
    assert (done.num_kept, done.num_failed, len(model.fails)) == (4, 0, 8), done.last_failure
    assert done.num_output_tokens == sum(len(fox(number)) // 4 for number in range(4))  # it does not count them
    limits = TeacherLimits(max_concurrency=1, max_attempts=2, max_failures=3)
    broken = teacher(*[RuntimeError("no key")])
    done = teach(broken, SOURCES, tmp_path / "b.jsonl", kind="recaption", limits=limits)
    assert (done.num_failed, done.stopped_by) == (3, "3 requests in a row failed")


def test_requests_keep_to_a_rate(tmp_path: Path) -> None:
    begin = time.monotonic()
    limits = TeacherLimits(max_concurrency=4, requests_per_minute=1200)
    done = teach(teacher(*map(fox, range(4))), SOURCES, tmp_path / "a.jsonl", kind="recaption", limits=limits)
    assert done.num_kept == 4
    assert time.monotonic() - begin > 0.14  # three gaps of 50 ms


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_concurrency": 0}, "max_concurrency is 0. Give 1 or more"),
        ({"max_attempts": 0}, "max_attempts is 0. Give 1 or more"),
        ({"requests_per_minute": 0}, "requests_per_minute is 0. Give more than 0, or None"),
        ({"max_cost": 5.0}, "A maximum cost needs a price"),
        ({"input_price": -1.0}, "A price is negative"),
    ],
)
def test_limits_that_make_no_sense_are_named(limits: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        TeacherLimits(**limits)


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
    described = {
        "id": "d",
        "conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "A <h>fox"}],
    }
    (tmp_path / "described.jsonl").write_text(f"{json.dumps(described)}\n{json.dumps(described)}\n")
    assert read_sources(tmp_path / "described.jsonl", "recaption") == [
        TeacherSource("d", "A fox"),
        TeacherSource("d#1", "A fox"),
    ]
    (tmp_path / "nothing.jsonl").write_text(json.dumps({"conversations": []}))
    with pytest.raises(InputError, match="Record 0 has no description as its first answer"):
        read_sources(tmp_path / "nothing.jsonl", "recaption")

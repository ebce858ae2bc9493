from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.answer_log import AnswerLog, state_of


def test_it_goes_on_after_the_last_whole_line(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with AnswerLog.open(file, {"model": "m"}) as log:
        log.add({"id": "a", "answer": "Füchse\u2028zwei"})
        log.add({"id": "b", "answer": "2"})
    with file.open("a", encoding="utf-8") as cut:
        cut.write('{"id": "c", "ans')
    with AnswerLog.open(file, {"model": "m"}) as log:
        assert {name: answer["answer"] for name, answer in log.answers.items()} == {"a": "Füchse\u2028zwei", "b": "2"}
        log.add({"id": "c", "answer": "3"})
    with AnswerLog.open(file, {"model": "m"}) as log:
        assert list(log.answers) == ["a", "b", "c"]


def test_answers_of_another_model_are_not_added_to(tmp_path: Path) -> None:
    with AnswerLog.open(tmp_path / "answers.jsonl", {"model": "m"}) as log:
        log.add({"id": "a"})
    with (
        pytest.raises(InputError, match="was made with other settings"),
        AnswerLog.open(tmp_path / "answers.jsonl", {"model": "n"}),
    ):
        pass


def test_weights_that_change_have_another_state(tmp_path: Path) -> None:
    assert state_of("nano") is None
    (tmp_path / "weights").write_bytes(b"1")
    before = state_of(tmp_path)
    assert before == state_of(tmp_path)
    (tmp_path / "weights").write_bytes(b"12")
    assert state_of(tmp_path) not in (None, before)

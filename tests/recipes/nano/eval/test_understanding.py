from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval import understanding
from mgem_agent.recipes.nano.eval.understanding import SceneQuestion, held_out_questions, measure_understanding
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene_questions import QUESTION_KINDS

RIGHT = [SceneQuestion(f"q{n}", n, kind, f"{kind}?", ("yes",)) for n, kind in enumerate(("yes_no", "read_small") * 3)]


class Says:
    """Says one thing, and breaks after some questions if asked to."""

    def __init__(self, *answers: str, break_after: int = 99) -> None:
        self.answers = answers
        self.break_after = break_after
        self.sizes: list[tuple[int, int]] = []

    def answer(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        if len(self.sizes) + len(pictures) > self.break_after:
            raise RuntimeError("the lights went out")
        self.sizes += [picture.size for picture in pictures]
        return [self.answers[len(question) % len(self.answers)] for question in questions]


def test_there_are_so_many_of_each_kind_and_fewer_are_their_beginning() -> None:
    questions = held_out_questions(2)
    assert Counter(question.kind for question in questions) == dict.fromkeys(QUESTION_KINDS, 2)
    assert len({question.id for question in questions}) == len(questions)
    assert not any("<image>" in question.text for question in questions)
    assert all(question.accepted and question.id.startswith("held_out-0-") for question in questions)
    assert held_out_questions(1) == questions[: len(QUESTION_KINDS)]
    with pytest.raises(InputError, match="0 questions of each kind cannot be asked"):
        held_out_questions(0)


def test_right_answers_are_counted_by_kind_and_an_interrupted_run_goes_on(
    tmp_path: Path, drawn_assets: EmojiAssets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(understanding, "held_out_questions", lambda num, seed: RIGHT)
    file, settings = tmp_path / "answers.jsonl", {"name": "m"}
    with pytest.raises(RuntimeError, match="the lights went out"):
        measure_understanding(Says("Yes", break_after=4), drawn_assets, file, settings, num=3, batch_size=2)
    assert len(file.read_text().splitlines()) == 4
    rest = Says("No")
    told: list[tuple[int, int]] = []
    shares, doubted = measure_understanding(
        rest, drawn_assets, file, settings, num=3, batch_size=2, report=lambda *numbers: told.append(numbers)
    )
    assert rest.sizes == [(256, 256)] * 2
    assert {kind: (share.num_right, share.num) for kind, share in shares.items() if share.num} == {
        "read_small": (2, 3),
        "yes_no": (2, 3),
    }
    assert told == [(4, 6), (6, 6)]
    assert (doubted.num_right, doubted.num) == (0, 6)
    with pytest.raises(InputError, match="was made with other settings"):
        measure_understanding(rest, drawn_assets, file, {"name": "n"}, num=3)


def test_doubts_are_right_about_patterns_and_wrong_about_scenes(
    tmp_path: Path, drawn_assets: EmojiAssets, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [question for question in held_out_questions(1) if question.kind in ("unclear", "count")]
    assert [question.series for question in asked] == ["any", "unclear"]
    monkeypatch.setattr(understanding, "held_out_questions", lambda num, seed: asked)
    kinds, doubted = measure_understanding(
        Says("I cannot tell what this shows."), drawn_assets, tmp_path / "answers.jsonl", {"name": "m"}, num=1
    )
    assert (kinds["unclear"].value, kinds["count"].value, doubted.value, doubted.num) == (1.0, 0.0, 1.0, 1)

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.drawings.pair_judge import ASPECTS, PairJudgement, PairResult, judge_pair
from mgem_agent.testing import ScriptedReasoner


def scores(a: tuple[object, object], b: tuple[object, object]) -> str:
    rows = {"A": a, "B": b}
    return json.dumps({name: dict(zip(ASPECTS, row, strict=True)) for name, row in rows.items()})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    found = tmp_path / "a.png", tmp_path / "b.png"
    for file, colour in zip(found, ("red", "blue"), strict=True):
        Image.new("RGB", (8, 8), colour).save(file)
    return found


def test_both_orders_are_averaged(files: tuple[Path, Path]) -> None:
    # A judge that gives the picture on the left two points more, and the second system one point more.
    judge = ScriptedReasoner(script=[scores((7, 7), (6, 6)), "Sure: " + scores((8, "8"), (5, "5/10"))])
    found = judge_pair(judge, "a fox", *files)
    assert found == PairJudgement(first={"quality": 6, "instruction": 6}, second={"quality": 7, "instruction": 7})
    first, second = (request.dialogue[-1]["content"] for request in judge.requests)
    shown = [[part["image"] for part in content if part["type"] == "image"] for content in (first, second)]
    assert shown[0] == shown[1][::-1] and shown[0] != shown[1]


@pytest.mark.parametrize(
    "answer", ["I like both.", scores((11, 5), (5, 5)), scores(("good", 5), (5, 5)), '{"A": 7, "B": 6}']
)
def test_other_answers_give_no_scores(answer: str, files: tuple[Path, Path]) -> None:
    assert judge_pair(ScriptedReasoner(script=[answer, scores((5, 5), (5, 5))]), "a fox", *files) is None


def test_results_have_wins_and_paired_differences() -> None:
    one = PairJudgement(first={"quality": 8, "instruction": 6}, second={"quality": 7, "instruction": 6})
    tie = PairJudgement(first=one.first, second=one.first)
    found = PairResult.of([one, tie, None])
    assert (found.wins, found.num_unread) == ((1, 1, 0), 1)
    assert found.difference["quality"].mean == 0.5 and found.first["instruction"].mean == 6
    with pytest.raises(InputError, match="at least one measurement"):
        PairResult.of([None])

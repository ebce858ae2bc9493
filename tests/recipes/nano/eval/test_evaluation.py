"""The whole of it: a tiny model that sees and talks, coloured cards, and a CLIP of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval import concept_namer, drawing_protocol, evaluation, seeing_model, understanding
from mgem_agent.recipes.nano.eval.evaluation import EvalPlan, evaluate
from mgem_agent.recipes.nano.eval.report import EvalReport
from mgem_agent.recipes.nano.world.emoji import EmojiAssets


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeing_model, "_MAX_NEW_TOKENS", 2)
    monkeypatch.setattr(drawing_protocol, "_MAX_TOKENS", 2)
    monkeypatch.setattr(concept_namer, "SCENERY", concept_namer.SCENERY[:1])
    few = understanding.held_out_questions(1)[:3]
    monkeypatch.setattr(understanding, "held_out_questions", lambda num, seed: few)


def test_all_parts_end_in_one_report(
    tmp_path: Path, model_folder: Path, clip_folder: Path, drawn_assets: EmojiAssets
) -> None:
    plan: dict[str, Any] = {
        "model": str(model_folder),
        "without_hr": str(model_folder),
        "generator": "flat",
        "clip": clip_folder,
        "num": 1,
    }
    told: list[str] = []
    made = evaluate(EvalPlan(tmp_path, **plan), lambda: drawn_assets, lambda what, done, total: told.append(what))
    assert [each.without_hr for each in made.understanding] == [False, True]
    assert sum(share.num for share in made.understanding[0].kinds.values()) == 3
    assert made.drawing is not None and made.drawing.told.num == 1
    assert made.pictures is not None and made.pictures.generated and made.pictures.num_failed == 0
    assert made.pictures.generated.keys() == made.pictures.real.keys()
    assert made.pictures.seen.keys() == made.pictures.seen_real.keys() == made.pictures.real.keys()
    assert made.pictures.seen_by == str(model_folder)
    assert EvalReport.read(tmp_path / "report.json") == made
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".json"} == {
        "answers.jsonl", "answers_without_hr.jsonl", "contact_sheet.png", "drawing.jsonl", "pictures",
    }  # fmt: skip
    assert made.pictures.variety is not None and made.pictures.variety.placed.num == 48
    assert len(set(told)) == 7

    answers = (tmp_path / "answers.jsonl").read_text()
    again = evaluate(EvalPlan(tmp_path, ("drawing",), **plan), lambda: drawn_assets)
    assert (again, (tmp_path / "answers.jsonl").read_text()) == (made, answers)
    assert json.loads(answers.splitlines()[0])["kind"] == "what"


def test_names_that_nothing_can_be_made_of_are_said(tmp_path: Path, drawn_assets: EmojiAssets) -> None:
    with pytest.raises(InputError, match="There is no reasoner 'x', and no such folder"):
        evaluate(EvalPlan(tmp_path, ("drawing",), model="x"), lambda: drawn_assets)
    with pytest.raises(InputError, match="No CLIP model can be read from"):
        evaluate(EvalPlan(tmp_path, ("pictures",), clip=tmp_path / "none"), lambda: drawn_assets)


def test_other_weights_are_other_settings(tmp_path: Path) -> None:
    assert (
        evaluation.answer_settings(str(tmp_path))
        != evaluation.answer_settings("flat")
        == {"name": "flat", "weights": None}
    )
    assert evaluation.answer_settings(f"diffusers:{tmp_path}")["weights"] is not None

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from rich.console import Console

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.measure import describe_machine
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.agent.report import AgentReport
from mgem_agent.recipes.eval.agent.run import ScoredTurn, conditions, make_agent, run_turns, score_turns
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

PROMPTS = [
    EvalPrompt(
        prompt=f"{n} cats", atom_count=2, vqa_list=(("How many?", n), ("Any?", "Yes")), skills=("count", "object")
    )
    for n in ("two", "three")
]
NO = '{"answers": ["no", "no"], "problem": "no cats"}'


class Judge:
    """Finds every first question half right and every second right."""

    kind: Literal["soft", "hard", "vqascore"] = "soft"

    def __init__(self) -> None:
        self.seen: list[Path] = []

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        self.seen.append(picture)
        return [0.25, 1.0]


def agents(folder: Path, script: list[str], names: tuple[str, ...], generator: Any = None) -> dict[str, Any]:
    reasoner = ScriptedReasoner(script=script)
    tool, store = generator or FlatColourGenerator(), ArtifactStore(folder / "pictures")
    return {each.name: make_agent(reasoner, tool, store, each, 0) for each in conditions(2, names)}


def test_turns_are_stored_and_scored_once(tmp_path: Path) -> None:
    script = ["<h> two cats </h>", "<h> three cats </h>"]
    run_turns(PROMPTS, agents(tmp_path, script, ("no look",)), tmp_path, {})
    run_turns(PROMPTS, agents(tmp_path, [], ("no look",)), tmp_path, {})  # nothing is asked again
    judge = Judge()
    for _ in range(2):
        score_turns(PROMPTS, ["no look"], judge, tmp_path, judge_name="a:b", settings={})
    found = score_turns(PROMPTS, ["no look"], judge, tmp_path, judge_name="a:b", settings={})
    assert [turn.scores for turn in found["no look"]] == [(0.25, 1.0)] * 2
    assert [turn.drawings for turn in found["no look"]] == [1, 1] and len(judge.seen) == 2
    assert (tmp_path / "scores-a_b.jsonl").is_file()
    with pytest.raises(InputError, match="made with other settings"):
        run_turns(PROMPTS, agents(tmp_path, [], ("no look",)), tmp_path, {"seed": 1})


def test_redraws_are_counted(tmp_path: Path) -> None:
    script = ["<h> two cats </h>", NO, NO]
    run_turns(PROMPTS[:1], agents(tmp_path, script, ("retry",)), tmp_path, {})
    (turn,) = score_turns(PROMPTS[:1], ["retry"], Judge(), tmp_path, judge_name="j", settings={})["retry"]
    assert turn.drawings == 2 and turn.seconds > 0


def test_a_prompt_without_a_picture_scores_zero(tmp_path: Path) -> None:
    broken = FlatColourGenerator(fail_on="cats")
    run_turns(PROMPTS[:1], agents(tmp_path, ["<h> two cats </h>"], ("no look",), broken), tmp_path, {})
    (turn,) = score_turns(PROMPTS[:1], ["no look"], Judge(), tmp_path, judge_name="j", settings={})["no look"]
    assert turn.scores == (0.0, 0.0) and not turn.has_picture


def test_a_missing_turn_or_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no turn 'retry/two cats' yet"):
        score_turns(PROMPTS[:1], ["retry"], Judge(), tmp_path, judge_name="j", settings={})


def test_conditions() -> None:
    assert [each.name for each in conditions(3, ("retry", "no look"))] == ["no look", "retry"]
    with pytest.raises(InputError, match="leave none for a second attempt"):
        conditions(1)
    with pytest.raises(InputError, match=r"no condition 'luck'. Allowed: 'no look', 'retry', 'revise', 'best of n'"):
        conditions(2, ("luck",))


def test_the_report_has_scores_gains_seconds_and_price() -> None:
    plain = ScoredTurn((0.25, 1.0), 1, 2.0, 0.01, 0, True)
    turns = {"no look": [plain] * 2, "retry": [dataclasses.replace(plain, scores=(1.0, 1.0), drawings=2)] * 2}
    facts: dict[str, Any] = {"file": Path("p.jsonl"), "reasoner": "r", "generator": "g", "judge": "r"}
    report = AgentReport.of(PROMPTS, turns, **facts, scoring="soft", machine=describe_machine(torch.device("cpu")))
    first, second = report.conditions.values()
    assert (first.am.mean, first.gm and first.gm.mean, first.gain) == (62.5, 50.0, None)
    assert second.gain and (second.gain.mean, second.gain.low) == (50.0, 50.0)
    assert (second.drawings, second.usd, first.skills, first.atom_counts) == (
        2,
        0.01,
        {"count": 25, "object": 100},
        {2: 50},
    )
    console = Console(width=160)
    with console.capture() as capture:
        console.print(report.render())
    assert "+50.0 (+50.0 to +50.0)" in capture.get() and "favours looking" in capture.get()
    unpriced = [dataclasses.replace(plain, usd=0.0, unpriced=1, scores=(0.5,))] * 2
    whole = AgentReport.of(PROMPTS, {"a": unpriced}, **facts, scoring="vqascore", machine=report.machine)
    assert whole.conditions["a"].gm is None and whole.conditions["a"].usd is None

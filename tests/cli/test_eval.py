"""`mgem eval`: what is measured goes on to the recipes, and what comes back is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.recipes.bench.measure import describe_machine
from mgem_agent.recipes.eval.proportion import Proportion
from mgem_agent.recipes.nano.eval import evaluation
from mgem_agent.recipes.nano.eval.evaluation import EvalPlan
from mgem_agent.recipes.nano.eval.generated_pictures import GeneratedPictures
from mgem_agent.recipes.nano.eval.report import EvalReport
from mgem_agent.recipes.nano.eval.understanding import Understanding
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.testing import ScriptedReasoner

REPORT = EvalReport(
    seed=3,
    machine=describe_machine(torch.device("cpu")),
    understanding=(Understanding(model="nano", kinds={"what": Proportion(num=4, num_right=3)}),),
    pictures=GeneratedPictures(generator="nano", num_pictures=2, num_failed=0),
)


def run(*args: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["eval", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[EvalPlan]:
    """The plans that were carried out."""
    made: list[EvalPlan] = []

    def evaluate(plan: EvalPlan, open_assets: Callable[[], EmojiAssets], report: Callable[..., None]) -> EvalReport:
        made.append(plan)
        report("Questions", 1, 2)
        return REPORT

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    return made


def test_what_is_asked_for_is_measured(plans: list[EvalPlan]) -> None:
    assert "75 % (30–95)" in run("nano").stdout
    run(
        "nano",
        "--drawing",
        "--pictures",
        "-n",
        7,
        "-m",
        "m",
        "--without-hr",
        "l",
        "-g",
        "flat",
        "--clip",
        "c",
        "-o",
        "o",
    )
    run("nano", "--understanding", "--all", "--threads", 1)
    assert plans == [
        EvalPlan(Path("eval-nano")),
        EvalPlan(Path("o"), ("drawing", "pictures"), "m", "l", "flat", Path("c"), 7),
        EvalPlan(Path("eval-nano")),
    ]


def test_json_is_one_object(plans: list[EvalPlan]) -> None:
    printed = json.loads(run("nano", "--json").stdout)
    assert printed["understanding"][0]["kinds"]["what"]["value"] == 0.75
    assert EvalReport.model_validate(printed) == REPORT


def test_a_card_is_printed_or_written(tmp_path: Path) -> None:
    REPORT.write(tmp_path / "report.json")
    card = run("card", tmp_path, "--model", "diffusion", "--hardware", "two cores").stdout
    assert card.startswith("# nano, the image generator\n") and "Hardware: two cores." in card
    out = tmp_path / "README.md"
    run("card", tmp_path / "report.json", "--model", "diffusion", "--hardware", "two cores", "-o", out)
    assert out.read_text() == card


def test_errors_are_one_line_and_usage_ends_with_2(tmp_path: Path) -> None:
    REPORT.write(tmp_path / "report.json")
    assert "The report lacks drawing. Measure it first" in run("card", tmp_path, code=1).stderr
    assert "cannot be read" in run("card", tmp_path / "none", code=1).stderr
    run("nano", "--num", 0, code=2)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_stories_are_told_with_and_without_grammars(options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    line = "1. Home: The fox sat in the forest."
    writer = ScriptedReasoner(script=[line], is_endless=True, takes_grammars=True)
    monkeypatch.setattr("mgem_agent.reasoners.make_reasoner", lambda name: writer)
    said = run("stories", "-n", 1, "--scenes", 2, "-g", "flat", *options).output
    if options:
        found = json.loads(said)
        assert list(found) == ["with grammars", "without"]
        assert found["without"]["hero_in_text"] | {"value": 1.0, "num": 2} == found["without"]["hero_in_text"]
    else:
        assert "pages that name the hero" in said and "100%" in said
    assert {bool(request.grammar) for request in writer.requests} == {True, False}


def test_stories_that_were_told_are_not_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ScriptedReasoner(script=["1. Home: The fox sat in the forest."], is_endless=True, takes_grammars=True)
    monkeypatch.setattr("mgem_agent.reasoners.make_reasoner", lambda name: writer)
    first = run("stories", "-n", 1, "--scenes", 2, "-g", "flat", "-o", tmp_path, "--json").stdout
    num = len(writer.requests)
    assert run("stories", "-n", 1, "--scenes", 2, "-g", "flat", "-o", tmp_path, "--json").stdout == first
    assert len(writer.requests) == num
    run("stories", "-n", 2, "--scenes", 2, "-g", "flat", "-o", tmp_path, "--json")
    assert len(writer.requests) > num

"""`mgem eval agent`: prompts are drawn under each condition, judged and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.recipes.eval.agent import figure_judge
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.testing import ScriptedReasoner


class Judge:
    """Gives each question half a point."""

    kind = "soft"

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        return [0.5] * len(prompt.vqa_list)


def run(*args: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["eval", "agent", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reasoner that draws what is asked for and finds every picture right, and a judge."""
    script = ["<h> a picture </h>", '{"answers": ["yes"]}']
    monkeypatch.setattr(
        "mgem_agent.reasoners.make_reasoner", lambda name: ScriptedReasoner(script=script[:1], is_endless=True)
    )
    monkeypatch.setattr(figure_judge, "make_figure_judge", lambda name, python: Judge())


def test_a_report_is_printed_and_kept(tmp_path: Path) -> None:
    asked = ("--judge", "other", "-n", 2, "-g", "flat", "--condition", "no look", "-o", tmp_path)
    report = json.loads(run(*asked, "--json").stdout)
    assert report["num_prompts"] == 2 and report["conditions"]["no look"]["am"]["mean"] == 50
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert "Soft-TIFA AM" in run(*asked).stdout


def test_the_judge_in_the_loop_is_refused(tmp_path: Path) -> None:
    assert "add --same-judge" in run("--judge", "nano", "-o", tmp_path, code=1).stderr

"""`mgem eval drawings`: prompts are drawn once, and compared with another system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.testing import ScriptedReasoner

SAME = '{"A": {"quality": 6, "instruction": 4}, "B": {"quality": 6, "instruction": 4}}'


def run(*args: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["eval", "drawings", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


def test_two_systems_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a fox\na bear\na hen\n")
    run(prompts, "-g", "flat", "-n", 2, "-o", tmp_path / "a", "--seed", 1)
    judge = ScriptedReasoner(script=[SAME] * 4)
    monkeypatch.setattr("mgem_agent.reasoners.make_reasoner", lambda name, **options: judge)
    asked = (
        prompts,
        "-g",
        "flat",
        "-n",
        2,
        "-o",
        tmp_path / "b",
        "--judge",
        "j",
        "--against",
        tmp_path / "a" / "pictures",
    )
    report = json.loads(run(*asked, "--json").stdout)
    assert report["comparison"]["wins"] == [0, 2, 0] and report["num_failed"] == 0
    assert "6.00 against 6.00" in run(*asked).stdout  # stored judgements are not asked again
    assert len(judge.requests) == 4


def test_a_comparison_needs_two_systems(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a fox\n")
    assert "needs both --judge NAME and --against FOLDER" in run(tmp_path / "p.txt", "--judge", "j", code=1).stderr

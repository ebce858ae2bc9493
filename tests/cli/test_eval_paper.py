"""`mgem eval paper`: what is asked for is run, and the paper's tables are printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.recipes.eval.paper import environment, run
from mgem_agent.recipes.eval.paper.environment import LmmsEval
from mgem_agent.recipes.eval.paper.run import PaperRun


def invoke(*args: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["eval", "paper", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PaperRun, list[str]]]:
    """The runs that were started; each leaves a result of POPE."""
    made: list[tuple[PaperRun, list[str]]] = []

    def run_benchmarks(settings: PaperRun, benchmarks: Any, *_: Any) -> list[str]:
        made.append((settings, [each.name for each in benchmarks]))
        folder = settings.out / "results" / "pope"
        folder.mkdir(parents=True)
        told = {"results": {"pope": {"pope_f1_score,none": 0.5}}, "config": {"limit": settings.limit}}
        (folder / "1_results.json").write_text(json.dumps(told))
        return ["MMB needs a judge"]

    monkeypatch.setattr(run, "run_benchmarks", run_benchmarks)
    monkeypatch.setattr(environment, "find_lmms_eval", lambda place: LmmsEval(Path("python"), "0.7.3", Path("tasks")))
    return made


def test_a_model_is_run_and_its_results_are_kept(runs: list[Any], tmp_path: Path) -> None:
    asked = ("-m", "YanweiLi/MGM-7B", "--benchmark", "POPE", "-n", 4, "--batch", 2, "-o", tmp_path)
    told = invoke(*asked)
    assert "50.0" in told.stdout and "MMB needs a judge" in told.stderr
    settings, names = runs[0]
    assert (settings.model, settings.limit, settings.batch_size, names) == ("YanweiLi/MGM-7B", 4, 2, ["POPE"])
    assert settings.out == tmp_path / "YanweiLi_MGM-7B"
    printed = json.loads(invoke(*asked, "--json").stdout)
    assert printed["measured"] == {"YanweiLi/MGM-7B": {"POPE": "50.0"}}
    assert printed["published"]["YanweiLi/MGM-7B"]["TextVQA"] == "65.2"
    assert len(runs) == 1


def test_ablations_are_listed_and_run(runs: list[Any], tmp_path: Path) -> None:
    assert "token-extension" in invoke("--list-ablations").stdout
    rows = tmp_path / "rows.yaml"
    rows.write_text("data-ocr: nano\n")
    assert "+ OCR-related" in invoke("--ablations", rows, "-o", tmp_path / "out", code=1).stdout  # TextVQA is missing
    assert runs[0][1] == ["TextVQA", "MME", "MM-Vet"]


def test_a_model_is_needed() -> None:
    assert "Name a model: mgem eval paper --model" in invoke(code=1).stderr


def test_without_an_environment_the_commands_are_printed(tmp_path: Path) -> None:
    told = invoke("-m", "nano", "--environment", tmp_path / "none", "-o", tmp_path, code=1).stderr
    assert "lmms-eval==0.7.3" in told and "'filelock<4'" in told  # for a shell

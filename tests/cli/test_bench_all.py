"""`mgem bench all`: each benchmark, a report, and what cannot run is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mgem_agent.cli import bench, bench_all
from mgem_agent.cli.app import app
from mgem_agent.errors import ToolError
from mgem_agent.recipes.bench.mining import bench_mining

ALL = dict(bench_all.BENCHMARKS)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["bench", "all", "--threads", "1", *arguments])
    return result.exit_code, result.stdout, result.stderr


def missing() -> None:
    raise ToolError("Install it.")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"mining": lambda: bench_mining(small=True, repeats=1), "serve": missing}
    monkeypatch.setattr(bench_all, "BENCHMARKS", found)


def test_results_are_printed_and_reported(tmp_path: Path) -> None:
    status, printed, said = run("--report", str(tmp_path / "out.html"))
    assert status == 0 and "TextbookPatchInfoMining" in printed
    assert "mining: time of" in said and "serve: not measured. Install it." in said
    html = (tmp_path / "out.html").read_text()
    assert "<svg" in html and "Install it." in html


def test_json_is_one_object_by_name() -> None:
    status, printed, _ = run("--json", "--only", "mining")
    assert status == 0
    found = json.loads(printed)
    assert found.keys() == {"mining"} and found["mining"]["ratio"] > 0


def test_what_does_not_exist_or_cannot_run_is_an_error() -> None:
    status, _, said = run("--only", "baking")
    assert status == 1 and "There is no benchmark 'baking'. Allowed: mining, serve." in said
    status, _, said = run("--only", "serve")
    assert status == 1 and "No benchmark could be run. The first: Install it." in said


def test_every_benchmark_is_in_all() -> None:
    assert {command.name for command in bench.app.registered_commands} == {
        "all",
        "vllm",
        *ALL,
    }  # vLLM needs its own environment

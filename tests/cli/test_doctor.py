"""`mgem doctor`: findings as lines or as JSON, and an exit status that a script can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.doctor.finding import Finding
from mgem_agent.settings import Settings

FINE = Finding("python", "ok", "3.11 [fine]")
MISSING = Finding("extras", "note", "ocr is missing", "pip install 'mgem-agent[ocr]'")
BROKEN = Finding("model", "problem", "There is no reasoner 'x'.", "mgem config set model NAME")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    findings: list[Finding] = [FINE, MISSING]

    def diagnose(settings: Settings) -> Iterator[Finding]:
        yield from findings
        if settings.model == "x":
            yield BROKEN

    monkeypatch.setattr("mgem_agent.doctor.doctor.diagnose", diagnose)
    return findings


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["doctor", *arguments])


@pytest.mark.usefixtures("found")
def test_what_is_settled_can_run() -> None:
    result = run()
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "✓ python     3.11 [fine]",
        "· extras     ocr is missing",
        "             pip install 'mgem-agent[ocr]'",
        "✓ terminal   pictures are shown as: path",
        "",
        "Your configuration works.",
    ]


@pytest.mark.usefixtures("found")
def test_what_is_settled_cannot_run() -> None:
    result = run("--model", "x")
    assert result.exit_code == 1
    assert "✗ model      There is no reasoner 'x'.\n             mgem config set model NAME\n" in result.output
    assert result.output.endswith("\n1 problem(s): your configuration does not work yet.\n")


@pytest.mark.usefixtures("found")
def test_json() -> None:
    result = run("-m", "x", "--json")
    assert result.exit_code == 1
    data = json.loads(result.output)
    assert data["able"] is False
    assert [each["status"] for each in data["findings"]] == ["ok", "note", "problem", "ok"]
    assert data["findings"][1]["fix"] == "pip install 'mgem-agent[ocr]'"
    assert json.loads(run("--json").output)["able"] is True


def test_the_whole_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path))
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path))
    result = run("--model", "no such thing", "--generator", "flat", "--json")
    assert result.exit_code == 1
    data = json.loads(result.output)
    by_topic = {each["topic"]: each["status"] for each in data["findings"]}
    assert {"python", "packages", "processor", "pictures", "hub", "nano", "terminal"} <= by_topic.keys()
    assert (by_topic["model"], by_topic["generator"], by_topic["packages"]) == ("problem", "ok", "ok")
    assert list(tmp_path.iterdir()) == []

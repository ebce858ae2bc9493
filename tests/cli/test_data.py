from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app


def run(*args: object) -> str:
    result = CliRunner().invoke(app, ["data", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_generation_and_card(tmp_path: Path) -> None:
    assert run("generation", tmp_path, "-n", 3).strip() == str(tmp_path / "generation_train.jsonl")
    assert len((tmp_path / "generation_train.jsonl").read_text().splitlines()) == 3
    assert run("card", tmp_path).strip() == str(tmp_path / "README.md")
    assert "3 records" in (tmp_path / "README.md").read_text()


def test_scenes_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path))
    result = CliRunner().invoke(app, ["data", "scenes", str(tmp_path / "out"), "--offline"])
    assert result.exit_code == 1
    assert "The emoji set is not here" in result.stderr
    assert not (tmp_path / "out").exists()


def test_stories_are_asked_for_in_the_words_of_the_workflow(tmp_path: Path) -> None:
    path = Path(run("stories", tmp_path, "-n", 20).strip())
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(records) == 20
    outlines = [record for record in records if record["kind"] == "outline"]
    assert all("Plan a story in exactly" in record["conversations"][0]["value"] for record in outlines)
    assert outlines


def test_teach_needs_sources(tmp_path: Path) -> None:
    args = ["data", "teach", str(tmp_path / "none.txt"), str(tmp_path / "out.jsonl"), "-m", "openai:gpt-4.1"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 1
    assert "Name a text file, one description a line" in result.stderr


def test_teach_reports_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    from mgem_agent import reasoners

    answer = json.dumps({"query": "Draw a fox.", "caption": "a fox"})
    model = GenericFakeChatModel(messages=iter([AIMessage(answer), AIMessage("no")]))
    monkeypatch.setattr(reasoners, "make_reasoner", lambda name, tool_calling: model)
    (tmp_path / "in.txt").write_text("A fox.\nAn owl.\n")
    out = run("teach", tmp_path / "in.txt", tmp_path / "out.jsonl", "-m", "openai:x", "--concurrency", 1)
    assert out.splitlines()[1:] == [
        "kept 1, done before 0, failed 0",
        "rejected 1: not JSON",
        "tokens: 0 read, 0 written",
    ]

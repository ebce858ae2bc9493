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
    assert out.splitlines()[1:4] == [
        "2 sources in, 1 records out (50.0%); this run kept 1, 0 were done before",
        "rejected 1: not JSON",
        "1 captions of 2.0 words on average",
    ]
    assert out.splitlines()[4].startswith("tokens of all runs: ")
    capped = ["data", "teach", str(tmp_path / "in.txt"), str(tmp_path / "out.jsonl"), "-m", "openai:x"]
    result = CliRunner().invoke(app, [*capped, "--max-cost", "5"])
    assert result.exit_code == 1
    assert "A maximum cost needs a price" in result.stderr


def test_the_plan_of_a_mix_names_everything(tmp_path: Path) -> None:
    out = run("get", "pretrain", "--root", tmp_path, "--only", "llava_pretrain", "--dry-run").splitlines()
    assert out[0].startswith("llava_pretrain: LLaVA-filtered CC3M")
    assert out[2] == (
        "to fetch: downloads/llava_pretrain/images.zip from hub: liuhaotian/LLaVA-Pretrain/images.zip (27.4 GB)"
    )
    assert out[-2].startswith("To fetch: 27.6 GB; free: ")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_fetched_ends_in_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "get", "instruct", "--root", str(tmp_path), "--only", "dvqa"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["source", "paper", "found", "got", "missing", "broken"]
    assert lines[1].split()[:6] == ["dvqa", "10,000", "0", "0", "0", "0"]
    assert lines[2].startswith("by hand: dvqa/qa: Download the question-answer pairs")
    assert lines[-1] == str(tmp_path / "instruct_report.json")
    offline = CliRunner().invoke(app, ["data", "get", "instruct", "--root", str(tmp_path), "--only", "ai2d"])
    assert offline.exit_code == 1
    assert "forbids downloads" in offline.stdout


def test_sources_are_listed() -> None:
    assert any(line.startswith("docvqa ") and "instruct 10,000" in line for line in run("sources").splitlines())
    assert "licence: Apache-2.0" in run("sources", "oasst2")
    assert CliRunner().invoke(app, ["data", "sources", "none"]).exit_code == 1


def test_records_are_packed_and_indexed(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]
    file = tmp_path / "in.jsonl"
    records = [{"conversations": turns}, {"conversations": turns, "image": "gone.png"}]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    out = tmp_path / "packed"
    assert run("pack", file, out, "--processes", 1).splitlines() == [
        str(out),
        "1 records, 0 pictures, 1 shard(s), 0.00 GB",
        "left out 1: missing picture; see dropped.jsonl of the folder",
    ]
    assert run("index", out) == "1 records, 0 pictures, 1 file(s)\n"
    assert run("index", file) == "2 records, 1 pictures, 1 file(s)\n"
    assert (tmp_path / "in.jsonl.index.parquet").is_file()
